"""The code beside which entries of the table of layouts are checked: small models of each library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from derive_layouts import Attention, Check, Gate

Made = tuple[torch.nn.Module, Any]
TOKENS = torch.arange(6).reshape(1, 6)


def timm_model(name: str, size: int = 32, **options: Any) -> Callable[[], Made]:
    """A small model of timm that gives all its tokens."""

    def make() -> Made:
        import timm

        model = timm.create_model(name, pretrained=False, img_size=size, **options)
        model.forward = model.forward_features
        return model, (torch.rand(2, 3, size, size, dtype=torch.float64),)

    return make


def hf(name: str, **options: Any) -> Callable[[], Made]:
    """The base model of transformers of this configuration class."""

    def make() -> Made:
        import transformers

        sizes = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 32}
        config = getattr(transformers, name)(**{**sizes, "attn_implementation": "eager", **options})
        return transformers.AutoModel.from_config(config), {"input_ids": TOKENS}

    return make


def sam() -> Made:
    """The image encoder of SAM."""
    from segment_anything.modeling import ImageEncoderViT

    model = ImageEncoderViT(
        32, 8, embed_dim=48, depth=1, num_heads=4, out_chans=16, use_rel_pos=False, global_attn_indexes=(0,)
    )
    return model, (torch.rand(2, 3, 32, 32, dtype=torch.float64),)


def torchvision_model(name: str, **options: Any) -> Callable[[], Made]:
    """A small model of torchvision that gives what stands before its head."""

    def make() -> Made:
        import torchvision

        model = getattr(torchvision.models, name)(**options)
        return model, (torch.rand(2, 3, 32, 32, dtype=torch.float64),)

    return make


def torchvision_swin_v2() -> Made:
    """The same with the blocks of Swin v2."""
    from torchvision.models import swin_transformer as library

    return torchvision_model(
        "SwinTransformer", **TORCHVISION, window_size=[4, 4], block=library.SwinTransformerBlockV2
    )()


def fair_esm() -> Made:
    """ESM-2 of its authors."""
    from esm.model.esm2 import ESM2

    model = ESM2(num_layers=1, embed_dim=48, attention_heads=4, token_dropout=False)
    forward = model.forward
    model.forward = lambda tokens: forward(tokens)["logits"]
    return model, (4 + TOKENS,)


def torch_attention() -> Made:
    """An attention of torch over its own inputs."""
    x = torch.rand(2, 5, 48, dtype=torch.float64)
    return torch.nn.MultiheadAttention(48, 4, batch_first=True), (x, x, x)


def torch_decoder() -> Made:
    """A layer as DETR has them, both sequences given."""
    x = torch.rand(2, 5, 48, dtype=torch.float64)
    return torch.nn.TransformerDecoderLayer(48, 4, 64, batch_first=True), (x, x)


def open_clip_text() -> Made:
    """The text tower of CLIP as open_clip has it."""
    from open_clip.transformer import TextTransformer

    model = TextTransformer(context_length=6, vocab_size=32, width=48, heads=4, layers=1, output_dim=16)
    return model, (TOKENS,)


def bark() -> Made:
    """The causal model of Bark."""
    from transformers import BarkSemanticConfig
    from transformers.models.bark.modeling_bark import BarkCausalModel

    sizes = {"hidden_size": 48, "num_heads": 4, "num_layers": 1, "input_vocab_size": 32, "output_vocab_size": 32}
    config = BarkSemanticConfig(**sizes, block_size=16, bias=True, attn_implementation="eager")
    return BarkCausalModel(config), {"input_ids": TOKENS}


def litgpt_model(**options: Any) -> Callable[[], Made]:
    """A small model of litgpt."""

    def make() -> Made:
        from litgpt import GPT, Config

        sizes = {"n_layer": 1, "n_head": 4, "n_embd": 48, "block_size": 16, "vocab_size": 32, "padded_vocab_size": 32}
        return GPT(Config(name="x", rotary_percentage=1.0, **{**sizes, **options})), (TOKENS,)

    return make


def fms_model(package: str, name: str, config: str, **options: Any) -> Callable[[], Made]:
    """A small model of ibm-fms."""

    def make() -> Made:
        module = import_module(f"fms.models.{package}")
        sizes = {"src_vocab_size": 32, "emb_dim": 48, "nheads": 4, "nlayers": 1, "hidden_grow_factor": 2.0}
        return getattr(module, name)(getattr(module, config)(**{**sizes, **options})), (TOKENS,)

    return make


def torchtune_model(package: str) -> Callable[[], Made]:
    """A small model of torchtune."""

    def make() -> Made:
        build = getattr(import_module(f"torchtune.models.{package}"), package)
        return build(vocab_size=32, num_layers=1, num_heads=4, num_kv_heads=2, embed_dim=48, max_seq_len=16,
                     intermediate_dim=64), (TOKENS,)  # fmt: skip

    return make


VIT: dict[str, Any] = {"patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 4}
SWIN: dict[str, Any] = {"patch_size": 4, "embed_dim": 48, "depths": (1,), "num_heads": (4,), "window_size": 4}
LLAMA: dict[str, Any] = {"intermediate_size": 64, "num_key_value_heads": 2, "pad_token_id": 0}


def fused(path: str, groups: int = 4, turned: int = 0, columns: bool = False) -> Attention:
    """One fused leaf of four heads of twelve rows."""
    return Attention((path,), 4, groups, 12, turned, columns)


def apart(path: str, q: str, k: str, groups: int) -> Attention:
    """q and k apart, four heads of twelve rows."""
    return Attention((f"{path}.{q}", f"{path}.{k}"), 4, groups, 12)


TORCHVISION: dict[str, Any] = {"patch_size": [4, 4], "embed_dim": 48, "depths": [2], "num_heads": [4]}
MAXVIT: dict[str, Any] = {
    "input_size": (32, 32),
    "stem_channels": 8,
    "partition_size": 4,
    "block_channels": [48],
    "block_layers": [1],
    "head_dim": 12,
    "stochastic_depth_prob": 0.0,
}
FMS = "base_model.layers.0"
ALBERT = apart("encoder.albert_layer_groups.0.albert_layers.0.attention", "query", "key", 4)

CHECKS = (
    Check("timm ViT", timm_model("vit_tiny_patch16_224", **VIT), fused("blocks.0.attn.qkv")),
    Check("timm BEiT", timm_model("beit_base_patch16_224", **VIT), fused("blocks.0.attn.qkv")),
    Check(
        "ViT with biases of q and v apart",
        timm_model("beit_base_patch16_224", **VIT, use_rel_pos_bias=False),
        fused("blocks.0.attn.qkv"),
    ),
    Check("Swin", timm_model("swin_tiny_patch4_window7_224", **SWIN), fused("layers.0.blocks.0.attn.qkv")),
    Check(
        "Swin v2",
        timm_model("swinv2_tiny_window8_256", **SWIN),
        replace(fused("layers.0.blocks.0.attn.qkv"), cosine=True),
    ),
    Check(
        "torchvision Swin",
        torchvision_model("SwinTransformer", **TORCHVISION, window_size=[4, 4]),
        fused("features.1.0.attn.qkv"),
    ),
    Check("torchvision Swin v2", torchvision_swin_v2, replace(fused("features.1.0.attn.qkv"), cosine=True)),
    Check(
        "torchvision MaxViT",
        torchvision_model("MaxVit", **MAXVIT),
        fused("blocks.0.layers.0.layers.window_attention.attn_layer.1.to_qkv"),
    ),
    Check("fair-esm, ESM-2", fair_esm, apart("layers.0.self_attn", "q_proj", "k_proj", 4)),
    Check(
        "transformers, ESM that turns rows",
        hf("EsmConfig", position_embedding_type="rotary", vocab_size=33, pad_token_id=1, mask_token_id=32),
        apart("encoder.layer.0.attention.self", "query", "key", 4),
    ),
    Check("SAM's image encoder", sam, fused("blocks.0.attn.qkv")),
    Check("torch MultiheadAttention", torch_attention, fused("in_proj")),
    Check("DETR's transformer", torch_decoder, fused("self_attn.in_proj")),
    Check("OpenAI's CLIP", open_clip_text, fused("transformer.resblocks.0.attn.in_proj")),
    Check("GPT-2", hf("GPT2Config"), fused("h.0.attn.c_attn", columns=True)),
    Check("GPT-NeoX", hf("GPTNeoXConfig", rotary_pct=1.0), fused("layers.0.attention.query_key_value")),
    Check("BLOOM", hf("BloomConfig"), fused("h.0.self_attention.query_key_value")),
    Check(
        "Falcon with groups",
        hf("FalconConfig", new_decoder_architecture=True, num_kv_heads=2, bias=True),
        fused("h.0.self_attention.query_key_value", 2),
    ),
    Check("MPT", hf("MptConfig", d_model=48, n_heads=4, n_layers=1), fused("blocks.0.attn.Wqkv")),
    Check(
        "Phi-3",
        hf("Phi3Config", **LLAMA),
        fused("layers.0.self_attn.qkv_proj", 2),
        (Gate("layers.0.mlp.gate_up_proj", "layers.0.mlp.down_proj"),),
    ),
    Check(
        "transformers' experts",
        hf("MixtralConfig", **LLAMA, num_local_experts=2, experts_implementation="eager"),
        gates=(Gate("layers.0.mlp.experts.gate_up_proj", "layers.0.mlp.experts.down_proj"),),
    ),
    Check(
        "transformers' gate and up in one",
        hf("GlmConfig", **LLAMA, head_dim=12),
        gates=(Gate("layers.0.mlp.gate_up_proj", "layers.0.mlp.down_proj"),),
    ),
    Check(
        "transformers, halves turned", hf("LlamaConfig", **LLAMA), apart("layers.0.self_attn", "q_proj", "k_proj", 2)
    ),
    Check(
        "transformers, neighbours turned",
        hf("HeliumConfig", **LLAMA, head_dim=12),
        apart("layers.0.self_attn", "q_proj", "k_proj", 2),
    ),
    Check(
        "transformers, attention that nothing turns",
        hf("BertConfig"),
        apart("encoder.layer.0.attention.self", "query", "key", 4),
    ),
    Check(
        "fms",
        fms_model("llama", "LLaMA", "LLaMAConfig", kvheads=2, multiple_of=2, fused_weights=True),
        fused(f"{FMS}.attn.in_proj.qkv_fused", 2),
        (Gate(f"{FMS}.ff_sub_layer.wg1_fused", f"{FMS}.ff_sub_layer.w2"),),
    ),
    Check(
        "fms",
        fms_model("llama", "LLaMA", "LLaMAConfig", kvheads=2, multiple_of=2, fused_weights=False),
        apart(f"{FMS}.attn.in_proj", "query", "key", 2),
    ),
    Check(
        "fms with learned positions",
        fms_model("gpt_bigcode", "GPTBigCode", "GPTBigCodeConfig", fused_weights=False),
        apart(f"{FMS}.attn.in_proj", "query", "key", 1),
    ),
    Check(
        "fms, encoders",
        fms_model("roberta", "RoBERTa", "RoBERTaConfig", max_pos=16, fused_weights=False),
        apart(f"{FMS}.attn.in_proj", "query", "key", 4),
    ),
    Check("torchtune", torchtune_model("llama3"), apart("layers.0.attn", "q_proj", "k_proj", 2)),
    Check("torchtune, Qwen 2", torchtune_model("qwen2"), apart("layers.0.attn", "q_proj", "k_proj", 2)),
    Check("torchtune, Phi-3", torchtune_model("phi3"), apart("layers.0.attn", "q_proj", "k_proj", 2)),
    Check("transformers, ALBERT", hf("AlbertConfig", embedding_size=48), ALBERT),
    Check("transformers, Bark", bark, fused("layers.0.attn.att_proj")),
    Check("litgpt", litgpt_model(n_query_groups=2), fused("transformer.h.0.attn.qkv", 2)),
)
