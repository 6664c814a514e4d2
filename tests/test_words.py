"""Names become words and roles."""

from __future__ import annotations

import pytest

import treealign
from treealign import KeyTree
from treealign.align.words import split_words, tokens, vocabulary


def roles(path):
    return {t.text for t in tokens(tuple(path.split("."))) if t.text.startswith("@")}


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ("post_attention_layernorm", ("post", "attn", "norm")),
        ("LayerNorm", ("norm",)),
        ("selfAttention", ("self", "attn")),
        ("fc1", ("linear", "1")),
        ("to_k", ("to", "k")),
        ("{}", ("#",)),
    ],
)
def test_a_segment_splits_into_words_of_one_spelling(segment, words):
    assert split_words(segment) == words


@pytest.mark.parametrize(
    "path",
    [
        "layers.{}.self_attn.q_proj.weight",
        "blk.{}.attn_q.weight",
        "encoder.layer.{}.attention.self.query.weight",
        "layers.{}.attention.wq.weight",
        "blocks.{}.to_q.weight",
        "encoder_l1_self_Wq",
        "encoder_l1_self_bq",
    ],
)
def test_spellings_of_the_query_have_one_role(path):
    assert "@q" in roles(path)


def test_the_output_of_attention_is_not_the_output_of_the_mlp():
    assert "@o" in roles("layer.{}.attention.output.dense.weight")
    assert "@down" in roles("layer.{}.output.dense.weight")


@pytest.mark.parametrize("name", ["encoder_l1_self_Wo", "encoder_l1_self_bo", "decoder_l1_context_bo"])
def test_a_matrix_and_its_bias_have_one_role_and_the_norm_behind_them_another(name):
    assert "@o" in roles(name)
    assert "@o" not in roles("encoder_l1_self_Wo_ln_scale")


def test_a_final_norm_inside_a_layer_is_not_the_final_norm():
    assert roles("decoder.layers.{}.final_layer_norm.weight") != roles("model.final_layer_norm.weight")


def test_order_of_words_in_a_name_is_kept():
    mine = {t.text for t in tokens(("cross_attn_token_to_image", "q", "weight")) if t.qualified}
    theirs = {t.text for t in tokens(("cross_attn_image_to_token", "q", "weight")) if t.qualified}
    assert mine != theirs


def test_names_with_slashes_are_read_segment_by_segment():
    checkpoint = [(f"decoder/layers_{n}/mlp/wi/kernel", (32, 88), "float32") for n in range(4)]
    checkpoint += [(f"encoder/layers_{n}/mlp/wi/kernel", (32, 88), "float32") for n in range(3)]
    model = [(f"decoder.block.{n}.mlp.wi.weight", (88, 32), "float32") for n in range(4)]
    model += [(f"encoder.block.{n}.mlp.wi.weight", (88, 32), "float32") for n in range(3)]
    suggestion = treealign.suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    found = {m.checkpoint[0]: m.model[0] for m in suggestion.matches}
    assert found["decoder/layers_2/mlp/wi/kernel"] == "decoder.block.2.mlp.wi.weight"
    assert len(found) == len(model)


def test_a_norm_1_beside_a_norm_without_a_number_is_the_second():
    checkpoint = [(f"block/{name}/gamma", (32,), "float32") for name in ("LayerNorm", "LayerNorm_1")]
    model = [(f"block.{name}.weight", (32,), "float32") for name in ("attention.LayerNorm", "final_layer_norm")]
    suggestion = treealign.suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    wrong = ("block/LayerNorm_1/gamma", "block.attention.LayerNorm.weight")
    assert wrong not in [(m.checkpoint[0], m.model[0]) for m in suggestion.matches if m.certain]


@pytest.mark.parametrize("run", vocabulary().phrases, ids=" ".join)
def test_every_phrase_is_spelled_in_the_words_that_names_are_read_as(run):
    produced = {word for words in vocabulary().words.values() for word in words}
    assert all(len(word) == 1 or word in produced or vocabulary().words.get(word, (word,)) == (word,) for word in run)


def test_convolutional_networks_call_their_ends_and_shortcuts_otherwise_and_mean_the_same():
    for one, other in (
        ("features.init_block.conv.weight", "conv_stem.weight"),
        ("last_linear.weight", "classif.weight"),
        ("output.fc.bias", "head.fc.bias"),
        ("b.se.conv_reduce.weight", "b.se.fc1.weight"),
    ):
        assert roles(one) & roles(other)


def test_a_weight_and_a_bias_that_a_library_keeps_in_one_module_of_many_are_told_apart_by_how_the_field_spells_them():
    at, there = "blocks.{}.mlp.", "gpt_neox.layers.{}.mlp."
    made = {"embed.W_E": (99, 32), "blocks.{}.attn.W_O": (4, 8, 32)}
    made |= {f"blocks.{{}}.attn.W_{part}": (4, 32, 8) for part in "QKV"}
    made |= {at + "W_in": (32, 72), at + "b_in": (72,), at + "W_out": (72, 32), at + "b_out": (32,)}
    model = {there + "dense_h_to_4h.weight": (72, 32), there + "dense_h_to_4h.bias": (72,)}
    model |= {there + "dense_4h_to_h.weight": (32, 72), there + "dense_4h_to_h.bias": (32,)}
    sides = [[(k.format(n), shape, "f") for n in range(2) for k, shape in side.items()] for side in (made, model)]
    left, right = ([*dict.fromkeys(side)] for side in sides)
    found = treealign.suggest(KeyTree.from_leaves(left), KeyTree.from_leaves(right, ordered=True)).matches
    assert {m.model[0]: m.certain for m in found} == {key: True for key, *_ in right}
