"""Any model of transformers, small: its default config with all widths divided by one number and few layers.

One divisor for all widths keeps whatever must divide, or equal, something else. What a config does not let itself be
shrunk to is tried again less small.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

WIDTH = re.compile(
    r"(hidden|embed|inter|ffn|model|head|latent|state|channel|conv|codebook|proj|output|text|audio|feature|kv|q|v|qk|nope|rope|adapter)"
    r"\w*(_size|_sizes|_dim|_dims|_rank|_channels|_width)|^(d_\w+|dim|width|embed_dim|hidden_\w*|decoder_ffn_dim|"
    r"encoder_ffn_dim|neck_\w*|\w*channels|\w*_dim|\w*_rank|vocab_size|\w*_vocab_size|\w*_hidden_size|\w*intermediate_size|head_dim|upsample_groups)$"
)
# what the default configs leave open, or set to what no model can be made of
OVERRIDES: dict[str, dict[str, Any]] = {
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "hunyuan_vl": {"text_config.head_dim": 8},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "aya_vision": {"vision_config.num_attention_heads": 2},
    "emu3": {"vocabulary_map": {"<image>": 3, "<|extra_200|>": 4}, "vq_config.base_channels": 32},
    "sapiens2": {
        "head_config.upsample_out_channels": [8, 8],
        "head_config.upsample_kernel_sizes": [4, 4],
        "head_config.conv_out_channels": [8],
        "head_config.conv_kernel_sizes": [1],
        "head_config.scale_conv_out_channels": [8],
        "head_config.scale_conv_kernel_sizes": [1],
        "head_config.scale_final_input_size": 8,
        "head_config.scale_final_hidden_sizes": [8, 8],
    },
    "ernie4_5_vl_moe_text": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    },
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", "sparse"]},
}
NO_WIDTH = re.compile(
    r"image|patch|window|kernel|stride|merge|num_|tile|input_channels|^in_channels|max_|pool|grid|label"
)
LAYERS = re.compile(r"^(num_\w*layers|n_layers?|\w*_layers|num_\w*blocks|depth|\w*_depth)$")
EXPERTS = re.compile(r"^(num_\w*experts|n_routed_experts|num_local_experts|moe_num_experts)$")
MOST_NUMBERS = (20_000_000, 100_000_000)
ALL = 10_000_000


@cache
def homes() -> dict[str, str]:
    """Class name to the module of transformers that defines it."""
    root = Path(import_module("transformers").__file__).parent
    found: dict[str, str] = {}
    for path in sorted((root / "models").glob("*/modeling_*.py")):
        module = f"transformers.models.{path.parent.name}.{path.stem}"
        for name in re.findall(r"^class (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, module)
    return found


def model_class(name: str) -> Any:
    """The class of that name, exported or not."""
    return getattr(import_module(homes()[name]), name)


@dataclass(frozen=True)
class Measure:
    """How small: what widths are divided by, and how many layers, experts and words there may be."""

    divisor: int
    layers: int = 2
    experts: int = 4
    words: int = 512


def tiny_config(kind: Any, settings: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A small config that the class can be built from; raises what the first attempt raised.

    `settings` are made in each of its parts that has them all.

    One whose heads have an even number of rows, if there is one: rotary orders need that.
    """
    failures: list[Exception] = []
    for even, most, measure in product((True, False), MOST_NUMBERS, _measures()):
        try:
            config = kind.config_class()
            _shrink(config, measure)
            _override(config)
            _set(config, settings)
            config = kind.config_class.from_dict(_within_layers(config.to_dict()))
            if (not even or _even_heads(config)) and _count(kind, config) <= most:
                return config
        except Exception as error:
            failures.append(error)
    raise failures[0] if failures else ValueError("it stays too large")


