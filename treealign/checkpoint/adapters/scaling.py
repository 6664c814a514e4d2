"""What an adapter's config says of how its update is computed, besides its tensors: it has to be so in the model, too.

A model keeps the config that its adapter was made with; loading tensors does not change it. Trained with another alpha,
the same numbers compute something else, and nothing in them shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.parts import CONFIG

# peft 0.21: `LoraConfig`, `LoHaConfig`, `LoKrConfig`; ranks show in shapes
_COMPUTING = ("lora_alpha", "alpha", "use_rslora", "alpha_pattern", "fan_in_fan_out")


def other_settings(config: Any, folder: Path | None) -> tuple[str, ...]:
    """Settings of the config beside an adapter's file that are others in the model, both sides of each."""
    try:
        beside = json.loads((folder / CONFIG).read_text(encoding="utf-8")) if folder is not None else None
    except (OSError, ValueError, RecursionError):
        return ()
    return tuple(_differing(config, beside)) if isinstance(beside, Mapping) else ()


def _differing(config: Any, beside: Mapping[str, Any]) -> Iterator[str]:
    for name in _COMPUTING:
        if name in beside and hasattr(config, name):
            there, here = _plain(beside[name]), _plain(getattr(config, name))
            if there != here:
                yield f"{name}: {there} beside the file, {here} in the model"


def _plain(value: Any) -> Any:
    """Of patterns the values: modules may be called otherwise on either side."""
    return sorted(map(float, value.values())) if isinstance(value, Mapping) else value or 0
