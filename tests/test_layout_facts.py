"""What known layouts settle of heads apart, of rotary rows, and of paths that are read whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from aligning import aligned
from cases import read_cases
from test_layouts import known

import treealign
from treealign.align.knowledge import entries
from treealign.align.knowledge.entries import layouts
from treealign.align.knowledge.reading import read_alike
from treealign.align.patterns import build_patterns
from treealign.mapping.operations import Permute, RotaryPermute
from treealign.tree.keytree import KeyTree


@pytest.mark.parametrize("own", [True, False])
def test_rows_under_the_names_of_metas_llama_are_settled_in_its_own_files_alone(own):
    at, there = "layers.{}.", "model.layers.{}.self_attn."
    leaves = {"tok_embeddings.weight": (99, 32), at + "attention_norm.weight": (32,)}
    leaves |= {f"{at}attention.w{part}.weight": (32, 32) for part in "qkvo"}
    leaves |= {at + "feed_forward.w1.weight": (64, 32), **({"rope.freqs": (4,)} if own else {})}
    model = {f"{there}{part}_proj.weight": (32, 32) for part in "qkvo"}
    modules = {there[:-1].format(n): "LlamaAttention" for n in range(2)}
    found = aligned(shapes_of(numbers_of(leaves)), shapes_of(numbers_of(model)), modules=modules).matches
    turned = [m for m in found if m.model[0].endswith(("q_proj.weight", "k_proj.weight"))]
    assert {(m.certain, m.operations if own else ()) for m in turned} == {(own, (RotaryPermute(4, 8),) if own else ())}


LENS = {"embed.W_E": (99, 32), "blocks.{}.attn.W_O": (4, 8, 32), "blocks.{}.mlp.W_out": (64, 32)}
LENS |= {f"blocks.{{}}.attn.W_{part}": (4, 32, 8) for part in "QKV"}
HF = "model.layers.{}.self_attn."


def numbers_of(shapes):
    """Tensors of these shapes, a layer twice, no element of which occurs twice."""
    keys = {key.format(n): shape for n in range(2) for key, shape in shapes.items()}
    return {key: torch.rand(shape, dtype=torch.float64) for key, shape in keys.items()}


def shapes_of(tensors):
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def test_heads_that_have_a_dimension_of_their_own_are_put_together_as_their_library_does():
    tensors = numbers_of(LENS)
    model = {HF + "o_proj.weight": (32, 32), "model.layers.{}.input_layernorm.weight": (32,)}
    model |= {f"{HF}{part}_proj.weight": (32, 32) for part in "qkv"}
    suggestion = aligned(shapes_of(tensors), shapes_of(numbers_of(model)))
    matches = [m for m in suggestion.matches if "attn" in m.checkpoint[0]]
    assert len(matches) == 8
    assert all(m.certain for m in matches)
    made = dict(suggestion.mapping.apply(tensors))
    for part in "qkv":
        wanted = tensors[f"blocks.1.attn.W_{part.upper()}"].permute(0, 2, 1).reshape(32, 32)
        assert made[f"{HF}{part}_proj.weight".format(1)].equal(wanted)
    assert made[f"{HF}o_proj.weight".format(1)].equal(tensors["blocks.1.attn.W_O"].reshape(32, 32).T)


def test_rows_by_head_are_taken_apart_where_the_other_side_shows_how_many_rows_a_head_has():
    at = "gpt_neox.layers.{}."
    leaves = {at + "attention.query_key_value.weight": (96, 32), at + "attention.dense.weight": (32, 32)}
    leaves |= {at + "mlp.dense_h_to_4h.weight": (64, 32), at + "mlp.dense_4h_to_h.weight": (32, 64)}
    tensors = numbers_of({**leaves, at + "input_layernorm.bias": (32,)})
    suggestion = aligned(shapes_of(tensors), shapes_of(numbers_of(LENS)))
    (match, *_) = (m for m in suggestion.matches if "query_key_value" in m.checkpoint[0])
    assert match.certain
    heads = tensors["gpt_neox.layers.0.attention.query_key_value.weight"].reshape(4, 3, 8, 32)
    made = dict(suggestion.mapping.apply(tensors))
    for n, part in enumerate("QKV"):
        assert made[f"blocks.0.attn.W_{part}"].equal(heads[:, n].permute(0, 2, 1))


@pytest.mark.parametrize(("norm", "settled"), [(8, True), (32, False), (None, False)])
def test_rotary_rows_are_settled_where_a_norm_of_the_heads_proves_how_many_rows_one_has(norm, settled):
    at = "base_model.layers.{}."
    leaves = {"base_model.embedding.weight": (99, 32), "base_model.dec_norm.weight": (32,), at + "ln.weight": (32,)}
    leaves |= {at + "attn.dense.weight": (32, 32), at + "ff_sub_layer.w2.weight": (32, 64)}
    leaves |= {f"{at}attn.in_proj.{part}.weight": (rows, 32) for part, rows in (("query", 32), ("key", 16))}
    model = {f"{HF}{part}_proj.weight": (rows, 32) for part, rows in (("q", 32), ("k", 16))}
    if norm is not None:
        leaves |= {f"{at}attn.in_proj.{part}_norm.weight": (norm,) for part in "qk"}
        model |= {f"{HF}{part}_norm.weight": (norm,) for part in "qk"}
    modules = {f"{HF[:-1]}.{part}_proj".format(n): "Linear" for part in "qk" for n in range(2)}
    modules |= {HF[:-1].format(n): "LlamaAttention" for n in range(2)}
    suggestion = aligned(shapes_of(numbers_of(leaves)), shapes_of(numbers_of(model)), modules=modules)
    matches = [m for m in suggestion.matches if "_proj" in m.model[0]]
    assert {m.certain for m in matches} == {settled}
    assert not settled or {m.operations for m in matches} == {(RotaryPermute(4, 8),), (RotaryPermute(2, 8),)}


def wan(modulation, self_attn, cross_attn, to_q, tables, **others):
    """Names of a block of Wan, in its authors' words or in those of diffusers."""
    at = "blocks.{}."
    shapes = {f"{at}{module}.{name}": (32, 32) for module in (self_attn, cross_attn) for name in to_q}
    shapes |= {f"{at}{module}.norm_{part}.weight": (32,) for module in (self_attn, cross_attn) for part in "qk"}
    shapes |= {f"{at}{modulation}": (1, 6, 32), tables[0]: (1, 2, 32), "patch_embedding.weight": (32, 4, 1, 2, 2)}
    return shapes_of(numbers_of({**shapes, **dict(others.values())}))