def _within_layers(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of single layers only for layers that there are."""
    made = {name: _within_layers(v) if isinstance(v, dict) else v for name, v in settings.items()}
    single, layers = made.get("per_layer_config"), made.get("num_hidden_layers")
    if isinstance(single, dict) and layers is not None:
        made["per_layer_config"] = {at: held for at, held in single.items() if int(at) < layers}
    last = next(iter(made.get("out_features") or ()), "")
    if layers is not None and last.removeprefix("stage").isdigit() and int(last.removeprefix("stage")) > layers:
        made["out_features"], made["out_indices"] = [f"stage{layers}"], [layers]
    return made


def _override(config: Any) -> None:
    for path, value in OVERRIDES.get(config.model_type, {}).items():
        *parts, name = path.split(".")
        held = config
        for part in parts:
            held = getattr(held, part)
        setattr(held, name, value)
    if type(getattr(config, "backbone_config", None)).__name__ == "TimmBackboneConfig":
        made = import_module("transformers").ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=["stage2", "stage3", "stage4"]
        )
        config.backbone_config, config.use_timm_backbone = made, False
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and "mrope_section" in rope:
        half = (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads) // 2
        third = max(1, half // 3) if half > 1 else 0
        rope["mrope_section"] = [half - 2 * third, third, third]
    for value in vars(config).values():
        if hasattr(value, "to_dict"):
            _override(value)


def _set(config: Any, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items() if all(hasattr(config, name) for name in settings) else ():
        setattr(config, name, value)
    for value in vars(config).values():
        if hasattr(value, "to_dict"):
            _set(value, settings)


def _even_heads(config: Any) -> bool:
    heads, width = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    alone = not (isinstance(heads, int) and isinstance(width, int)) or width % (2 * heads) == 0
    return alone and all(_even_heads(value) for value in vars(config).values() if hasattr(value, "to_dict"))


def _measures() -> Iterator[Measure]:
    for layers, words in product((2, 4, ALL), (512, ALL)):
        for divisor in (32, 16, 8, 4, 2, 1):
            yield Measure(divisor, layers, words=words)
    yield Measure(1, ALL, ALL, ALL)


def _count(kind: Any, config: Any) -> int:
    torch = import_module("torch")
    with torch.device("meta"):
        model = kind(copy.deepcopy(config))
    return sum(p.numel() for p in model.parameters())


def _shrink(config: Any, measure: Measure) -> None:
    cut: dict[int, int] = {}
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            _shrink(value, measure)
        elif isinstance(value, bool) or name.startswith("_"):
            continue
        elif isinstance(value, int):
            made = _smaller(name, value, measure)
            if made != value and LAYERS.match(name):
                cut[value] = made
            setattr(config, name, made)
        elif isinstance(value, list | tuple) and value and all(type(v) is int for v in value) and _is_width(name):
            setattr(config, name, type(value)(_divided(v, measure) for v in value))
    for name, value in list(vars(config).items()):
        # one entry a layer
        if isinstance(value, list) and len(value) in cut:
            setattr(config, name, value[: cut[len(value)]])
        elif isinstance(value, dict) and cut and value and all(isinstance(key, int) for key in value):
            setattr(config, name, {key: held for key, held in value.items() if key < min(cut.values())})


def _smaller(name: str, value: int, measure: Measure) -> int:
    if LAYERS.match(name):
        return min(value, measure.layers)
    if EXPERTS.match(name):
        return min(value, measure.experts)
    if name.startswith(("num_experts_per", "n_group", "topk_group")):
        return min(value, 2)
    if name.endswith(("vocab_size", "_token_id", "_token_index")) and measure.words < ALL:
        return value if value < measure.words else measure.words - name.endswith(("_id", "_index"))
    return _divided(value, measure) if _is_width(name) else value


def _divided(value: int, measure: Measure) -> int:
    return value // measure.divisor if value >= 2 * measure.divisor and value % measure.divisor == 0 else value


def _is_width(name: str) -> bool:
    return bool(WIDTH.search(name)) and not NO_WIDTH.search(name)
