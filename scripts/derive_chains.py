"""Check the table of chains by running: what two libraries compute with one set of numbers, under the names it says.

    python scripts/derive_chains.py [--only TEXT]

A backbone of one library gets random numbers, running averages included; the same numbers go under the names of the
other library's, by the table (`treealign.align.knowledge.chains`), rows and axes as `suggest` has them; both run on one
image in float64, and what they give must agree. Prints a line for each pair, and exits 1 where any differs. What is not
installed is named and left out.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from treealign import suggest
from treealign.align.knowledge.chains import chains
from treealign.tree.keytree import KeyTree

WITHIN = 1e-8
SIZE = 224


def timm(name: str, **options: Any) -> Callable[[], torch.nn.Module]:
    """A model of timm."""
    return lambda: import_module("timm").create_model(name, **options)


def features(made: Callable[[], torch.nn.Module]) -> Callable[[], torch.nn.Module]:
    """What a model of timm gives before its head."""

    def run() -> torch.nn.Module:
        module = made()
        module.forward = module.forward_features  # type: ignore[assignment]
        return module

    return run


def torchvision(name: str) -> Callable[[], torch.nn.Module]:
    """A model of torchvision."""
    return lambda: getattr(import_module("torchvision.models"), name)(weights=None)


def pytorchcv(name: str) -> Callable[[], torch.nn.Module]:
    """A model of pytorchcv."""
    return lambda: import_module("pytorchcv.model_provider").get_model(name)


def lukemelas(name: str) -> Callable[[], torch.nn.Module]:
    """A model of EfficientNet-PyTorch."""
    return lambda: import_module("efficientnet_pytorch").EfficientNet.from_name(name)


def cadene(module: str, name: str) -> Callable[[], torch.nn.Module]:
    """A model of pretrained-models.pytorch."""
    return lambda: getattr(import_module(f"pretrainedmodels.models.{module}"), name)(num_classes=1000, pretrained=None)


def open_clip(name: str) -> Callable[[], torch.nn.Module]:
    """The image tower of a model of open_clip."""
    return lambda: import_module("open_clip").create_model(name).visual


def transformers(model: str, config: str, **options: Any) -> Callable[[], torch.nn.Module]:
    """A model of transformers."""
    package = import_module("transformers")
    return lambda: getattr(package, model)(getattr(package, config)(num_labels=1000, **options))


RESNET = {"depths": [3, 4, 6, 3]}
REGNET: dict[str, Any] = {"hidden_sizes": [48, 104, 208, 440], "depths": [1, 3, 6, 6], "groups_width": 8}
PAIRS: Mapping[str, tuple[Callable[[], torch.nn.Module], Callable[[], torch.nn.Module]]] = {
    "EfficientNet, torchvision and timm": (torchvision("efficientnet_b0"), timm("efficientnet_b0")),
    "EfficientNet, EfficientNet-PyTorch and timm": (lukemelas("efficientnet-b0"), timm("tf_efficientnet_b0")),
    "EfficientNet, timm and transformers": (
        timm("tf_efficientnet_b0"),
        transformers(
            "EfficientNetForImageClassification", "EfficientNetConfig", image_size=SIZE, width_coefficient=1.0,
            depth_coefficient=1.0, hidden_dim=1280, depthwise_padding=[],
        ),
    ),
    "EfficientNet, pytorchcv and timm": (pytorchcv("efficientnet_b0"), timm("efficientnet_b0")),
    "EfficientNet v2, torchvision and timm": (torchvision("efficientnet_v2_s"), timm("efficientnetv2_s")),
    "MobileNetV3, torchvision and timm": (torchvision("mobilenet_v3_small"), timm("mobilenetv3_small_100")),
    "MobileNetV3, pytorchcv and timm": (pytorchcv("mobilenetv3_large_w1"), timm("mobilenetv3_large_100")),
    "MobileNetV2, torchvision and timm": (torchvision("mobilenet_v2"), timm("mobilenetv2_100")),
    "MobileNetV2, torchvision and transformers": (
        torchvision("mobilenet_v2"),
        transformers(
            "MobileNetV2ForImageClassification", "MobileNetV2Config", tf_padding=False, finegrained_output=True,
            layer_norm_eps=1e-5,
        ),
    ),
    "MobileNetV1, timm and transformers": (
        timm("mobilenetv1_100"),
        transformers("MobileNetV1ForImageClassification", "MobileNetV1Config", tf_padding=False, layer_norm_eps=1e-5),
    ),
    "MobileNetV1, pytorchcv and timm": (pytorchcv("mobilenet_w1"), timm("mobilenetv1_100")),
    "MNASNet, torchvision and timm": (torchvision("mnasnet1_0"), timm("mnasnet_100")),
    "MNASNet, pytorchcv and timm": (pytorchcv("mnasnet_b1"), timm("mnasnet_100")),
    "MixNet, pytorchcv and timm": (pytorchcv("mixnet_s"), timm("mixnet_s")),
    "ResNet, torchvision and transformers": (
        torchvision("resnet50"), transformers("ResNetForImageClassification", "ResNetConfig", **RESNET),
    ),
    "ResNet, pytorchcv and torchvision": (pytorchcv("resnet18"), torchvision("resnet18")),
    "SE-ResNet, pytorchcv and timm": (pytorchcv("seresnet50b"), timm("seresnet50")),
    "SENet, pytorchcv and timm": (pytorchcv("senet154"), timm("legacy_senet154")),
    "SE-ResNet, pretrained-models.pytorch and timm": (cadene("senet", "se_resnet50"), timm("legacy_seresnet50")),
    "ResNeXt, pretrained-models.pytorch and timm": (cadene("resnext", "resnext101_32x4d"), timm("resnext101_32x4d")),
    "ResNet of CLIP, open_clip and timm": (open_clip("RN50"), timm("resnet50_clip")),
    "RegNet, torchvision and timm": (torchvision("regnet_y_400mf"), timm("regnety_004", se_ratio=0.25)),
    "RegNet, timm and transformers": (
        timm("regnety_004"), transformers("RegNetForImageClassification", "RegNetConfig", layer_type="y", **REGNET),
    ),
    "RegNet, pytorchcv and timm": (pytorchcv("regnety004"), timm("regnety_004")),
    "Swin, torchvision and timm": (torchvision("swin_t"), timm("swin_tiny_patch4_window7_224")),
    "Swin, timm and transformers": (
        timm("swin_tiny_patch4_window7_224"), transformers("SwinForImageClassification", "SwinConfig"),
    ),
    "ConvNeXt, torchvision and timm": (torchvision("convnext_tiny"), timm("convnext_tiny")),
    "ConvNeXt, timm and transformers": (
        timm("convnext_tiny"), transformers("ConvNextForImageClassification", "ConvNextConfig"),
    ),
    "VGG, torchvision and timm": (torchvision("vgg11_bn"), timm("vgg11_bn")),
    "VGG, pytorchcv and torchvision": (pytorchcv("vgg11"), torchvision("vgg11")),
    "SqueezeNet, pytorchcv and torchvision": (pytorchcv("squeezenet_v1_1"), torchvision("squeezenet1_1")),
    "ShuffleNetV2, pytorchcv and torchvision": (pytorchcv("shufflenetv2_w1"), torchvision("shufflenet_v2_x1_0")),
    "DPN, pytorchcv and timm": (pytorchcv("dpn68"), timm("dpn68")),
    "PoolFormer, timm and transformers": (
        features(timm("poolformer_s12")), transformers("PoolFormerModel", "PoolFormerConfig", depths=[2, 2, 6, 2]),
    ),
}  # fmt: skip


def tree(module: torch.nn.Module) -> KeyTree:
    """Names and shapes of a module, without the counters of its norms."""
    state = module.state_dict()
    leaves = [
        (k, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for k, t in state.items() if "num_batches" not in k
    ]
    return KeyTree.from_leaves(leaves)


def filled(module: torch.nn.Module) -> torch.nn.Module:
    """The module in float64 with numbers of its own everywhere: averages and variances, too."""
    generator = torch.Generator().manual_seed(0)
    module = alike(module.double().eval())
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            random = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            norm = "running_var" in key or (key.endswith("weight") and tensor.dim() == 1)
            fan = max(tensor[0].numel(), 1) if tensor.dim() > 1 else 1
            tensor.copy_(random + 0.5 if norm else (random - 0.5) * (12 / fan) ** 0.5)
    return module


def alike(module: torch.nn.Module) -> torch.nn.Module:
    """The module with one epsilon, one border of pools, no bound of activations: no weights say these."""
    for part in list(module.modules()):
        if isinstance(getattr(part, "eps", None), float):
            part.eps = 1e-5
        for name, child in part.named_children():
            if isinstance(child, torch.nn.ReLU6):
                setattr(part, name, torch.nn.ReLU())
            if isinstance(child, torch.nn.MaxPool2d) and child.kernel_size in (3, (3, 3)):
                child.padding, child.ceil_mode = 1, False
    return module


def output(module: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What a module makes of an image."""
    with torch.no_grad():
        made = module(image)
    return getattr(made, "logits", getattr(made, "last_hidden_state", made)).flatten(1)


