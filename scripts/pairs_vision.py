"""Pairs of real vision code of packages on PyPI: timm, torchvision, open_clip and others beside one another."""

from __future__ import annotations

import operator
from typing import Any

import torch
from code_pairs import IMAGE, OUTSIDE, Pair, outside
from outside import package

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "intermediate_size": 128,
}
OWN = {"img_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
LARGE = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))


def timm_model(name: str, **settings: Any) -> Any:
    return package("timm").create_model(name, **{"num_classes": 7, **settings})


def torchvision_model(name: str, **settings: Any) -> Any:
    return getattr(package("torchvision.models"), name)(weights=None, **{"num_classes": 7, **settings})


def transformers_model(name: str, config: str, **settings: Any) -> Any:
    import transformers

    return getattr(transformers, name)(getattr(transformers, f"{config}Config")(**settings))


def image(module: Any) -> Any:
    return module(IMAGE)


FEATURES = (lambda module: module.forward_features(IMAGE), lambda module: module(IMAGE).last_hidden_state)


def _features(name: str, model: str, config: str, own: dict[str, Any], settings: dict[str, Any]) -> None:
    """The features of a vision transformer of timm beside those of transformers."""
    OUTSIDE[f"timm {name} - transformers {config}"] = lambda: (
        timm_model(name, **{**OWN, **own}), transformers_model(model, config, **{**SMALL, **settings}), FEATURES
    )  # fmt: skip


_features("vit_small_patch14_dinov2", "Dinov2Model", "Dinov2", {"patch_size": 16}, {"patch_size": 16})
_features("vit_small_patch16_dinov3", "DINOv3ViTModel", "DINOv3ViT", {},
          {"num_register_tokens": 4, "query_bias": False, "value_bias": False})  # fmt: skip
_features("vit_base_patch16_siglip_224", "SiglipVisionModel", "SiglipVision", {}, {"hidden_act": "gelu"})
_features("vit_huge_patch14_gap_224", "IJepaModel", "IJepa", {"patch_size": 16}, {"layer_norm_eps": 1e-6})
_features("vit_small_patch16_224", "ViTMSNModel", "ViTMSN", {}, {"layer_norm_eps": 1e-6})
_features("aimv2_large_patch14_224", "Aimv2VisionModel", "Aimv2Vision",
          {"patch_size": 16, "mlp_ratio": 4}, {"patch_size": 16})  # fmt: skip


@outside("timm focalnet_tiny_srf - transformers FocalNet")
def focalnet() -> Pair:
    sizes = {"embed_dim": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 2, 1]}
    model = transformers_model("FocalNetForImageClassification", "FocalNet", num_labels=7, image_size=64, **sizes)
    original = package("timm.models.focalnet").FocalNet(num_classes=7, embed_dim=16, depths=(1, 1, 2, 1))
    return original, model, image


def _heads(features: Any, *heads: Any) -> list[Any]:
    return [head(features) for head in heads]


@outside("timm levit_128s - transformers Levit")
def levit() -> Pair:
    sizes = {"hidden_sizes": [128, 256, 384], "num_attention_heads": [4, 6, 8], "depths": [2, 3, 4]}
    model = transformers_model(
        "LevitForImageClassificationWithTeacher", "Levit", num_labels=7, key_dim=[16, 16, 16], **sizes
    )
    run = (
        lambda m: _heads(m.forward_features(LARGE).mean(1), m.head, m.head_dist),
        lambda m: _heads(m.levit(LARGE).pooler_output, m.classifier, m.classifier_distill),
    )  # their mean, which is what both return, does not tell the one from the other
    return timm_model("levit_128s"), model, run


@outside("timm hgnetv2_b0 - transformers HGNetV2")
def hgnet() -> Pair:
    model = transformers_model(
        "HGNetV2Backbone", "HGNetV2", stem_channels=[3, 16, 16], stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128], stage_out_channels=[64, 256, 512, 1024], stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3, 3, 3, 3], use_learnable_affine_block=True,
    )  # fmt: skip
    run = (lambda module: module.forward_features(IMAGE), lambda module: module(IMAGE).feature_maps[-1])
    return timm_model("hgnetv2_b0"), model, run


