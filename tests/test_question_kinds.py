"""Kinds of questions that reports describe, each in ten forms: other names, numbers and places, the same demands."""

from __future__ import annotations

import pytest
from aligning import aligned, certain_pairs
from cases import read_cases

from treealign import TreealignError, suggest

ATTENTIONS = [  # q, k, v, o as one library calls them and as another does, and the modules that hold them
    (("attention", "wq", "wk", "wv", "wo"), ("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")),
    (("self_attn", "q_proj", "k_proj", "v_proj", "o_proj"), ("attention", "wq", "wk", "wv", "wo")),
    (("attn", "query", "key", "value", "out"), ("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")),
    (("attn1", "to_q", "to_k", "to_v", "to_out"), ("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")),
    (("attention", "q_lin", "k_lin", "v_lin", "out_lin"), ("attn", "wq", "wk", "wv", "wo")),
    (("mha", "linear_q", "linear_k", "linear_v", "linear_out"), ("self_attention", "query", "key", "value", "dense")),
    (("self_attention", "query", "key", "value", "dense"), ("attn", "q", "k", "v", "proj")),
    (("attn", "q", "k", "v", "proj"), ("attention", "wq", "wk", "wv", "wo")),
    (("qkv_linear", "wq", "wk", "wv", "wo"), ("self_attn", "query_proj", "key_proj", "value_proj", "out_proj")),
    (("SelfAttention", "q", "k", "v", "o"), ("attention", "query_layer", "key_layer", "value_layer", "out_layer")),
]
LISTS = [
    ("neck.lateral_{}", "head.levels.{}.inner", 4, 1),
    ("refinenet{}", "fusion_stage.layers.{}", 4, 1),
    ("fpn.p{}", "neck.stages.{}", 4, 2),
    ("scales.{}.conv", "pyramid.level{}.conv", 3, 0),
    ("up.{}", "decoder.blocks.{}", 5, 0),
    ("head.side{}", "taps.{}", 3, 1),
    ("merge_{}", "fuse.{}.proj", 6, 1),
    ("toplayers.c{}", "adapters.{}", 4, 2),
    ("model.side{}", "sides.{}", 5, 1),
    ("dec.step{}", "cascade.{}", 3, 1),
]
LEAVES = {"weight": (8, 8, 3, 3), "bias": (8,)}
PLACES = [
    ("encoder.patch.s2.proj", "model.encoder.patch.s2.proj"),
    ("embed.proj", "backbone.embed.proj"),
    ("stem.conv", "features.stem.conv"),
    ("text.pooler", "text.head.pooler"),
    ("cls", "classifier"),
    ("final_norm", "norm"),
    ("lm.out", "lm_head"),
    ("a.b.c.d", "x.d"),
    ("input_proj.0", "projection"),
    ("logit_bias_net", "bias.net"),
]


def attention_pair(old, new):
    made = []
    for holder, *names in (old, new):
        made.append({f"layers.{i}.{holder}.{name}.weight": (16, 16) for i in range(2) for name in names})
    return made


def about_rows(found):
    return {key for question in found.questions if question.about == "rows" for key in question.model}


def pairs(found, certain_only=False):
    return {m.checkpoint: m.model for m in found.matches if m.certain or not certain_only}


@pytest.mark.parametrize(("old", "new"), ATTENTIONS, ids=lambda names: names[0])
def test_words_say_nothing_of_rows(old, new):
    """Whoever says which projection is which has not said how its rows stand."""
    sides = attention_pair(old, new)
    found = aligned(*sides, hints=[f"{old[n]}={new[n]}" for n in (1, 2)])
    rows = about_rows(aligned(*sides))
    assert rows == {f"layers.{i}.{new[0]}.{new[n]}.weight" for i in range(2) for n in (1, 2)}
    assert about_rows(found) == rows
    assert not any(m.certain for m in found.matches if m.model[0] in rows)


@pytest.mark.parametrize(("old", "new"), ATTENTIONS, ids=lambda names: names[0])
def test_a_statement_about_rows_settles_them_and_no_names(old, new):
    sides = attention_pair(old, new)
    found = aligned(*sides, hints=[f"{new[1]},{new[2]}: rows from interleaved to half split, heads of 8"])
    assert about_rows(found) == set()
    assert pairs(found) == pairs(aligned(*sides))
    turned = {m.model[0] for m in found.matches if m.operations}
    assert turned == {f"layers.{i}.{new[0]}.{new[n]}.weight" for i in range(2) for n in (1, 2)}


@pytest.mark.parametrize(("old", "new"), ATTENTIONS[::4], ids=lambda names: names[0])
def test_every_option_can_be_taken_and_settles_its_question(old, new):
    sides = attention_pair(old, new)
    for question in aligned(*sides).questions:
        for option in question.options:
            after = aligned(*sides, hints=[option.hint])
            said = {(m.checkpoint, m.model, m.operations) for m in option.matches}
            assert said <= {(m.checkpoint, m.model, m.operations) for m in after.matches}, option
            asked = {(q.about, q.checkpoint, q.model) for q in after.questions}
            assert (question.about, question.checkpoint, question.model) not in asked, option


