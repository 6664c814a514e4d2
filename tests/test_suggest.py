"""The main job on small trees: matches, leftovers, mismatches, ties, findings."""

from __future__ import annotations

import pytest
from aligning import aligned, certain_pairs

from treealign import KeyTree, PrefixChange, TreealignError, suggest, suggestion

LLM = {f"layers.{i}.self_attn.{n}.weight": (4, 4) for i in range(2) for n in ("q_proj", "k_proj")} | {
    "norm.weight": (4,)
}


def below(prefix, keys):
    return {f"{prefix}.{key}": shape for key, shape in keys.items()}


def test_a_checkpoint_with_the_models_names_needs_no_transform():
    suggestion = aligned(LLM, LLM)
    assert (len(suggestion.mapping), suggestion.ok) == (0, True)


def test_a_wrapper_is_one_prefix_change():
    assert list(aligned(below("module", LLM), LLM).mapping) == [PrefixChange(remove="module")]


def test_a_dropped_level_is_suggested_once_for_all_keys():
    old = below("vision_tower.vision_model", LLM) | {"head.weight": (2, 4)}
    new = below("vision_tower", LLM) | {"head.weight": (2, 4)}
    suggestion = aligned(old, new)
    assert (len(suggestion.mapping), suggestion.ok) == (1, True)


def test_keys_without_a_place_are_listed_on_both_sides():
    suggestion = aligned(LLM | {"extra.scale": (7, 7)}, LLM | {"pooler.weight": (5, 3)})
    assert suggestion.unexpected_keys == ("extra.scale",)
    assert suggestion.missing_keys == ("pooler.weight",)


def test_a_resized_table_is_a_mismatch_with_both_shapes():
    old, new = LLM | {"embed_tokens.weight": (10, 4)}, LLM | {"embed_tokens.weight": (12, 4)}
    suggestion = aligned(below("model", old), new)
    (mismatch,) = suggestion.mismatched_keys
    assert mismatch == ("model.embed_tokens.weight", "embed_tokens.weight", (10, 4), (12, 4))


def test_a_tied_alias_is_neither_missing_nor_matched():
    model = LLM | {"embed.weight": (9, 4), "lm_head.weight": (9, 4)}
    suggestion = aligned(LLM | {"embed.weight": (9, 4)}, model, tied={"lm_head.weight": "embed.weight"})
    assert suggestion.ok
    assert "lm_head.weight" not in {k for m in suggestion.matches for k in m.model}


def test_a_checkpoint_that_shares_nothing_gets_no_mapping():
    suggestion = aligned({"aa.bb": (3, 3), "cc.dd": (5,)}, {"ee.ff": (7, 7), "gg.hh": (2,)})
    assert (suggestion.matches, len(suggestion.mapping), suggestion.ok) == ((), 0, False)
    assert "shares nothing" in suggestion.findings[0]


def test_a_model_without_parameters_leaves_all_keys_unexpected():
    suggestion = aligned(LLM, {})
    assert set(suggestion.unexpected_keys) == set(LLM)


def test_all_unusable_hints_are_reported_at_once():
    with pytest.raises(TreealignError, match=r"(?s)not of the form.*names nothing in the model"):
        aligned(LLM, LLM, hints=["nonsense", "norm=absent"])


def test_experts_apart_are_stacked_and_joined_in_the_order_of_their_names():
    experts = {f"mlp.experts.{j}.{n}.weight": (6, 4) for j in range(3) for n in ("up_proj", "gate_proj")}
    suggestion = aligned(LLM | experts, LLM | {"mlp.experts.gate_up_proj": (3, 12, 4)})
    (match,) = [m for m in suggestion.matches if m.operations]
    assert match.checkpoint[0] == "mlp.experts.0.gate_proj.weight"
    assert match.certain


