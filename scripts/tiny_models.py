"""Any model of transformers, small: its default config with all widths divided by one number and few layers.

One divisor for all widths keeps whatever must divide, or equal, something else. What a config does not let itself be
shrunk to is tried again less small.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from types import MappingProxyType
from typing import Any

from treealign.dialects.lint_checks.registered_models import LAYERS, completed, guessed, homes, rebuilt, sub_configs

WIDTH = re.compile(
    r"(hidden|embed|inter|ffn|model|head|latent|state|channel|conv|codebook|proj|output|text|audio|feature|kv|q|v|qk|nope|rope|adapter)"
    r"\w*(_size|_sizes|_dim|_dims|_rank|_channels|_width)|^(d_\w+|dim|width|embed_dim|hidden_\w*|decoder_ffn_dim|"
    r"encoder_ffn_dim|neck_\w*|\w*channels?|\w*_dim|\w*_rank|vocab_size|\w*_vocab_size|\w*_hidden_size|\w*intermediate_size|head_dim|upsample_groups)$"
)
NO_WIDTH = re.compile(
    r"image|patch|window|kernel|stride|merge|num_|tile|input_channels|^in_channels|max_|pool|grid|label"
)
EXPERTS = re.compile(r"^(num_\w*experts|n_routed_experts|num_local_experts|moe_num_experts)$")
MOST_NUMBERS = (20_000_000, 100_000_000)
ALL = 10_000_000


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
    for guess, even, most, measure in product((False, True), (True, False), MOST_NUMBERS, _measures()):
        try:
            config = completed(kind, kind.config_class())
            _shrink(config, measure)
            config = guessed(kind, config) if guess else config
            _fit_rotary(config)
            _set(config, settings)
            config = rebuilt(kind, config)
            if (not even or _even_heads(config)) and _count(kind, config) <= most:
                return config
        except Exception as error:
            failures.append(error)
    raise failures[0] if failures else ValueError("it stays too large")


def _fit_rotary(config: Any) -> None:
    """Sections of rotary frequencies that add up to half of a head."""
    for held in sub_configs(config):
        rope = getattr(held, "rope_parameters", None)
        if isinstance(rope, dict) and "mrope_section" in rope:
            half = (getattr(held, "head_dim", None) or held.hidden_size // held.num_attention_heads) // 2
            third = max(1, half // 3) if half > 1 else 0
            rope["mrope_section"] = [half - 2 * third, third, third]


def _set(config: Any, settings: Mapping[str, Any]) -> None:
    for held in sub_configs(config):
        for name, value in settings.items() if all(hasattr(held, name) for name in settings) else ():
            setattr(held, name, value)


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
    if hasattr(config, "architecture") and hasattr(config, "model_args") and measure.divisor > 1:
        config.model_args = {"channel_multiplier": 1 / measure.divisor}  # a model of timm: not all take it
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
