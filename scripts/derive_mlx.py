"""Check what the table of layouts says of MLX and of InternLM2 by running MLX's models beside those of transformers.

    python scripts/derive_mlx.py

Small models of transformers get random numbers; these go into a model of mlx-lm or mlx-whisper as the table says, and
both must give the same outputs. mlx-lm's own `sanitize` is run for experts. Needs mlx (on Linux: mlx and mlx-cpu),
mlx-lm and mlx-whisper; exits 1 where anything differs.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers

from treealign import suggest
from treealign.mapping.operations import Permute
from treealign.tree.keytree import KeyTree

HEADS, GROUPS, SIZE, WIDTH = 4, 2, 8, 32
WITHIN = 1e-3
Tensors = dict[str, torch.Tensor]


def tree(tensors: Tensors) -> KeyTree:
    """Names and shapes."""
    return KeyTree.from_leaves([(key, tuple(tensor.shape), "float32") for key, tensor in tensors.items()])


def mlx_tensors(model: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model of MLX."""
    from mlx.utils import tree_flatten

    return {key: tuple(array.shape) for key, array in tree_flatten(model.parameters())}


def load(model: Any, tensors: Tensors) -> None:
    """Put tensors into a model of MLX."""
    import mlx.core as mx

    model.load_weights([(key, mx.array(tensor.numpy())) for key, tensor in tensors.items()], strict=False)


def differ(a: Any, b: torch.Tensor) -> float:
    """How far outputs are apart, beside their size."""
    array = torch.from_numpy(np.array(a, dtype=np.float32))
    return float((array - b).abs().max() / b.abs().max())


def internlm2() -> float:
    """The rows of `wqkv`: of each group the heads of q, then k, then v; halves turned, as in transformers' Llama."""
    import mlx.core as mx

    internlm = importlib.import_module("mlx_lm.models.internlm2")
    size: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 72, "num_hidden_layers": 2, "vocab_size": 96}
    size |= {"num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "rope_theta": 10000.0, "rms_norm_eps": 1e-6}
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, tie_word_embeddings=False)).eval()
    made = internlm.Model(
        internlm.ModelArgs(model_type="internlm2", **size, rope_traditional=False, rope_scaling=None, bias=False,
                           tie_word_embeddings=False, max_position_embeddings=64)
    )  # fmt: skip
    held, found = llama.state_dict(), {}
    names = {"tok_embeddings": "embed_tokens", "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj"}
    names |= {
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "ffn_norm": "post_attention_layernorm",
    }
    names |= {"attention_norm": "input_layernorm"}
    for key in mlx_tensors(made):
        if key.endswith("wqkv.weight"):
            at = key.removesuffix("attention.wqkv.weight") + "self_attn."
            q, k, v = (held[f"{at}{part}_proj.weight"].reshape(GROUPS, -1, SIZE, WIDTH) for part in "qkv")
            found[key] = torch.cat([q, k, v], 1).reshape(-1, WIDTH)
            continue
        other = "lm_head.weight" if key == "output.weight" else key
        for mine, theirs in names.items():
            other = other.replace(mine, theirs)
        found[key] = held[other]
    load(made, found)
    tokens = torch.arange(9)[None] * 7 % 96
    with torch.no_grad():
        return differ(made(mx.array(tokens.numpy())), llama(tokens).logits)


def whisper() -> float:
    """Names of MLX's Whisper, convolutions with their inputs last: as `suggest` reads them."""
    import mlx.core as mx

    package = importlib.import_module("mlx_whisper.whisper")
    made = package.Whisper(package.ModelDimensions(80, 40, WIDTH, HEADS, 2, 96, 30, WIDTH, HEADS, 2), mx.float32)
    size: dict[str, Any] = {"d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 96}
    size |= {"encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": 4 * WIDTH}
    size |= {"decoder_ffn_dim": 4 * WIDTH, "max_source_positions": 40, "max_target_positions": 30, "num_mel_bins": 80}
    size |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = transformers.WhisperModel(transformers.WhisperConfig(**size)).eval()
    held = dict(model.state_dict())
    there = {key: torch.zeros(shape) for key, shape in mlx_tensors(made).items() if key != "alignment_heads"}
    suggestion = suggest(tree(held), tree(there))
    print(f"  Whisper: {len(suggestion.questions)} questions, {len(suggestion.matches)} matches")
    load(made, dict(suggestion.mapping.accept().apply(held)))
    sound = torch.rand(1, 80, 80, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(7)[None] * 11 % 96
    with torch.no_grad():
        truth = model(sound, decoder_input_ids=tokens).last_hidden_state @ model.decoder.embed_tokens.weight.T
    encoded = made.encoder(mx.array(sound.transpose(1, 2).numpy()))
    return differ(made.decoder(mx.array(tokens.numpy()), encoded)[0], truth)


def experts() -> float:
    """mlx-lm's own stacking of experts: `switch_mlp` of Mixtral and of Qwen 3, one expert after the other."""
    import mlx.core as mx

    worst = 0.0
    for package, block, parts in (
        ("mixtral", "block_sparse_moe", {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}),
        ("qwen3_moe", "mlp", {name: name for name in ("gate_proj", "down_proj", "up_proj")}),
    ):
        module = importlib.import_module(f"mlx_lm.models.{package}")
        shapes = {part: (8, 12) if name == "down_proj" else (12, 8) for part, name in parts.items()}
        held = {
            f"model.layers.0.{block}.experts.{i}.{part}.weight": torch.randn(shapes[part])
            for i in range(3)
            for part in parts
        }
        args = type(
            "Args", (), {"tie_word_embeddings": False, "num_hidden_layers": 1, "num_local_experts": 3, "num_experts": 3}
        )
        made = module.Model.sanitize(
            type("Self", (), {"args": args})(), {k: mx.array(t.numpy()) for k, t in held.items()}
        )
        for part, name in parts.items():
            stacked = torch.stack([held[f"model.layers.0.{block}.experts.{i}.{part}.weight"] for i in range(3)])
            worst = max(worst, differ(made[f"model.layers.0.{block}.switch_mlp.{name}.weight"], stacked))
    return worst


def convolutions() -> float:
    """Convolutions of MLX have their inputs last, behind the window."""
    import mlx.core as mx
    from mlx import nn

    worst, last_first = 0.0, (Permute((0, 2, 1)), Permute((0, 2, 3, 1)))
    for torch_conv, mlx_conv, image, turn in (
        (torch.nn.Conv1d(4, 6, 3), nn.Conv1d(4, 6, 3), torch.randn(1, 4, 9), last_first[0]),
        (torch.nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3), torch.randn(1, 4, 9, 9), last_first[1]),
    ):
        mlx_conv.weight = mx.array(torch_conv.weight.detach().permute(turn.dims).contiguous().numpy())
        mlx_conv.bias = mx.array(torch_conv.bias.detach().numpy())
        out = mlx_conv(mx.array(image.permute(turn.dims).contiguous().numpy()))
        with torch.no_grad():
            worst = max(worst, differ(out, torch_conv(image).permute(turn.dims)))
    return worst


CHECKS: Mapping[str, Callable[[], float]] = {
    "InternLM2": internlm2,
    "MLX's Whisper": whisper,
    "MLX's experts": experts,
    "MLX's convolutions": convolutions,
}


def main() -> int:
    """Run all."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    failed = 0
    for name, run in CHECKS.items():
        apart = run()
        failed += not apart < WITHIN
        print(f"{name:20} {'agree' if apart < WITHIN else 'DIFFER'} {apart:.0e}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