@pytest.mark.parametrize(("old", "new", "count", "first"), LISTS)
def test_a_list_that_counts_from_the_other_end_is_one_question(old, new, count, first):
    """`lateral_4` is `levels.0`: no name says it, and one answer does, for all members."""
    here = {f"{old.format(n + first)}.{leaf}": shape for n in range(count) for leaf, shape in LEAVES.items()}
    there = {f"{new.format(n)}.{leaf}": shape for n in range(count) for leaf, shape in LEAVES.items()}
    truth = {
        (f"{old.format(n + first)}.{leaf}",): (f"{new.format(count - 1 - n)}.{leaf}",)
        for n in range(count)
        for leaf in LEAVES
    }
    found = aligned(here | {"top.weight": (5, 7)}, there | {"top.weight": (5, 7)})
    asked = [question for question in found.questions if question.about in ("names", "order", "belongs")]
    assert len(asked) == 1
    assert any({m.checkpoint: m.model for m in option.matches} == truth for option in asked[0].options)
    assert not any(m.certain and m.checkpoint in truth for m in found.matches)


@pytest.mark.parametrize(("old", "new"), PLACES)
def test_the_two_full_names_of_one_leaf_are_a_hint_that_changes_nothing_for_the_worse(old, new):
    blocks = {f"{side}.blocks.{n}.fc.weight": (8, 8) for side in ("enc", "dec") for n in range(2)}
    here, there = blocks | {f"{old}.weight": (8, 3, 4, 4)}, {f"net.{key}": shape for key, shape in blocks.items()}
    there[f"{new}.weight"] = (8, 3, 4, 4)
    before = pairs(aligned(here, there), certain_only=True)
    for hint in (f"{old}.weight={new}.weight", f"^{old}=^{new}"):
        after = pairs(aligned(here, there, hints=[hint]), certain_only=True)
        assert after == before | {(f"{old}.weight",): (f"{new}.weight",)}


@pytest.mark.parametrize(("old", "new"), ATTENTIONS, ids=lambda names: names[0])
def test_hints_that_cannot_both_hold_are_refused_in_either_order(old, new):
    sides = attention_pair(old, new)
    for hints in (
        [f"{old[1]}={new[1]}", f"{old[1]}={new[2]}"],
        [f"{old[1]}={new[1]}", f"{old[2]}={new[1]}"],
        [f"{new[1]}: rows as stored", f"{old[1]}: rows from interleaved to half split, heads of 8"],
        [f"{new[1]}: axes as stored", f"{old[1]}: axes transposed"],
    ):
        for given in (hints, hints[::-1]):
            with pytest.raises(TreealignError, match="hints that"):
                aligned(*sides, hints=given)


@pytest.mark.parametrize("layers", [3, 5])
@pytest.mark.parametrize(("first", "word"), [(1, "l"), (0, "block"), (2, "layer_")])
def test_repeats_that_a_flat_name_numbers_within_itself_are_asked_of_once(layers, first, word):
    """`enc_l1_self_Wq` and `enc_l2_self_Wq` are one decision, as `enc.1.self.Wq` and `enc.2.self.Wq` would be."""
    parts = [("enc", "self", "self_attn"), ("dec", "self", "self_attn"), ("dec", "context", "encoder_attn")]
    here = {f"{t}_{word}{n + first}_{a}_W{q}": (8, 8) for n in range(layers) for t, a, _ in parts for q in "qkvo"}
    there = {f"{t}.layers.{n}.{b}.{q}_proj.weight": (8, 8) for n in range(layers) for t, _, b in parts for q in "qkvo"}
    matrices = [(n, t, k) for n in range(layers) for t in ("enc", "dec") for k in (1, 2)]
    here |= {f"{t}_{word}{n + first}_ffn_W{k}": (8, 8) for n, t, k in matrices}
    there |= {f"{t}.layers.{n}.fc{k}.weight": (8, 8) for n, t, k in matrices}
    named = [question for question in aligned(here, there).questions if question.about == "names"]
    assert len(named) == 4  # one for each of the attentions, one for the others


@pytest.mark.parametrize("beside", [{}, {"head.bias": (8,)}])
def test_what_stands_in_the_other_part_is_offered_even_where_half_of_it_is_taken(beside):
    """`visual.ln_post` is what `norm` may be, also if its bias was guessed to be another one's."""
    blocks = {f"blocks.{i}.{leaf}": (8,) for i in range(3) for leaf in ("norm1.weight", "norm1.bias")}
    here = {f"visual.{key}": shape for key, shape in blocks.items()} | {
        f"{norm}.{leaf}": (8,) for norm in ("visual.ln_post", "ln_final") for leaf in ("weight", "bias")
    }
    there = blocks | {"norm.weight": (8,), "norm.bias": (8,)} | beside
    (question,) = [q for q in aligned(here, there).questions if "norm.weight" in q.model]
    offered = {m.checkpoint[0] for option in question.options for m in option.matches if m.model == ("norm.weight",)}
    assert {"visual.ln_post.weight", "ln_final.weight"} <= offered


