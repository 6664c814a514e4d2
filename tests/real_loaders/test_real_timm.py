"""timm's own filters of original checkpoints: found from names and numbers, emitted, and used by timm's own loader.

The originals cannot be had here. So each layout is made of timm's own model by going the other way, and counts as the
original's where timm's filter makes the model's state dict of it.
"""

from __future__ import annotations

import re
from functools import cache, partial
from importlib import import_module

import pytest
import timm
import torch
from timm.models import load_checkpoint

from treealign import emit, read_tree, suggest
from treealign.dialects.reading import read_mapping

OPENAI = [
    (r"^patch_embed\.proj", "conv1"),
    (r"^pos_embed", "positional_embedding"),
    (r"^cls_token", "class_embedding"),
    (r"^head\.weight", "proj"),
    (r"^norm_pre", "ln_pre"),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm(\d)", r".ln_\1"),
    (r"qkv\.", "in_proj_"),
    (r"attn\.proj", "attn.out_proj"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"^", "visual."),
]
FACEBOOK = [
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"),
    (r"^stages\.(\d)\.blocks", r"stages.\1"),
    (r"mlp\.grn\.bias", "grn.beta"),
    (r"mlp\.grn\.weight", "grn.gamma"),
    (r"mlp\.fc", "pwconv"),
    (r"conv_dw", "dwconv"),
    (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
]
MICROSOFT = [(rf"^layers\.{at}\.downsample", f"layers.{at - 1}.downsample") for at in (1, 2, 3)]
MICROSOFT += [(r"^head\.fc", "head")]
SWIGLU = [(r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")]


def openai(key, tensor):
    if key == "visual.proj":
        return tensor.T.contiguous()
    return tensor[0, 0] if key == "visual.class_embedding" else tensor[0] if "positional" in key else tensor


def sparse(key, tensor):
    """Weights that the original keeps with two leading dimensions, as sparse convolutions do."""
    return tensor.reshape(1, 1, 1, -1) if ".grn." in key else tensor


def masked(state):
    """DINOv2's file holds what only its training needs."""
    return state | {"mask_token": torch.zeros(1, 8)}


SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
STAGES = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 5}
# name: model, its sizes, module of the filter, names of the original, its tensors, and what only the original has
CASES = {
    "openai": ("vit_base_patch16_clip_224", SMALL, "vision_transformer", OPENAI, openai, dict),
    "dinov2": ("vit_giant_patch14_dinov2", SMALL, "vision_transformer", SWIGLU, lambda _, t: t, masked),
    "convnext": ("convnext_atto", STAGES, "convnext", FACEBOOK, lambda _, t: t, dict),
    "convnextv2": ("convnextv2_atto", STAGES, "convnext", FACEBOOK, sparse, dict),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 56, "embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), "num_classes": 5},
        "swin_transformer",
        MICROSOFT,
        lambda _, t: t,
        dict,
    ),
}
ALL = pytest.mark.parametrize("name", CASES)


def build(name):
    kind, sizes, *_ = CASES[name]
    return timm.create_model(kind, pretrained=False, **sizes)


@cache
def original(name):
    """An original checkpoint, and the state dict that timm's own filter makes of it."""
    module, renames, change, more = CASES[name][2:]
    torch.manual_seed(0)
    model = build(name)
    state = {
        key: torch.randn(t.shape) if t.is_floating_point() else torch.arange(t.numel()).reshape(t.shape)
        for key, t in model.state_dict().items()
    }
    made = {}
    for key, tensor in state.items():
        old = key
        for pattern, replacement in renames:
            old = re.sub(pattern, replacement, old)
        made[old] = change(old, tensor)
    if name == "openai":  # timm makes a bias of zeros
        del made["visual.head.bias"]
        state["head.bias"] = torch.zeros(5)
    filtered = import_module(f"timm.models.{module}").checkpoint_filter_fn(more(dict(made)), model)
    assert same(filtered, state), "that is not how the original lies"
    return made, state


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in b)


@cache
def settled(name):
    made, state = original(name)
    return suggest(made, state, values=True)


@ALL
def test_names_alone_settle_nothing_wrongly(name):
    made, state = original(name)
    found = suggest(read_tree(made), read_tree(build(name)))
    out = dict(found.mapping.apply(dict(made)))
    wrong = [m for m in found.matches if m.certain and not all(torch.equal(out[key], state[key]) for key in m.model)]
    assert (wrong, any(match.certain for match in found.matches)) == ([], True)


@ALL
def test_numbers_show_all_that_the_filter_does(name):
    made, state = original(name)
    found = settled(name)
    out = dict(found.mapping.apply(dict(made)))
    assert [key for key in out if not torch.equal(out[key], state[key])] == []
    assert set(found.missing_keys) == ({"head.bias"} if name == "openai" else set())


@ALL
def test_an_emitted_filter_loads_the_original_into_timms_model(name, tmp_path):
    made, state = original(name)
    function = emitted(name)
    torch.save(made, tmp_path / "original.pth")
    model = build(name)
    missing = {"head.bias"} if name == "openai" else set()
    left = load_checkpoint(model, str(tmp_path / "original.pth"), filter_fn=function, strict=not missing)
    assert (set(left.missing_keys), left.unexpected_keys) == (missing, [])
    assert same({**model.state_dict(), **{key: state[key] for key in missing}}, state)


@ALL
def test_an_emitted_filter_passes_what_timm_itself_has_saved(name, tmp_path):
    _, state = original(name)
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    model = build(name)
    load_checkpoint(model, str(tmp_path / "own.pth"), filter_fn=emitted(name), strict=True)
    assert same(model.state_dict(), state)


@ALL
def test_timms_own_filter_is_read_by_what_it_does(name):
    made, state = original(name)
    whole = CASES[name][5](dict(made))
    function = partial(import_module(f"timm.models.{CASES[name][2]}").checkpoint_filter_fn, model=build(name))
    found = read_mapping(function, "timm", whole)
    assert found.unread == {
        "openai": (("head.bias", "it is made of nothing that the checkpoint holds"),),
        "dinov2": (("mask_token", "it is dropped"),),
    }.get(name, ())
    out = dict(found.mapping.apply(dict(made)))
    assert same(out, {key: state[key] for key in state if (name, key) != ("openai", "head.bias")})


def emitted(name):
    scope = {}
    exec(emit(settled(name).mapping, "timm", checkpoint=read_tree(original(name)[0])), scope)
    return scope["checkpoint_filter_fn"]


def test_an_emitted_filter_builds_a_pretrained_model(tmp_path):
    """Through `create_model(pretrained=True)`, which calls the filter that a model is registered with."""
    from timm.models._builder import build_model_with_cfg
    from timm.models.convnext import ConvNeXt

    made, state = original("convnext")
    torch.save(made, tmp_path / "original.pth")
    config = {"file": str(tmp_path / "original.pth"), "num_classes": 5, "classifier": "head.fc"}
    model = build_model_with_cfg(
        ConvNeXt,
        "convnext_atto",
        True,
        pretrained_cfg=config,
        pretrained_filter_fn=emitted("convnext"),
        conv_mlp=True,
        **STAGES,
    )
    assert same(model.state_dict(), state)