def difference(one: torch.nn.Module, other: torch.nn.Module) -> tuple[float, set[str], int]:
    """How far the outputs are apart, the rows of the table that spoke, and how many matches are open."""
    one, other = filled(one), filled(other)
    suggestion = suggest(tree(one), tree(other))
    said = {
        e.removeprefix("layout ").split(": blocks")[0]
        for m in suggestion.matches
        for e in m.evidence
        if "blocks in the order" in e
    }
    held = {key: tensor for key, tensor in one.state_dict().items() if "num_batches" not in key}
    made = dict(suggestion.mapping.accept().apply(held))
    there = other.state_dict()
    for key, tensor in there.items():  # what only the other has adds nothing
        tensor.copy_(made[key].reshape(tensor.shape)) if key in made else tensor.zero_()
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = output(one, image), output(other, image)
    return float((a - b).abs().max() / a.abs().max()), said, len(suggestion.questions)


def main() -> int:
    """Run all pairs of what is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pairs whose names contain this")
    only, failed, ran = parser.parse_args().only, 0, set()
    warnings.simplefilter("ignore")
    for name, (one, other) in PAIRS.items():
        if only not in name:
            continue
        try:
            apart, said, asked = difference(one(), other())
        except (ImportError, AttributeError, KeyError) as error:
            print(f"{name:48} left out: {type(error).__name__} {str(error)[:80]}", flush=True)
            continue
        failed += not apart < WITHIN
        ran |= said
        print(f"{name:48} {'agree' if apart < WITHIN else 'DIFFER'} {apart:.0e}, {asked} questions", flush=True)
    print("rows of the table that spoke:", ", ".join(sorted(ran)), f"({len(chains())} rows)")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