@pytest.mark.parametrize("leaf", ["0.0.g", "norm.w"])
def test_what_is_guessed_otherwise_in_one_repeat_than_in_another_can_be_read_alike_in_all(leaf):
    """Norms before attention and MLP, in one layer here and in two members of a list there."""
    old, new, true = {}, {}, {}
    for tower, i in ((tower, i) for tower in ("speech", "text") for i in range(2)):
        here, there = f"{tower}_encoder.layers.{i}", f"{tower}_transformer.layers"
        old |= {f"{here}.{norm}.weight": (8,) for norm in ("input_rmsnorm", "post_attention_rmsnorm")}
        old |= {f"{here}.attn.q.weight": (8, 8), f"{here}.mlp.fc1.weight": (16, 8)}
        new |= {f"{there}.{2 * i}.{leaf}": (8,), f"{there}.{2 * i}.1.to_q.weight": (8, 8)}
        new |= {f"{there}.{2 * i + 1}.{leaf}": (8,), f"{there}.{2 * i + 1}.1.net.0.weight": (16, 8)}
        true[f"{here}.input_rmsnorm.weight"] = f"{there}.{2 * i}.{leaf}"
        true[f"{here}.post_attention_rmsnorm.weight"] = f"{there}.{2 * i + 1}.{leaf}"
    norms = aligned(old, new).questions[0]
    ways = [{m.checkpoint[0]: m.model[0] for m in option.matches} for option in norms.options]
    assert true in ways
    assert true.items() <= certain_pairs(aligned(old, new, hints=norms.options[ways.index(true)].hint)).items()


def test_attentions_of_two_classes_are_asked_of_apart_each_by_the_sizes_of_its_own_heads():
    old, new, modules = {}, {}, {}
    for tower, width in (("vision", 32), ("text", 48)):
        for i in range(2):
            old |= {f"{tower}.layers.{i}.attention.{n}.weight": (width, width) for n in "qkvo"}
            new |= {f"{tower}.layers.{i}.attn.{n}_proj.weight": (width, width) for n in "qkvo"}
            modules[f"{tower}.layers.{i}.attn"] = f"{tower.capitalize()}Attention"
    norms = {f"text.layers.{i}.attn.{n}_norm.weight": (12,) for i in range(2) for n in "qk"}
    rows = [q for q in aligned(old, new | norms, modules=modules).questions if q.about == "rows"]
    heads = {q.model[0].split(".")[0]: " ".join(o.hint for o in q.options) for q in rows}
    assert "heads of 12" in heads["text"]
    assert "heads of 16" in heads["vision"]


def test_a_part_and_the_whole_in_which_it_stands_is_a_hint_that_holds():
    """Also where another hint has settled it before."""
    old = {f"layers.{i}.attn.{n}.weight": (16, 16) for i in range(2) for n in ("to_q", "to_k", "to_v")}
    new = {f"layers.{i}.attn.to_qkv.weight": (48, 16) for i in range(2)}
    for hints in (
        ["to_q,to_k,to_v=to_qkv", "attn.to_q=attn.to_qkv"],
        "to_q,to_k,to_v=to_qkv and to_q=to_qkv under layers",
    ):
        found = aligned(old, new, hints=hints)
        assert {frozenset(m.checkpoint) for m in found.matches} == {
            frozenset(k for k in old if k.startswith(f"layers.{i}.")) for i in range(2)
        }
        assert not any(q.about in ("names", "belongs") for q in found.questions)


def test_what_is_doubted_for_unlike_reasons_is_asked_of_apart():
    """The last block of a Stable Diffusion 3 has a modulation of another kind under the name of the others'."""
    (case,) = read_cases("single_files", "single/SD 3")
    rows = [q for q in suggest(*case.trees()).questions if q.about == "rows"]
    assert sorted(len(q.model) for q in rows) == [2, 4]


def test_how_a_square_stands_is_no_question_once_answers_made_certain_what_shows_it():
    (case,) = read_cases("originals", "nomic_bert_remote__hf")
    found = suggest(*case.trees())
    assert "axes" in {question.about for question in found.questions}
    for name in ("fc11=mlp.up_proj", "fc12=mlp.gate_proj", "fc2=mlp.down_proj"):
        found = suggest(*case.trees(), hints=[*found.hints, name])
    assert {question.about for question in found.questions} == {"rows"}
    assert all(match.certain for match in found.matches if match.model[0].endswith("o_proj.weight"))


def test_what_an_answer_said_belongs_to_nothing_is_offered_no_more():
    (case,) = read_cases("real_text", "bert_hf__fmsfused")
    said = "^classification_head.dense: not in the checkpoint"
    questions = suggest(*case.trees(), hints=[said]).questions
    assert questions
    assert not [o.hint for q in questions for o in q.options if "classification_head.dense" in o.hint]