def test_a_path_that_a_known_library_spells_so_is_the_one_that_it_reads_as():
    left = wan(
        "modulation",
        "self_attn",
        "cross_attn",
        [f"{x}.weight" for x in "qkvo"],
        ["head.modulation"],
        a=("text_embedding.0.weight", (32, 24)),
        b=("time_projection.1.weight", (192, 32)),
    )
    right = wan(
        "scale_shift_table",
        "attn1",
        "attn2",
        [f"to_{x}.weight" for x in ("q", "k", "v", "out.0")],
        ["scale_shift_table"],
        a=("condition_embedder.text_embedder.linear_1.weight", (32, 24)),
        b=("condition_embedder.time_proj.weight", (192, 32)),
    )
    matches = aligned(left, right).matches
    assert all(m.certain and not m.operations for m in matches)
    made = {m.checkpoint[0]: m.model[0] for m in matches}
    assert made["blocks.1.cross_attn.k.weight"] == "blocks.1.attn2.to_k.weight"


@pytest.mark.parametrize("taken", ["blocks.{}.self_attn.q.weight", "text_embedding.0.weight"])
def test_a_reading_that_two_paths_have_says_nothing(taken):
    left = build_patterns(KeyTree.from_leaves([(taken.format(n), (4, 4), "f") for n in range(2)][:1]))
    known = [replace(p, library=(entries.Known("Wan of its authors", 0),)) for p in left]
    other = replace(known[0], segments=(known[0].named))
    assert len(read_alike(known, [other])) == 1
    assert read_alike([*known, *known], [other]) == read_alike(known, [other, other]) == []


def flux(original):
    """Names of Flux with two streams, in its authors' words or in those of diffusers."""
    at, there = "double_blocks.{}.", "transformer_blocks.{}.attn."
    if original:
        shapes = {f"{at}{stream}_attn.qkv.weight": (96, 32) for stream in ("img", "txt")}
        shapes |= {f"{at}{stream}_attn.norm.query_norm.scale": (8,) for stream in ("img", "txt")}
        shapes |= {"img_in.weight": (32, 16), "txt_in.weight": (32, 24), "time_in.in_layer.weight": (32, 40)}
        return shapes_of(numbers_of({**shapes, "single_blocks.{}.linear1.weight": (224, 32)}))
    names = [f"to_{part}" for part in "qkv"] + [f"add_{part}_proj" for part in "qkv"]
    shapes = {f"{there}{name}.weight": (32, 32) for name in (*names, "to_add_out")}
    shapes |= {f"{there}norm_q.weight": (8,), f"{there}norm_added_q.weight": (8,)}
    shapes |= {"x_embedder.weight": (32, 16), "context_embedder.weight": (32, 24)}
    return shapes_of(numbers_of({**shapes, "single_transformer_blocks.{}.proj_mlp.weight": (128, 32)}))


