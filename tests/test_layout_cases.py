"""What users bring from one library to another, settled by what is known of both: ten cases, each run on numbers."""

from __future__ import annotations

import pytest
import torch
from cases import read_cases
from numbering import computes

from treealign import suggest

D, F, EXPERTS, LAYERS = 16, 40, 3, 4


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("real_vision", "resnet18_pytorchcv__hf"),
        ("real_vision", "mobilenet_w1_pytorchcv__hf"),
        ("real_vision", "regnet_y_torchvision__hf"),
        ("real_vision", "swin_t_torchvision__hf"),
        ("real_vision", "squeezenet_torchvision__pytorchcv"),
        ("real_text", "dac_descript__hf"),
        ("originals", "rwkv4_blinkdl__hf"),
        ("real_text", "hf__gguf_glm4"),
        ("converters", "git_authors__hf"),
        ("converters", "mlx_mixtral__hf"),
        ("converters", "tl__qwen3_hf"),
        ("converters", "fairseq2_qwen2__hf"),
        ("converters", "mnasnet_pytorchcv__timm"),
    ],
)
def test_a_library_that_is_known_needs_no_answer(corpus, name):
    (case,) = read_cases(corpus, name)
    suggestion = suggest(*case.trees(False))
    groups = {frozenset(group.checkpoint): group for group in case.groups}
    assert not suggestion.questions
    assert all(match.certain for match in suggestion.matches)
    assert {frozenset(match.checkpoint) for match in suggestion.matches} == groups.keys()
    assert not any(computes(m, groups[frozenset(m.checkpoint)], case) is False for m in suggestion.matches)


def test_norms_that_a_library_writes_plus_one_are_open_where_only_its_names_tell():
    """TransformerLens adds one to Gemma's norms and scales its embedding; its files say nothing of it."""
    (case,) = read_cases("real_text", "tl__gemma_hf")
    opened = {key for m in suggest(*case.trees(False)).matches if not m.certain for key in m.model}
    assert opened == {k for k in case.trees(False)[1].keys if "norm" in k or "embed_tokens" in k}


def numbered(shapes):
    """Tensors no two elements of which are equal."""
    found, start = {}, 0
    for key, shape in shapes.items():
        size = int(torch.tensor(shape).prod())
        found[key] = torch.arange(start, start + size, dtype=torch.float64).reshape(shape)
        start += size
    return found


def linears(layers):
    return {f"{path}.weight": shape for path, shape in layers.items()} | {
        f"{path}.bias": shape[:1] for path, shape in layers.items()
    }


def made_and_certain(checkpoint, truth):
    """The keys that come out as they should, and those that are certain."""
    suggestion = suggest(checkpoint, {key: torch.zeros_like(tensor) for key, tensor in truth.items()})
    made = dict(suggestion.mapping.accept().apply(dict(checkpoint)))
    right = {key for key, tensor in truth.items() if key in made and made[key].equal(tensor)}
    return right, {key for match in suggestion.matches if match.certain for key in match.model}


HUNYUAN = {"attn1.Wqkv": (3 * D, D), "attn1.out_proj": (D, D), "attn2.q_proj": (D, D), "attn2.kv_proj": (2 * D, 20)}
HUNYUAN |= {"attn2.out_proj": (D, D), "default_modulation.1": (D, D), "mlp.fc1": (F, D), "mlp.fc2": (D, F)}
HUNYUAN |= {"norm1": (D,), "norm2": (D,), "norm3": (D,)}
DIFFUSERS = {"attn1.out_proj": "attn1.to_out.0", "attn2.q_proj": "attn2.to_q", "attn2.out_proj": "attn2.to_out.0"}
DIFFUSERS |= {"default_modulation.1": "norm1.linear", "mlp.fc1": "ff.net.0.proj", "mlp.fc2": "ff.net.2"}
DIFFUSERS |= {"norm1": "norm1.norm", "norm2": "norm3", "norm3": "norm2"}
ENDS = {"x_embedder.proj": (D, 4, 2, 2), "mlp_t5.0": (64, 32), "mlp_t5.2": (20, 64), "final_layer.linear": (32, D)}
RENAMED = {
    "x_embedder.proj": "pos_embed.proj",
    "mlp_t5.0": "text_embedder.linear_1",
    "mlp_t5.2": "text_embedder.linear_2",
}
RENAMED |= {"final_layer.linear": "proj_out"}


