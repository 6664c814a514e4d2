"""Ranks and scales of updates that were joined: the scale of the whole is that of each part.

PEFT scales an update by ``alpha / r``, or by ``alpha / sqrt(r)`` with `use_rslora`; both may differ from module to
module (`rank_pattern`, `alpha_pattern`; the first key that fits counts).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isclose, sqrt
from typing import Any

from treealign.checkpoint.adapters.config import by_pattern
from treealign.checkpoint.adapters.modules import module_of
from treealign.errors import MappingError
from treealign.mapping.operations import BlockDiagonal
from treealign.mapping.planning import Step

_Rank = tuple[int, float]


def joined_ranks(steps: Iterable[Step], config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What `rank_pattern` and `alpha_pattern` have to say of modules whose updates were joined; empty for none.

    Raises
    ------
    MappingError
        Parts of one module are scaled differently, so that no scale is right for the whole.
    """
    ranks: dict[str, _Rank] = {}
    for step in steps:
        for operation in step.operations:
            if isinstance(operation, BlockDiagonal) and len(step.targets) == 1:
                along = operation.columns if "lora_B" in step.targets[0].split(".") else operation.rows
                parts = dict(zip(map(module_of, step.sources), filter(None, along), strict=True))
                ranks[module_of(step.targets[0])] = sum(parts.values()), _alpha(parts, config)
    if not ranks:
        return {}
    fresh = dict(_patterns(ranks))
    return {
        "rank_pattern": {name: rank for name, (rank, _) in fresh.items()},
        "alpha_pattern": {name: alpha for name, (_, alpha) in fresh.items()},
    }


def _alpha(ranks: Mapping[str, int], config: Mapping[str, Any]) -> float:
    scales = {name: _scale(_alpha_of(name, config), rank, config) for name, rank in ranks.items()}
    if len(set(scales.values())) > 1:
        facts = [f"{name}: {scale:g}" for name, scale in scales.items()]
        hint = "fold the scales into the weights first, or train the adapter anew for these"
        raise MappingError("updates that are to be joined are scaled differently", facts=facts, hint=hint)
    total = sum(ranks.values())
    alpha = next(iter(scales.values())) * (sqrt(total) if config.get("use_rslora") else total)
    whole = round(alpha)
    return whole if isclose(alpha, whole, rel_tol=1e-12) else alpha


def _alpha_of(module: str, config: Mapping[str, Any]) -> float:
    patterns = config.get("alpha_pattern") or {}
    return float(
        next((alpha for key, alpha in patterns.items() if by_pattern(key, module)), config.get("lora_alpha", 8))
    )


def _scale(alpha: float, rank: int, config: Mapping[str, Any]) -> float:
    return alpha / (sqrt(rank) if config.get("use_rslora") else rank)


def _patterns(ranks: Mapping[str, _Rank]) -> Iterator[tuple[str, _Rank]]:
    """As few entries as are exact: the last segment, where all modules that end so agree."""
    by_end: dict[str, dict[str, _Rank]] = {}
    for name, value in ranks.items():
        by_end.setdefault(name.rpartition(".")[2], {})[name] = value
    for end, found in by_end.items():
        if len(set(found.values())) == 1:
            yield end, next(iter(found.values()))
        else:
            yield from found.items()