def test_a_fused_qkv_is_split_but_never_in_silence():
    old = LLM | {"attn.qkv.weight": (12, 4)}
    new = LLM | {f"attn.{n}_proj.weight": (4, 4) for n in "qkv"}
    (match,) = [m for m in aligned(old, new).matches if m.operations]
    assert set(match.model) == {f"attn.{n}_proj.weight" for n in "qkv"}
    assert not match.certain


@pytest.mark.parametrize(("beside", "certain"), [(("c_fc",), False), (("c_fc", "c_proj", "c_attn"), True)])
def test_a_square_matrix_is_turned_as_others_are_and_certain_where_two_or_more_show_it(beside, certain):
    names = {"c_fc": (8, 4), "c_proj": (4, 8), "c_attn": (12, 4)}
    shapes = {name: names[name] for name in beside} | {"c_out": (4, 4)}
    old = {f"h.{i}.{n}.weight": shape for i in range(2) for n, shape in shapes.items()}
    new = {key: shape[::-1] for key, shape in old.items()}
    found = {m.checkpoint[0]: m for m in aligned(old, new).matches}
    assert found["h.0.c_fc.weight"].model == ("h.0.c_fc.weight",)
    assert found["h.0.c_fc.weight"].operations and found["h.0.c_out.weight"].operations
    assert found["h.0.c_out.weight"].certain == certain


def test_rotary_rows_are_doubted_where_the_attention_is_spelled_differently():
    old = {f"layers.{i}.attention.w{n}.weight": (4, 4) for i in range(2) for n in "qkvo"}
    new = {f"layers.{i}.self_attn.{n}_proj.weight": (4, 4) for i in range(2) for n in "qkvo"}
    certain = certain_pairs(aligned(old, new))
    assert "layers.0.attention.wv.weight" in certain
    assert "layers.0.attention.wq.weight" not in certain


ROTARY_OLD = {f"layers.{i}.attention.w{n}.weight": (4, 4) for i in range(2) for n in "qkvo"}
ROTARY_NEW = {f"layers.{i}.self_attn.{n}_proj.weight": (4, 4) for i in range(2) for n in "qkvo"}


def test_a_hint_about_names_leaves_the_order_of_rotary_rows_open():
    certain = certain_pairs(aligned(ROTARY_OLD, ROTARY_NEW, hints={"wq": "q_proj", "wk": "k_proj"}))
    assert not {"layers.0.attention.wq.weight", "layers.0.attention.wk.weight"} & certain.keys()


def test_a_statement_about_the_rows_of_one_projection_leaves_the_other_open():
    certain = certain_pairs(aligned(ROTARY_OLD, ROTARY_NEW, hints=["q_proj: rows as stored"]))
    assert "layers.0.attention.wq.weight" in certain
    assert "layers.0.attention.wk.weight" not in certain


def test_a_hint_about_a_level_settles_nothing_below_it():
    names = ("aaa", "bbb")
    old = {f"attention.{n}.weight": (4, 4) for n in names} | {"head.weight": (2, 4)}
    new = {f"attn.{n}.weight": (4, 4) for n in ("ccc", "ddd")} | {"head.weight": (2, 4)}
    certain = certain_pairs(aligned(old, new, hints={"attention": "attn"}))
    assert certain == {"head.weight": "head.weight"}


def test_what_no_transform_makes_is_no_match_but_left_over_on_both_sides(monkeypatch):
    made = suggestion.synthesize_alignment
    monkeypatch.setattr(suggestion, "synthesize_alignment", lambda found: made(found).lacking(["old.b.w"]))
    sides = [
        [(f"{level}.{leaf}.w", (size,), "float32") for leaf, size in (("a", 2), ("b", 3))] for level in ("old", "new")
    ]
    s = suggest(*map(KeyTree.from_leaves, sides))
    assert [(m.checkpoint, m.model) for m in s.matches] == [(("old.a.w",), ("new.a.w",))]
    assert (s.unexpected_keys, s.missing_keys, s.ok) == (("old.b.w",), ("new.b.w",), False)
    assert any("old.b.w" in finding for finding in s.findings)