@outside("timm samvit_base_patch16 - transformers SamVision")
def sam() -> Pair:
    original = timm_model("samvit_base_patch16", img_size=64, depth=2, embed_dim=32, num_heads=2, num_classes=0,
                          global_attn_indexes=(1,), window_size=2, neck_chans=16)  # fmt: skip
    model = transformers_model("SamVisionModel", "SamVision", output_channels=16, mlp_dim=128, window_size=2,
                               global_attn_indexes=[1], **SMALL)  # fmt: skip
    return original, model, FEATURES


def _both(kind: str, name: str, other: str, own: dict[str, Any], settings: dict[str, Any]) -> None:
    """A model of torchvision beside that of timm."""
    OUTSIDE[f"torchvision {kind} - timm {name}"] = lambda: (
        torchvision_model(kind, **own), timm_model(other, **settings), image
    )  # fmt: skip


_SCALES = {"bn_eps": 1e-3}
for _kind, (_name, _settings) in {
    "resnet18": ("resnet18", {}), "efficientnet_b0": ("efficientnet_b0", {}),
    "mobilenet_v2": ("mobilenetv2_100", {}), "mobilenet_v3_small": ("mobilenetv3_small_100", _SCALES),
    "mobilenet_v3_large": ("mobilenetv3_large_100", _SCALES), "regnet_y_400mf": ("regnety_004", {}),
    "densenet121": ("densenet121", {}), "vgg11_bn": ("vgg11_bn", {}), "mnasnet0_5": ("mnasnet_050", {}),
}.items():  # fmt: skip
    _both(_kind, _name, _name, {}, _settings)
OUTSIDE["torchvision swin_t - timm swin"] = lambda: (
    package("torchvision").models.swin_transformer.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [2, 2], num_classes=7
    ),
    timm_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(2, 2), num_heads=(2, 4),
               embed_dim=16), image,
)  # fmt: skip
OUTSIDE["torchvision vit_b_16 - timm vit"] = lambda: (
    package("torchvision").models.VisionTransformer(64, 16, 2, 2, 32, 128, num_classes=7),
    timm_model("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=32, num_heads=2), image,
)  # fmt: skip
OUTSIDE["torchvision inception_v3 - timm inception_v3"] = lambda: (
    torchvision_model("inception_v3", init_weights=False, aux_logits=False, transform_input=False),
    timm_model("inception_v3"),
    lambda module: module(torch.nn.functional.interpolate(IMAGE, size=(128, 128))),
)
OUTSIDE["torchvision vit_b_16 - transformers ViT"] = lambda: (
    package("torchvision").models.VisionTransformer(64, 16, 2, 2, 32, 128, num_classes=7),
    transformers_model("ViTForImageClassification", "ViT", num_labels=7, layer_norm_eps=1e-6, **SMALL), image,
)  # fmt: skip
OUTSIDE["torchvision resnet18 - transformers ResNet"] = lambda: (
    torchvision_model("resnet18"),
    transformers_model("ResNetForImageClassification", "ResNet", num_labels=7, depths=[2, 2, 2, 2],
                       hidden_sizes=[64, 128, 256, 512], layer_type="basic"), image,
)  # fmt: skip
OUTSIDE["torchvision regnet_y_400mf - transformers RegNet"] = lambda: (
    torchvision_model("regnet_y_400mf"),
    transformers_model("RegNetForImageClassification", "RegNet", num_labels=7, embedding_size=32, groups_width=8,
                       hidden_sizes=[48, 104, 208, 440], depths=[1, 3, 6, 6]), image,
)  # fmt: skip
OUTSIDE["torchvision convnext - transformers ConvNext"] = lambda: (
    package("torchvision").models.convnext.ConvNeXt(
        [package("torchvision").models.convnext.CNBlockConfig(*sizes)
         for sizes in ((8, 16, 1), (16, 24, 1), (24, 32, 2), (32, None, 1))], num_classes=7,
    ),
    transformers_model("ConvNextForImageClassification", "ConvNext", num_labels=7, hidden_sizes=[8, 16, 24, 32],
                       depths=[1, 1, 2, 1], layer_norm_eps=1e-6), image,
)  # fmt: skip


@outside("efficientnet_pytorch b0 - timm tf_efficientnet_b0")
def lukemelas_timm() -> Pair:
    original = package("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0", num_classes=7)
    original.set_swish(memory_efficient=False)
    return original, timm_model("tf_efficientnet_b0"), image


@outside("efficientnet_pytorch b0 - transformers EfficientNet")
def lukemelas_transformers() -> Pair:
    original = package("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0", num_classes=7)
    sizes = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "num_labels": 7}
    return original, transformers_model("EfficientNetForImageClassification", "EfficientNet", **sizes), image