def test_norms_that_trade_their_names_between_two_libraries_do_so():
    """HunyuanDiT's `norm2` stands before the feed forward, diffusers' before the cross attention."""
    shapes = linears(ENDS | {f"blocks.{n}.{path}": shape for n in range(LAYERS) for path, shape in HUNYUAN.items()})
    shapes |= linears({"final_layer.adaLN_modulation.1": (2 * D, D)}) | {"pooler.positional_embedding": (9, 32)}
    checkpoint, truth = numbered(shapes), {}
    for key, tensor in checkpoint.items():
        path, _, leaf = key.rpartition(".")
        block, name = ".".join(path.split(".")[:2]), ".".join(path.split(".")[2:])
        if path in RENAMED:
            truth[f"{RENAMED[path]}.{leaf}"] = tensor
        elif path.startswith("final_layer"):  # a shift and a scale there, a scale and a shift here
            truth[f"norm_out.linear.{leaf}"] = tensor.roll(D, 0)
        elif name in DIFFUSERS:
            truth[f"{block}.{DIFFUSERS[name]}.{leaf}"] = tensor
        elif name:
            attention, parts = (block + ".attn1", "qkv") if name == "attn1.Wqkv" else (block + ".attn2", "kv")
            truth |= {f"{attention}.to_{p}.{leaf}": part for p, part in zip(parts, tensor.split(D), strict=True)}
    truth["time_extra_emb.pooler.positional_embedding"] = checkpoint["pooler.positional_embedding"]
    right, certain = made_and_certain(checkpoint, truth)
    assert (right, certain) == (truth.keys(), truth.keys())


def internlm2():
    """Eight rows a head, four heads of q and two of k and v."""
    names = {
        "attention.wo": "self_attn.o_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    names |= {"feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj"}
    shapes = {
        "attention.wqkv": (64, 32),
        "attention.wo": (32, 32),
        "feed_forward.w1": (F, 32),
        "feed_forward.w2": (32, F),
    }
    shapes |= {"feed_forward.w3": (F, 32), "attention_norm": (32,), "ffn_norm": (32,)}
    ends = {"model.tok_embeddings.weight": (96, 32), "model.norm.weight": (32,), "output.weight": (90, 32)}
    layers = {f"model.layers.{n}.{name}.weight": shape for n in range(2) for name, shape in shapes.items()}
    checkpoint, truth = numbered(ends | layers), {}
    for key, tensor in checkpoint.items():
        at, _, name = key.removesuffix(".weight").partition(".attention.wqkv")[0], "", key
        if "wqkv" in key:
            heads = tensor.reshape(2, 4, 8, 32)
            parts = {"q": heads[:, :2], "k": heads[:, 2], "v": heads[:, 3]}
            truth |= {f"{at}.self_attn.{p}_proj.weight": part.reshape(-1, 32) for p, part in parts.items()}
            continue
        for mine, theirs in names.items():
            name = name.replace(f".{mine}.", f".{theirs}.")
        truth[name.replace("tok_embeddings", "embed_tokens").replace("output.", "lm_head.")] = tensor
    return checkpoint, truth


def test_rows_by_group_are_asked_for_by_the_size_of_a_head_alone():
    checkpoint, truth = internlm2()
    right, certain = made_and_certain(checkpoint, truth)
    assert {key for key in truth if "q_proj" not in key and "k_proj" not in key and "v_proj" not in key} <= certain
    assert certain <= right


def test_experts_that_mlx_has_stacked_are_taken_apart():
    shapes = {"gate_proj": (F, D), "up_proj": (F, D), "down_proj": (D, F)}
    experts = {
        f"model.layers.{n}.mlp.experts.{e}.{part}.weight": shape
        for n in range(2) for e in range(EXPERTS) for part, shape in shapes.items()
    }  # fmt: skip
    others = {"model.embed_tokens.weight": (90, D), "model.norm.weight": (D,)}
    others |= {f"model.layers.{n}.post_attention_layernorm.weight": (D,) for n in range(2)}
    others |= {f"model.layers.{n}.mlp.gate.weight": (EXPERTS, D) for n in range(2)}
    truth = numbered(experts | others)
    checkpoint = {key: truth[key] for key in others}
    for n in range(2):
        for part in shapes:
            members = [truth[f"model.layers.{n}.mlp.experts.{e}.{part}.weight"] for e in range(EXPERTS)]
            checkpoint[f"model.layers.{n}.mlp.switch_mlp.{part}.weight"] = torch.stack(members)
    right, certain = made_and_certain(checkpoint, truth)
    assert (right, certain) == (truth.keys(), truth.keys())
