"""Quantised weights: scales, zeros and codes go with their weight, and never to a plain parameter."""

from __future__ import annotations

import pytest
import torch
from aligning import aligned, tree
from torch import nn
from weights import state, unchanged, values, write

from treealign import load, save, suggest
from treealign.errors import LoadError

SIZES = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (8, 16),
    "self_attn.v_proj": (8, 16),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (32, 16),
    "mlp.up_proj": (32, 16),
    "mlp.down_proj": (16, 32),
}
NORMS = ("input_layernorm", "post_attention_layernorm")


def gptq(rows, columns):
    sizes = {"qweight": (columns // 8, rows), "qzeros": (1, rows // 8), "g_idx": (columns,)}
    return {name: (size, "int32") for name, size in sizes.items()} | {"scales": ((1, rows), "float16")}


def awq(rows, columns):
    sizes = {"qweight": (columns, rows // 8), "qzeros": (1, rows // 8)}
    return {name: (size, "int32") for name, size in sizes.items()} | {"scales": ((1, rows), "float16")}


def nf4(rows, columns):
    return {
        "weight": ((rows * columns // 2, 1), "uint8"),
        "weight.absmax": ((max(1, rows * columns // 64),), "uint8"),
        "weight.nested_absmax": ((1,), "float32"),
        "weight.nested_quant_map": ((256,), "float32"),
        "weight.quant_map": ((16,), "float32"),
        "weight.quant_state.bitsandbytes__nf4": ((80,), "uint8"),
    }


def int8(rows, columns):
    return {"weight": ((rows, columns), "int8"), "SCB": ((rows,), "float32"), "weight_format": ((), "uint8")}


def fp8_blocks(rows, columns):
    return {"weight": ((rows, columns), "float8_e4m3fn"), "weight_scale_inv": ((1, 1), "float32")}


def fp8_rows(rows, columns):
    return {"weight": ((rows, columns), "float8_e4m3fn"), "weight_scale": ((rows, 1), "float32")}


def fp8_static(rows, columns):
    scales = dict.fromkeys(("weight_scale", "input_scale"), ((), "float32"))
    return {"weight": ((rows, columns), "float8_e4m3fn"), **scales}


def packed_int4(rows, columns):
    return {
        "weight_packed": ((rows, columns // 8), "int32"),
        "weight_scale": ((rows, 1), "bfloat16"),
        "weight_shape": ((2,), "int64"),
    }


def nvfp4(rows, columns):
    return {
        "weight_packed": ((rows, columns // 2), "uint8"),
        "weight_scale": ((rows, columns // 16), "float8_e4m3fn"),
        "weight_global_scale": ((1,), "float32"),
        "input_global_scale": ((1,), "float32"),
    }


def int8_zeros(rows, columns):
    zeros = {"weight_scale": ((rows, 1), "float32"), "weight_zero_point": ((rows, 1), "int8")}
    return {"weight": ((rows, columns), "int8"), **zeros}


def plain(rows, columns):
    return {"weight": ((rows, columns), "float32")}


FORMATS = (gptq, awq, nf4, int8, fp8_blocks, fp8_rows, fp8_static, packed_int4, nvfp4, int8_zeros)
each = pytest.mark.parametrize("quantised", FORMATS, ids=lambda f: f.__name__)
# a tensor of that shape may be read as the plain weight: the names agree, and it is for the scales to object
SAME_SHAPE = (fp8_blocks, fp8_rows, fp8_static, int8, int8_zeros)
# codes in another shape under the name of the weight: mismatched, with both sides
OTHER_SHAPE = (nf4,)


def leaves(quantised, rename=str):
    """A decoder of two layers whose projections are quantised: (key, shape, dtype)."""
    found = [("model.embed_tokens.weight", (40, 16), "float32"), ("model.norm.weight", (16,), "float32")]
    for i in range(2):
        found += [(f"model.layers.{i}.{n}.weight", (16,), "float32") for n in NORMS]
        for name, size in SIZES.items():
            pieces = quantised(*size).items()
            found += [(f"model.layers.{i}.{name}.{piece}", shape, dtype) for piece, (shape, dtype) in pieces]
    return [(rename(key), shape, dtype) for key, shape, dtype in found]


def renamed(key):
    """Names as in the first release of Llama."""
    for name, old in (("self_attn", "attention"), ("mlp", "feed_forward"), ("gate_proj", "w1"), ("down_proj", "w2")):
        key = key.replace(f".{name}.", f".{old}.")
    return key.replace(".up_proj.", ".w3.")


def projections(keys):
    return {key for key in keys if "_proj" in key}


@each
def test_nothing_of_a_quantised_weight_goes_to_a_plain_one_with_certainty(quantised):
    for given, there in ((quantised, plain), (plain, quantised)):
        found = aligned(leaves(given), leaves(there))
        certain = {key for m in found.matches if m.certain for key in m.checkpoint}
        assert certain == {key for key, *_ in leaves(plain) if "_proj" not in key}
        guesses = [m for m in found.matches if not m.certain]
        assert all(m.checkpoint == m.model and m.checkpoint[0].endswith("weight") for m in guesses)
        assert bool(guesses) == (quantised in SAME_SHAPE)
        mismatched = {m.checkpoint for m in found.mismatched_keys}
        listed = {*found.unexpected_keys, *(key for m in guesses for key in m.checkpoint), *mismatched}
        assert listed == projections(key for key, *_ in leaves(given))
        assert bool(mismatched) == (quantised in OTHER_SHAPE)


@each
def test_a_prefix_over_a_quantised_model_is_one_transform(quantised):
    found = aligned(leaves(quantised, "language_model.{}".format), leaves(quantised))
    assert (len(found.mapping), found.ok) == (1, True)


@each
def test_pieces_of_renamed_weights_follow_them_and_share_their_doubt(quantised):
    truth = {renamed(key): key for key, *_ in leaves(quantised)}
    found = aligned(leaves(quantised, renamed), leaves(quantised))
    assert {m.checkpoint[0]: m.model[0] for m in found.matches} == truth
    doubted = {m.checkpoint[0] for m in found.matches if not m.certain}
    # the rows of q and k may have another rotary order, and then so have their scales
    assert doubted == {key for key in truth if ".q_proj." in key or ".k_proj." in key}


class Holder(nn.Module):
    """A module tree of buffers under given keys."""

    def __init__(self, tensors):
        super().__init__()
        for key, tensor in tensors.items():
            *path, name = key.split(".")
            at = self
            for step in path:
                if step not in at._modules:
                    at.add_module(step, nn.Module())
                at = at._modules[step]
            at.register_buffer(name, tensor)


def tensors(quantised, fill):
    made = {}
    for key, shape, dtype in leaves(quantised):
        kind = getattr(torch, dtype)
        made[key] = torch.full(shape, fill, dtype=torch.float32).to(kind)
    return made


@pytest.mark.parametrize("quantised", [f for f in FORMATS if f is not nf4], ids=lambda f: f.__name__)
def test_a_quantised_model_is_loaded_and_saved_back_byte_for_byte(quantised, tmp_path):
    model, source = Holder(tensors(quantised, 0)), Holder(tensors(quantised, 3))
    path = write(tmp_path / "given" / "model.safetensors", state(source, "language_model.{}".format))
    load(model, path)
    assert all(torch.equal(t.float(), source.state_dict()[k].float()) for k, t in model.state_dict().items())
    save(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == path.read_bytes()


def test_codes_are_not_loaded_for_weights_even_where_the_rest_is(tmp_path):
    model = Holder(tensors(plain, 0))
    path = write(tmp_path / "model.safetensors", tensors(fp8_blocks, 3))
    before = values(model)
    with pytest.raises(LoadError, match="no scales"):
        load(model, path)
    assert unchanged(model, before)
    load(model, path, strict=False)
    state = model.state_dict()
    assert {key for key, t in state.items() if bool((t == 3).all())} == {key for key in state if "_proj" not in key}


def test_experts_and_their_scales_are_stacked_alike():
    experts = {
        f"mlp.experts.{j}.{n}_proj.{leaf}": (shape, dtype)
        for j in range(4)
        for n in ("gate", "up")
        for leaf, shape, dtype in (("weight", (32, 16), "float8_e4m3fn"), ("weight_scale_inv", (2, 1), "float32"))
    }
    checkpoint = [(key, shape, dtype) for key, (shape, dtype) in experts.items()]
    model = [
        ("mlp.experts.gate_up_proj", (4, 64, 16), "float8_e4m3fn"),
        ("mlp.experts.gate_up_proj_scale_inv", (4, 4, 1), "float32"),
    ]
    found = suggest(tree(checkpoint), tree(model, ordered=True))
    made = {m.model: m for m in found.matches}
    assert set(made) == {(key,) for key, *_ in model}
    assert all(m.certain and len(m.checkpoint) == 8 for m in found.matches)
    scales = made[("mlp.experts.gate_up_proj_scale_inv",)].checkpoint
    assert all(key.endswith("weight_scale_inv") for key in scales)