@outside("segmentation_models_pytorch mit_b0 - transformers Segformer")
def segformer() -> Pair:
    original = package("segmentation_models_pytorch").encoders.get_encoder("mit_b0", weights=None)
    model = transformers_model("SegformerModel", "Segformer")
    return original, model, (lambda module: module(IMAGE)[-1], lambda module: module(IMAGE).last_hidden_state)


@outside("segmentation_models_pytorch resnet34 - torchvision resnet34")
def smp_resnet() -> Pair:
    original = package("segmentation_models_pytorch").encoders.get_encoder("resnet34", weights=None)
    model = torchvision_model("resnet34")
    extract = package("torchvision.models._utils").IntermediateLayerGetter
    return original, extract(model, {"layer4": "out"}), (lambda m: m(IMAGE)[-1], lambda m: m(IMAGE)["out"])


@outside("segment_anything image encoder - transformers SamVision")
def segment_anything() -> Pair:
    import functools

    norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
    original = package("segment_anything.modeling").ImageEncoderViT(
        img_size=64, embed_dim=32, depth=2, num_heads=2, out_chans=16, norm_layer=norm, use_rel_pos=True,
        window_size=2, global_attn_indexes=(1,),
    )  # fmt: skip
    model = transformers_model("SamVisionModel", "SamVision", output_channels=16, mlp_dim=128, window_size=2,
                               global_attn_indexes=[1], **SMALL)  # fmt: skip
    return original, model, (image, lambda module: module(IMAGE).last_hidden_state)


def _clip(act: str, **wanted: Any) -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    return {
        "projection_dim": 24, "vision_config": {**sizes, "image_size": 64, "patch_size": 16, "hidden_act": act},
        "text_config": {**sizes, "vocab_size": 60, "max_position_embeddings": 12, "hidden_act": act, "eos_token_id": 2},
        **wanted,
    }  # fmt: skip


WORDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 59]])


@outside("open_clip CLIP - transformers CLIP")
def clip() -> Pair:
    original = package("open_clip").model.CLIP(
        24, {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 2, "layers": 2},
    )  # fmt: skip
    model = transformers_model("CLIPModel", "CLIP", **_clip("gelu"))
    run = (
        lambda module: [module.encode_image(IMAGE, normalize=True), module.encode_text(WORDS, normalize=True)],
        lambda module: list(operator.attrgetter("image_embeds", "text_embeds")(module(WORDS, IMAGE))),
    )
    return original, model, run


@outside("open_clip CoCa text tower - transformers CLIPText")
def coca() -> Pair:
    original = package("open_clip").transformer.TextTransformer(
        context_length=12, vocab_size=60, width=32, heads=2, layers=2, output_dim=24
    )
    text = _clip("gelu")["text_config"]
    model = transformers_model("CLIPTextModelWithProjection", "CLIPText", projection_dim=24, **text)
    return original, model, (lambda module: module(WORDS), lambda module: module(WORDS).text_embeds)


@outside("timm vit_base_patch16_clip - transformers CLIPVision")
def clip_vision() -> Pair:
    model = transformers_model("CLIPVisionModel", "CLIPVision", hidden_act="gelu", patch_size=16, **SMALL)
    return timm_model("vit_base_patch16_clip_224", **OWN), model, (image, lambda module: module(IMAGE).pooler_output)
