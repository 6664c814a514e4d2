"""Pairs of real code that compute the same: what each is made by, and how each is called.

The first ones need torch, transformers and diffusers; those of timm are left out where it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VECTORS = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
MEMORY = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
Pair = tuple[Any, Any, Any]  # original, model, what calls them
PAIRS: dict[str, Callable[[], Pair]] = {}
TIMM: dict[str, Callable[[], Pair]] = {}
OUTSIDE: dict[str, Callable[[], Pair]] = {}  # filled by pairs_vision, pairs_text and pairs_audio


def first(result: Any) -> torch.Tensor:
    """The main tensor of what a layer returns."""
    return result[0] if isinstance(result, tuple) else result


def logits(module: nn.Module) -> torch.Tensor:
    return module(TOKENS).logits


def pair(make: Callable[[], Pair]) -> Callable[[], Pair]:
    PAIRS[make.__name__] = make
    return make


def outside(name: str) -> Callable[[Callable[[], Pair]], Callable[[], Pair]]:
    """Enter a pair that needs packages beside torch, transformers and diffusers under a name."""

    def enter(make: Callable[[], Pair]) -> Callable[[], Pair]:
        OUTSIDE[name] = make
        return make

    return enter


def timm_pair(name: str, config: str, head: str = "ForImageClassification", **wanted: Any) -> None:
    """A model of timm beside that of transformers, in small."""
    import transformers

    own = {key: wanted.pop(key) for key in list(wanted) if key.startswith("timm_")}
    settings = {key.removeprefix("timm_"): value for key, value in own.items()}

    def make() -> Pair:
        import timm

        made = getattr(transformers, f"{config}Config")(num_labels=7, **wanted)
        model = getattr(transformers, f"{config}{head}")(made)
        return timm.create_model(name, num_classes=7, **settings), model, lambda module: module(IMAGE)

    TIMM[name] = make


@pair
def torch_encoder_bert() -> Pair:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertEncoder

    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, layer_norm_eps=1e-5,
        attn_implementation="eager",
    )  # fmt: skip
    layer = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), BertEncoder(config), calls(VECTORS)


@pair
def torch_decoder_bart() -> Pair:
    from transformers import BartConfig
    from transformers.models.bart.modeling_bart import BartDecoderLayer

    config = BartConfig(d_model=32, decoder_attention_heads=2, decoder_ffn_dim=64, attn_implementation="eager")
    layer = nn.TransformerDecoderLayer(32, 2, 64, activation="gelu", batch_first=True)
    run = (
        lambda module: module(VECTORS, MEMORY),
        lambda module: first(module(VECTORS, encoder_hidden_states=MEMORY)),
    )
    return layer, BartDecoderLayer(config, layer_idx=0), run


@pair
def torch_encoder_vit() -> Pair:
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTLayer

    config = ViTConfig(
        hidden_size=32, num_attention_heads=2, intermediate_size=64, layer_norm_eps=1e-5, attn_implementation="eager"
    )
    layer = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True, norm_first=True)
    return layer, ViTLayer(config), calls(VECTORS)


@pair
def torch_attention_clip() -> Pair:
    from transformers import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPAttention

    config = CLIPVisionConfig(hidden_size=32, num_attention_heads=2, attn_implementation="eager")
    run = (lambda module: module(VECTORS, VECTORS, VECTORS)[0], lambda module: module(VECTORS)[0])
    return nn.MultiheadAttention(32, 2, batch_first=True), CLIPAttention(config), run


@pair
def torch_attention_diffusers() -> Pair:
    from diffusers.models.attention_processor import Attention

    run = (lambda module: module(VECTORS, VECTORS, VECTORS)[0], lambda module: module(VECTORS))
    return nn.MultiheadAttention(32, 2, batch_first=True), Attention(32, heads=2, dim_head=16, bias=True), run


@pair
def gpt2_bigcode() -> Pair:
    from transformers import GPT2Config, GPT2LMHeadModel, GPTBigCodeConfig, GPTBigCodeForCausalLM

    sizes = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    other = GPTBigCodeConfig(multi_query=False, activation_function="gelu_new", **sizes, **ends)
    return GPT2LMHeadModel(GPT2Config(**sizes, **ends)), GPTBigCodeForCausalLM(other), logits


@pair
def swiglu_phi3() -> Pair:
    from diffusers.models.attention import FeedForward
    from transformers import Phi3Config
    from transformers.models.phi3.modeling_phi3 import Phi3MLP

    config = Phi3Config(hidden_size=32, intermediate_size=64, pad_token_id=0)
    return FeedForward(32, mult=2, activation_fn="swiglu", bias=False), Phi3MLP(config), calls(VECTORS)


@pair
def convnext_dinov3() -> Pair:
    from transformers import ConvNextConfig, ConvNextModel, DINOv3ConvNextConfig, DINOv3ConvNextModel

    sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
    original = ConvNextModel(ConvNextConfig(layer_norm_eps=1e-6, **sizes))
    return original, DINOv3ConvNextModel(DINOv3ConvNextConfig(**sizes)), lambda module: module(IMAGE).pooler_output


@pair
def t5_gated_llama() -> Pair:
    from transformers import LlamaConfig, T5Config
    from transformers.models.llama.modeling_llama import LlamaMLP
    from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

    original = T5DenseGatedActDense(T5Config(d_model=32, d_ff=64, feed_forward_proj="gated-silu"))
    return original, LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=64)), calls(VECTORS)


def calls(inputs: torch.Tensor) -> Callable[[nn.Module], torch.Tensor]:
    return lambda module: first(module(inputs))


_VIT = {
    "timm_img_size": 64, "timm_depth": 2, "timm_embed_dim": 32, "timm_num_heads": 2, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128, "image_size": 64,
    "layer_norm_eps": 1e-6,
}  # fmt: skip
_SWIN = {
    "timm_img_size": 64, "timm_window_size": 2, "timm_depths": (2, 2), "timm_num_heads": (2, 4), "timm_embed_dim": 16,
    "image_size": 64, "window_size": 2, "depths": [2, 2], "num_heads": [2, 4], "embed_dim": 16,
}  # fmt: skip
_CONVNEXT = {
    "timm_depths": (1, 1, 2, 1), "timm_dims": (8, 16, 24, 32), "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]
}  # fmt: skip
timm_pair("vit_tiny_patch16_224", "ViT", **_VIT)
timm_pair("deit_tiny_distilled_patch16_224", "DeiT", "ForImageClassificationWithTeacher", **_VIT)
timm_pair("beit_base_patch16_224", "Beit", use_relative_position_bias=True, **_VIT)
timm_pair("swin_tiny_patch4_window7_224", "Swin", **_SWIN)
timm_pair("swinv2_tiny_window8_256", "Swinv2", **_SWIN)
timm_pair("convnext_tiny", "ConvNext", **_CONVNEXT)
timm_pair("convnextv2_tiny", "ConvNextV2", **_CONVNEXT)
timm_pair("resnet26", "ResNet", depths=[2, 2, 2, 2])
timm_pair("resnet18", "ResNet", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
timm_pair(
    "regnety_002", "RegNet", embedding_size=32, hidden_sizes=[24, 56, 152, 368], depths=[1, 1, 4, 7], groups_width=8
)
timm_pair("mobilenetv1_100", "MobileNetV1", tf_padding=False, layer_norm_eps=1e-5)
timm_pair("mobilenetv2_100", "MobileNetV2", tf_padding=False, layer_norm_eps=1e-5)
timm_pair("tf_efficientnet_b0", "EfficientNet", width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
timm_pair("poolformer_s12", "PoolFormer")
timm_pair("pvt_v2_b0", "PvtV2", hidden_sizes=[32, 64, 160, 256])
timm_pair("mobilevit_s", "MobileViT", image_size=64)
timm_pair("mobilevitv2_050", "MobileViTV2", image_size=64, width_multiplier=0.5)
timm_pair("resnetv2_50x1_bit", "Bit")
timm_pair(
    "hiera_tiny_224", "Hiera", timm_img_size=(64, 64), timm_embed_dim=32, timm_num_heads=1, timm_stages=(1, 1, 1, 1),
    embed_dim=32, image_size=[64, 64], depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8],
)  # fmt: skip