@pytest.mark.parametrize("named", [True, False])
def test_of_two_wholes_in_one_block_names_say_which_is_made_of_which_parts_or_it_is_open(monkeypatch, named):
    one = layouts()["Flux of its authors"]
    known(monkeypatch, one if named else replace(one, names={}), layouts()["diffusers, Flux"])
    matches = [m for m in aligned(flux(original=True), flux(original=False)).matches if "qkv" in m.checkpoint[0]]
    assert {m.certain for m in matches} == {named}
    assert not named or all(("txt" in m.checkpoint[0]) == ("add" in m.model[0]) for m in matches)


def test_a_library_that_numbers_its_blocks_through_is_read_leaf_by_leaf():
    names = layouts()["Stable Diffusion's UNet"].names
    blocks = {run: reading for run, reading in names.items() if run[0] in ("input_blocks", "output_blocks")}
    norms = {run: reading for run, reading in blocks.items() if run[-2:] == ("in_layers", "0")}
    others = {"input_blocks.3.0.op", "input_blocks.6.0.op", "input_blocks.9.0.op", "middle_block.1.proj_in"}
    others |= {"input_blocks.8.1.proj_in", "output_blocks.11.1.proj_in", "time_embed.0", "out.2"}
    left = {f"{'.'.join(run)}.weight": (32,) for run in norms} | {f"{name}.weight": (8, 8) for name in others}
    right = {f"{'.'.join(reading)}.weight": (32,) for reading in norms.values()}
    matches = [m for m in aligned(left, right).matches if "in_layers" in m.checkpoint[0]]
    assert len(matches) == len(norms) == 20
    wanted = {f"{'.'.join(run)}.weight": f"{'.'.join(reading)}.weight" for run, reading in norms.items()}
    assert all(m.certain and wanted[m.checkpoint[0]] == m.model[0] for m in matches)


@pytest.mark.parametrize(("class_name", "settled"), [("Conv1d", True), ("ConvTranspose1d", False)])
def test_kernels_of_flax_have_their_window_first_and_their_outputs_last_by_definition(class_name, settled):
    kernels = {"encoder.conv2.kernel": (3, 32, 32), "encoder.norm.scale": (32,)}
    weights = {"encoder.conv2.weight": (32, 32, 3), "encoder.norm.weight": (32,)}
    matches = aligned(kernels, weights, modules={"encoder.conv2": class_name}).matches
    (match,) = (m for m in matches if "conv2" in m.model[0])
    assert match.certain == settled
    assert not settled or match.operations == (Permute((2, 1, 0)),)


def test_heads_of_kerass_own_attention_have_a_dimension_whatever_model_it_is_in():
    at, there = "block_{}.mixing.", "layer.{}.attention."
    names = {"query": "q_lin", "key": "k_lin", "value": "v_lin", "attention_output": "out_lin"}
    kernels = {f"{at}{name}.kernel": (4, 8, 32) if "out" in name else (32, 4, 8) for name in names}
    kernels |= {f"{at}{name}.bias": (32,) if "out" in name else (4, 8) for name in names}
    model = {f"{there}{name}.weight": (32, 32) for name in names.values()}
    model |= {f"{there}{name}.bias": (32,) for name in names.values()}
    modules = {f"{there}{name}".format(n): "Linear" for name in names.values() for n in range(2)}
    modules |= {there[:-1].format(n): "DistilBertSelfAttention" for n in range(2)}
    tensors = numbers_of(kernels)
    suggestion = aligned(shapes_of(tensors), shapes_of(numbers_of(model)), modules=modules)
    assert all(m.certain for m in suggestion.matches)
    made = dict(suggestion.mapping.apply(tensors))
    assert made[f"{there}q_lin.weight".format(1)].equal(tensors["block_1.mixing.query.kernel"].reshape(32, 32).T)


def test_members_of_a_list_of_which_a_library_speaks_by_number_leave_the_others_together():
    """ConvNeXt's first downsampling is its stem: the norms and convolutions of the rest are matched as a list."""
    (case,) = read_cases("originals", "convnextv2_facebook__hf")
    assert treealign.suggest(*case.trees()).questions == ()
