"""Modules that could change places, lists whose members are doubted, and what is hidden by what is found late."""

from __future__ import annotations

from aligning import aligned, certain_pairs

PLAIN = {"a.weight": (12, 12), "wk.weight": (4, 12), "wv.weight": (4, 12), "wo.weight": (12, 12)}
NAMED = {"q.weight": (12, 12), "k_proj.weight": (4, 12), "v_lin.weight": (4, 12), "wo.weight": (12, 12)}
MLP = {"mlp.up.weight": (48, 12), "mlp.down.weight": (12, 48)}
NUMBER = "layers.0."


def below(module, leaves):
    return {f"{module}.{key}": shape for key, shape in leaves.items()}


def block(*parts, prefix=NUMBER):
    return {prefix + key: shape for part in parts for key, shape in part.items()}


def of_attentions(suggestion):
    return {a: b for a, b in certain_pairs(suggestion).items() if "mlp" not in a}


def test_two_attentions_of_which_only_one_bears_a_name_are_no_match_for_certain():
    """That `attn` is a word of `encoder_attn` says nothing: the module beside it is an attention, too."""
    lacks = {key: shape for key, shape in NAMED.items() if key != "k_proj.weight"}
    old = block(below("attn", PLAIN), below("l", PLAIN), MLP)
    new = block(below("encoder_attn", NAMED), below("mixer", lacks), MLP)
    assert of_attentions(aligned(old, new)) == {}


def test_two_modules_that_could_change_places_are_one_question_and_one_answer_moves_all_of_both():
    lacks = {key: shape for key, shape in NAMED.items() if key != "k_proj.weight"}
    old = block(below("attn", PLAIN), below("l", PLAIN), MLP)
    found = aligned(old, block(below("encoder_attn", NAMED), below("mixer", lacks), MLP))
    (swap,) = [q for q in found.questions if q.about == "names" and len(q.model) > 1]
    assert len(swap.options) == 2
    moved = {m.checkpoint[0]: m.model[0] for m in found.answer(swap, swap.options[1]).matches}
    assert {a.split(".")[2]: b.split(".")[2] for a, b in moved.items() if ".wo." in a or ".wv." in a} == {
        "attn": "mixer",
        "l": "encoder_attn",
    }


def test_two_attentions_that_bear_one_name_on_both_sides_are_a_match_for_certain():
    old = block(below("self_attn", PLAIN), below("cross_attn", PLAIN), MLP)
    new = block(below("self_attn", NAMED), below("cross_attn", NAMED), MLP)
    assert {b.split(".")[2] for a, b in of_attentions(aligned(old, new)).items() if "self_attn" in a} == {"self_attn"}


def test_a_block_is_not_its_neighbour_in_its_attention_alone():
    """Block 0 bears the model's names, and block 1 of the same list is there under others."""
    ours = {"norm.weight": (8,), "attn.q.weight": (8, 8), "attn.o_proj.weight": (8, 8), "mlp.fc1.weight": (16, 8)}
    theirs = {
        "norm.weight": (8,),
        "attn.c_attn.weight": (8, 8),
        "attn.o_proj.weight": (8, 8),
        "mlp.lin.weight": (16, 8),
    }
    old = block(ours, prefix="net.h.0.") | block(theirs, prefix="encoder.h_1.")
    assert certain_pairs(aligned(old, block(ours, prefix="net.h.1."))) == {}


def test_fused_rows_under_a_name_that_says_nothing_may_stand_by_head():
    around = {"norm1.weight": (32,), "attn.proj.weight": (32, 32), "norm2.weight": (32,)}
    around |= {"mlp.fc1.weight": (128, 32), "mlp.fc2.weight": (32, 128)}
    sides = ({"position_embeddings.weight": (50, 32)} for _ in range(2))
    old, new = (
        side | {f"layers.{n}.{key}": shape for n in range(3) for key, shape in {**around, name: (96, 32)}.items()}
        for side, name in zip(sides, ("attn.qkv.weight", "attn.b.weight"), strict=True)
    )
    suggestion = aligned(old, new)
    assert {q.about for q in suggestion.questions} == {"rows"}
    assert not [a for a in certain_pairs(suggestion) if "qkv" in a]


def test_a_leaf_left_over_beside_a_name_of_two_meanings_is_its_rival():
    """`fc1_g` is the gate of timm's SwiGLU; `c_fc` is left for it only because the model has no up-projection."""
    old = block({"ff.w1.weight": (24, 8), "ff.c_fc.weight": (24, 8), "ff.linear2.weight": (8, 24)})
    new = block({"mlp.fc1_g.weight": (24, 8), "mlp.c_proj.weight": (8, 24)})
    assert not [a for a, b in certain_pairs(aligned(old, new)).items() if "fc1_g" in b]
