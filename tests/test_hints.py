"""Hints settle what they speak of: names, and the order of the parts of a whole."""

from __future__ import annotations

import pytest
from aligning import aligned, certain_pairs

from treealign import TreealignError
from treealign.mapping.operations import Concat, Deinterleave, Keep, Parallel, RotaryPermute, Split

FUSED = {f"layers.{i}.attn.fused.weight": (12, 4) for i in range(2)} | {"head.weight": (2, 4)}
APART = {f"layers.{i}.attn.{n}_proj.weight": (4, 4) for i in range(2) for n in "qkv"} | {"head.weight": (2, 4)}


def conversions(found):
    return [m for m in found.matches if m.operations]


def test_a_hint_gives_the_order_of_the_parts_of_a_whole():
    found = aligned(FUSED, APART, hints=["fused=v_proj,q_proj,k_proj"])
    assert {q.about for q in found.questions} == {"rows"}  # the order of the parts says nothing of the rows
    for i, match in enumerate(conversions(found)):
        tensors = dict(zip(match.model, "kqv", strict=True))
        assert tensors == {f"layers.{i}.attn.{n}_proj.weight": n for n in "kqv"}
        assert match.operations[0] == Split(0, (4, 4, 4))
    steps = found.mapping.plan(list(FUSED), found.mapping.decide(list(FUSED)), set(APART))
    split = next(s for s in steps if s.operations)
    assert split.targets == tuple(f"layers.0.attn.{n}_proj.weight" for n in "vqk")


def test_it_does_so_in_the_other_direction():
    found = aligned(APART, FUSED, hints={"k_proj,q_proj,v_proj": "fused"})
    match = conversions(found)[0]
    assert match.checkpoint == tuple(f"layers.0.attn.{n}_proj.weight" for n in "kqv")
    assert match.operations == (Concat(0, (4, 4, 4)),)
    assert {q.about for q in found.questions} == {"rows"}


def test_without_it_the_order_is_a_question_with_such_a_hint():
    old = {key.replace("fused", "c_attn"): shape for key, shape in FUSED.items()}
    order, rows = aligned(old, APART).questions
    assert (order.about, rows.about) == ("order", "rows")
    assert [o.hint.count(",") for o in order.options] == [2] * 6
    hints = ["c_attn=q_proj,k_proj,v_proj", "c_attn: rows by part"]
    assert aligned(old, APART, hints=hints).ok


def test_a_hint_that_leaves_a_part_out_settles_no_order():
    found = aligned(FUSED, APART, hints=["fused=q_proj,k_proj"])
    assert [m.certain for m in conversions(found)] == [False, False]


def test_a_hint_settles_what_names_have_put_in_doubt():
    names = ("q_proj", "k_proj")
    old = {f"attn.{n}.weight": (4, 4) for n in (*names, "v_proj")}
    new = {f"attn.{n}.weight": (4, 4) for n in (*names, "o_proj")}
    assert certain_pairs(aligned(old, new, hints=["v_proj=o_proj"]))["attn.v_proj.weight"] == "attn.o_proj.weight"


def test_a_hint_settles_a_reshape_that_names_alone_leave_open():
    old, new = {"patch_embed.proj.weight": (8, 3, 2, 2)}, {"patch_embed.linear_proj.weight": (8, 12)}
    rest = {"head.weight": (2, 8)}
    assert not aligned(old | rest, new | rest).ok
    assert aligned(old | rest, new | rest, hints=["proj=linear_proj"]).ok


@pytest.mark.parametrize("hint", ["q_proj,k_proj=a,b", "fused=", "fused=q_proj,", "fused"])
def test_a_hint_of_another_form_is_refused(hint):
    with pytest.raises(TreealignError, match="not of the form"):
        aligned(FUSED, APART, hints=[hint])


def test_a_hint_says_that_rows_stand_by_head_and_in_rotary_order_at_once():
    hint = "fused: rows by head of 2 in the checkpoint, from interleaved to half split"
    found = aligned(FUSED, APART, hints=["fused=q_proj,k_proj,v_proj", hint])
    turned = Parallel((RotaryPermute(2, 2), RotaryPermute(2, 2), Keep()))
    assert conversions(found)[0].operations[:3] == (Deinterleave(0, (2, 2, 2)), Split(0, (4, 4, 4)), turned)
    assert found.ok


def test_a_hint_says_how_many_rows_of_a_head_rotate():
    hints = ["fused=q_proj,k_proj,v_proj", "fused: rows from interleaved to half split, heads of 4, 2 rotated"]
    found = aligned(FUSED, APART, hints=hints)
    turned = RotaryPermute(1, 4, 2)
    assert Parallel((turned, turned, Keep())) in conversions(found)[0].operations
    assert found.ok
