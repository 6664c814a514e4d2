"""Decoys: plausible and wrong. What is certain is true of each of them; the rest is listed."""

from __future__ import annotations

import pytest
from aligning import certain_links, tree
from hypothesis import given, settings
from real_models import tiny
from real_renames import DECODER, TEXT, VISION
from strategies import renamed_modules
from torch import device

from treealign import read_tree, suggest
from treealign.align.alignment import align

REST = {"head.weight": (2, 4), "head.bias": (2,)}  # what nobody could mistake


def attention(prefix, names, shape=(4, 4)):
    return {f"{prefix}.{name}.weight": shape for name in names}


def layers(prefix, names, shape=(4, 4), numbers=range(3)):
    return {f"{prefix}.{i}.{name}.weight": shape for i in numbers for name in names}


def experts(numbers, names=("w1",), shape=(6, 4)):
    return {f"moe.experts.{j}.{name}.weight": shape for j in numbers for name in names}


QKV = ("q_proj", "k_proj", "v_proj")
TOWER = ("q_proj", "k_proj", "fc1")

# kind: checkpoint, model, and what may be certain beside REST: key of the checkpoint to key of the model; nothing else
KINDS = {
    "concat: parts whose names give no order": (
        attention("attn", ("aaa", "bbb", "ccc")),
        {"attn.fused.weight": (12, 4)},
        {},
    ),
    "split: a fused name that spells nothing": ({"attn.fused.weight": (12, 4)}, attention("attn", QKV), {}),
    "split: a whole of another order": ({"attn.vqk.weight": (12, 4)}, {"attn.qkv.weight": (12, 4)}, {}),
    "concat: gate after up": ({"mlp.up_gate.weight": (8, 4)}, {"mlp.gate_up.weight": (8, 4)}, {}),
    "concat: a vocabulary and its extension": (
        {"wte.embedding": (40, 4), "wte.new_embedding": (4, 4)},
        {"embed_tokens.weight": (44, 4)},
        {},
    ),
    "stack: experts whose names give no order": (
        {f"moe.{n}.w1.weight": (6, 4) for n in ("cat", "dog")},
        {"moe.experts.w1": (2, 6, 4)},
        {},
    ),
    "stack: too many experts": (experts(range(5)), {"moe.experts.w1": (4, 6, 4)}, {}),
    "unstack: layers that may be towers": ({"blocks.w": (2, 4, 4)}, attention("net", ("one", "two")), {}),
    "permute: more than one way": ({"conv.weight": (4, 4, 3)}, {"conv.weight": (3, 4, 4)}, {}),
    "permute: a square matrix among transposed ones": (
        {
            "h.0.c_fc.weight": (4, 8),
            "h.0.c_proj.weight": (8, 4),
            "h.0.c_attn.weight": (4, 12),
            "h.0.out.weight": (4, 4),
        },
        {
            "h.0.c_fc.weight": (8, 4),
            "h.0.c_proj.weight": (4, 8),
            "h.0.c_attn.weight": (12, 4),
            "h.0.out.weight": (4, 4),
        },
        {"h.0.c_fc.weight": "h.0.c_fc.weight", "h.0.c_proj.weight": "h.0.c_proj.weight"},
    ),
    "reshape: heads and parts in either order": ({"attn.qkv.weight": (12, 4)}, {"attn.qkv.weight": (3, 4, 4)}, {}),
    "interleave: rows that may take turns": (
        {"mlp.w13.weight": (8, 4)},
        {"mlp.gate_up_proj.weight": (8, 4)},
        {},
    ),
    "rotary: rows of q and k": (
        layers("layers", ("attention.wq", "attention.wk", "attention.wv")),
        layers("layers", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        {f"layers.{i}.attention.wv.weight": f"layers.{i}.self_attn.v_proj.weight" for i in range(3)},
    ),
    "select: experts of two towers in one list": (
        experts(range(4)),
        {"text_moe.w1": (2, 6, 4), "vision_moe.w1": (2, 6, 4)},
        {},
    ),
    "fold: lengths of other directions": (
        {"a.weight_g": (8, 1), "a.weight_v": (8, 4), "b.weight_g": (8, 1), "b.weight_v": (8, 4)},
        {"x.weight": (8, 4), "y.weight": (8, 4)},
        {},
    ),
    "trim: a vocabulary without its padding": ({"embed.weight": (128, 4)}, {"embed.weight": (100, 4)}, {}),
}
NAMES = {
    "two norms": (
        layers("layers", ("norm_a", "norm_b"), (4,)),
        layers("layers", ("input_layernorm", "post_attention_layernorm"), (4,)),
        {},
    ),
    "q and k under words of no meaning": (attention("attn", ("first", "second")), attention("attn", QKV[:2]), {}),
    "v where the other side has o": (
        attention("attn", QKV),
        attention("attn", ("q_proj", "k_proj", "o_proj")),
        {f"attn.{n}_proj.weight": f"attn.{n}_proj.weight" for n in "qk"},
    ),
    "two linear layers against gate and up": (
        {f"mlp.linear_{n}.weight": (8, 4) for n in (1, 2)},
        {f"mlp.{n}_proj.weight": (8, 4) for n in ("up", "gate")},
        {},
    ),
    "crossed names of two towers": (
        layers("text_model", TOWER) | layers("vision_model", TOWER),
        layers("vision_tower", TOWER) | layers("language_model", TOWER),
        {
            f"{old}.{i}.{n}.weight": f"{new}.{i}.{n}.weight"
            for old, new in (("text_model", "language_model"), ("vision_model", "vision_tower"))
            for i in range(3)
            for n in TOWER
        },
    ),
    "two towers of no names, defined in the opposite order": (
        layers("foo", TOWER) | layers("bar", TOWER),
        layers("alice", TOWER) | layers("bob", TOWER),
        {},
    ),
    "an averaged copy alone": (
        {f"ema.{key}": shape for key, shape in attention("attn", QKV).items()},
        attention("attn", QKV),
        {},
    ),
    "an averaged copy beside the weights": (
        {f"{p}.{key}": shape for p in ("model", "model_ema") for key, shape in attention("attn", QKV).items()},
        attention("attn", QKV),
        {f"model.attn.{n}.weight": f"attn.{n}.weight" for n in QKV},
    ),
    "a student and a teacher": (
        {f"{p}.{key}": shape for p in ("student", "teacher") for key, shape in attention("attn", QKV).items()},
        attention("attn", QKV),
        {f"student.attn.{n}.weight": f"attn.{n}.weight" for n in QKV},
    ),
    "the first layers of more": (
        layers("layers", TOWER, numbers=range(4)),
        layers("layers", TOWER),
        {f"layers.{i}.{n}.weight": f"layers.{i}.{n}.weight" for i in range(3) for n in TOWER},
    ),
    "layers without the first": (
        layers("layers", TOWER, numbers=(1, 2)),
        layers("layers", TOWER),
        {f"layers.{i}.{n}.weight": f"layers.{i}.{n}.weight" for i in (1, 2) for n in TOWER},
    ),
    "layers counted from one": (
        layers("layers", TOWER, numbers=(1, 2, 3)),
        layers("layers", TOWER),
        {f"layers.{i + 1}.{n}.weight": f"layers.{i}.{n}.weight" for i in range(3) for n in TOWER},
    ),
    "an encoder for a decoder": (layers("encoder", TOWER), layers("decoder", TOWER), {}),
    "generator and discriminator": (
        layers("generator", TOWER) | layers("discriminator", TOWER),
        layers("discriminator", TOWER),
        {f"discriminator.{i}.{n}.weight": f"discriminator.{i}.{n}.weight" for i in range(3) for n in TOWER},
    ),
}
REAL = {
    "llama": tiny("LlamaForCausalLM", **DECODER),
    "bert": tiny("BertForMaskedLM", **TEXT),
    "vit": tiny("ViTModel", **VISION),
    "t5": tiny("T5Model", vocab_size=40, d_model=16, d_ff=24, d_kv=8, num_layers=2, num_heads=2),
    "gpt2": tiny("GPT2LMHeadModel", vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32),
}


def certain_beside_rest(checkpoint, model, ordered):
    found = suggest(tree(checkpoint | REST, ordered=ordered), tree(model | REST, ordered=True))
    return {m.checkpoint: m.model for m in found.matches if m.certain and not REST.keys() & set(m.checkpoint)}


@pytest.mark.parametrize("ordered", [False, True], ids=["sorted", "in order of definition"])
@pytest.mark.parametrize("case", [*KINDS.values(), *NAMES.values()], ids=[*KINDS, *NAMES])
def test_a_decoy_is_never_taken_with_certainty(case, ordered):
    checkpoint, model, truth = case
    certain = certain_beside_rest(checkpoint, model, ordered)
    assert {k: v for k, v in certain.items() if v != (truth.get(k[0]),)} == {}


@pytest.mark.parametrize("name", REAL)
def test_a_real_tree_under_random_names_is_never_silently_wrong(name):
    with device("meta"):
        model = read_tree(REAL[name]())
    kept = [(leaf.key, leaf.shape, leaf.dtype) for leaf in model.leaves if leaf.key not in model.tied]

    @settings(max_examples=15, deadline=None)
    @given(renamed_modules([key for key, *_ in kept]))
    def check(names):
        checkpoint = tree([(names[key], shape, dtype) for key, shape, dtype in kept])
        wrong = {k: v for k, v in certain_links(align(checkpoint, model)).items() if names[v] != k}
        assert wrong == {}

    check()
