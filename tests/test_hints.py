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


@pytest.mark.parametrize("hint", ["q_proj,k_proj=a,b", "fused=", "fused=q_proj,", "fused", "fused=q_proj,q_proj"])
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


# -- a hint reaches what it names, and nothing else

WORDS = (
    ("attention.wq", "self_attn.q_proj", (16, 16)),
    ("attention.wk", "self_attn.k_proj", (16, 16)),
    ("attention.wv", "self_attn.v_proj", (16, 16)),
    ("attention.wo", "self_attn.o_proj", (16, 16)),
    ("feed_forward.w1", "mlp.gate_proj", (40, 16)),
    ("feed_forward.w2", "mlp.down_proj", (16, 40)),
    ("feed_forward.w3", "mlp.up_proj", (40, 16)),
    ("attention_norm", "input_layernorm", (16,)),
    ("ffn_norm", "post_attention_layernorm", (16,)),
)
META = {f"layers.{i}.{old}.weight": shape for i in range(3) for old, _, shape in WORDS}
LLAMA = {f"model.layers.{i}.{new}.weight": shape for i in range(3) for _, new, shape in WORDS}
META |= {"tok_embeddings.weight": (30, 16), "norm.weight": (16,)}
LLAMA |= {"model.embed_tokens.weight": (30, 16), "model.norm.weight": (16,)}


def changed(hints):
    """The keys of the checkpoint of which hints change the match, and the suggestion."""
    before, after = aligned(META, LLAMA), aligned(META, LLAMA, hints=hints)
    known = {(m.checkpoint, m.model, m.operations, m.certain) for m in before.matches}
    return {
        m.checkpoint[0] for m in after.matches if (m.checkpoint, m.model, m.operations, m.certain) not in known
    }, after


@pytest.mark.parametrize(
    ("hint", "layers"),
    [
        ("layers.1.attention.wq: rows as stored", [1]),
        ("wq: rows as stored under layers.1", [1]),
        ("layers.{i:0|2}.attention.wq: rows as stored", [0, 2]),
        ("layers.{1..2}.attention.wq: rows as stored", [1, 2]),
        ("layers.{0..2}.attention.wq: rows as stored", [0, 1, 2]),
        ("model.layers.2.self_attn.q_proj: rows as stored", [2]),
    ],
)
def test_a_statement_reaches_only_the_repeats_that_it_names(hint, layers):
    keys, found = changed([hint])
    assert keys == {f"layers.{i}.attention.wq.weight" for i in layers}
    assert {q.about for q in found.questions} == {"rows"}  # the other repeats, and wk


@pytest.mark.parametrize("hint", ["layers.1.feed_forward.w1=model.layers.1.mlp.up_proj", "w1=up_proj under layers.1"])
def test_names_reach_only_the_repeats_that_they_name(hint):
    keys, found = changed([hint])
    assert keys == {"layers.1.feed_forward.w1.weight", "layers.1.feed_forward.w3.weight"}
    assert certain_pairs(found)["layers.1.feed_forward.w1.weight"] == "model.layers.1.mlp.up_proj.weight"
    (question,) = [q for q in found.questions if q.about != "rows"]  # where the one goes that was displaced
    assert question.checkpoint == ("layers.1.feed_forward.w3.weight",)


def test_one_of_several_repeats_can_belong_to_nothing():
    _, found = changed(["layers.1.attention.wv: not in the model"])
    assert found.unexpected_keys == ("layers.1.attention.wv.weight",)
    assert found.missing_keys == ("model.layers.1.self_attn.v_proj.weight",)


def test_a_repeat_can_be_said_to_be_another_with_all_that_it_holds():
    _, found = changed(["layers.0=model.layers.2", "layers.2=model.layers.0"])
    moved = {
        m.checkpoint[0].split(".")[1]: m.model[0].split(".")[2]
        for m in found.matches
        if m.checkpoint[0][:6] == "layers"
    }
    assert moved == {"0": "2", "1": "1", "2": "0"}


def test_a_key_that_names_move_keeps_its_rows_open():
    for hint in (
        "^layers.{i}.attention.wq=^model.layers.{i}.self_attn.k_proj",
        "layers.0.attention.wq=layers.0.self_attn.k_proj",
    ):
        _, found = changed([hint])
        (match,) = [m for m in found.matches if m.checkpoint == ("layers.0.attention.wq.weight",)]
        assert match.model == ("model.layers.0.self_attn.k_proj.weight",)
        assert not match.certain
        assert any(match.checkpoint[0] in q.checkpoint for q in found.questions if q.about == "rows")


@pytest.mark.parametrize(
    ("hints", "fact"),
    [
        (["wq: rows from interleaved to half split, heads of 8", "q_proj: rows as stored"], "both speak of"),
        (["layers.{i:0|1}.attention.wv=v_proj", "layers.1.attention.wv=layers.1.self_attn.o_proj"], "cannot both hold"),
        (["w1=gate_proj,up_proj"], "nothing of the one can be of the other"),
        (["w1,w3=gate_proj"], "nothing of the one can be of the other"),
        (["w1: axes 0,1,2"], "cannot stand so"),
        (["w1: axes 0,0"], "is not of the form"),
        (["layers.1.attention.wv: not in the model", "layers.1.attention.wv=v_proj"], "both speak of"),
        (["layers.1.attention.wv=v_proj", "layers.1.attention.wv: not in the model"], "both speak of"),
        (["model.layers.1.self_attn.v_proj: not in the checkpoint", "layers.1.attention.wv=v_proj"], "both speak of"),
        (["layers.0=model.layers.9"], "names nothing in the model"),
        (["wv=v_porj"], "names nothing in the model; close: v_proj"),
        (["q_proj=wq"], "but in the model: names of the checkpoint stand first"),
        (["layers.{i}=model.layers.{i+1}"], "is not of the form"),
        (["wq: rows from interleaved to half split"], "such as `rows from interleaved to half split, heads of 64`"),
    ],
)
def test_hints_that_contradict_or_do_nothing_are_refused_with_what_and_where(hints, fact):
    with pytest.raises(TreealignError) as refused:
        changed(hints)
    assert any(fact in text for text in refused.value.facts), refused.value


@pytest.mark.parametrize("hint", ["wq , wk:  rows as stored", " wq,wk: rows as stored\n", "wq, wk: rows  as  stored"])
def test_white_space_says_nothing(hint):
    assert changed([hint])[0] == changed(["wq,wk: rows as stored"])[0]
