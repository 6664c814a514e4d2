"""Low-rank updates of weights that are fused or taken apart: exactly where that can be, else the reason why not.

Joined by rows, ``diag(B1, B2) [A1; A2]`` is what ``B1 A1`` and ``B2 A2`` are one above the other, so the rank of the
whole is the sum of the ranks, and its alpha is such that the scale stays. A part that has no update gets rows of
zeros. Taken apart by rows, each part has its rows of ``B`` and the whole of ``A``; rank and alpha stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from treealign.checkpoint.adapters.joints import Joint, NotExactError, joint_of
from treealign.checkpoint.adapters.parts import has_part
from treealign.mapping.convert import Convert
from treealign.mapping.operations import BlockDiagonal, Concat, Keep, Operation, Repeat, Split

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fused:
    """What becomes of an adapter where its base model's weights are converted.

    Attributes
    ----------
    steps : list of (sources, targets, operations)
        On whole keys of the adapter, under the names that they have once they are renamed.
    faults : list of str
        What cannot be converted exactly, and why.
    """

    steps: list[tuple[tuple[str, ...], tuple[str, ...], tuple[Operation, ...]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def fused(converts: Sequence[Convert], shapes: Mapping[str, Shape]) -> Fused:
    """What converts make of an adapter's keys.

    Parameters
    ----------
    converts : sequence of Convert
        Of the base model's weights, below PEFT's levels.
    shapes : mapping of str to tuple of int
        Of the adapter's tensors, by the names that they have when weights are converted.
    """
    modules = _by_module(shapes)
    found, done = Fused(), set[str]()
    for module, parts in modules.items():
        group = next((g for c in converts if (g := c.group(f"{module}.weight")) is not None), None)
        if group is None or module in done:
            continue
        convert = next(c for c in converts if c.group(f"{module}.weight") is not None)
        members = [name.removesuffix(".weight") for name in group.sources]
        done.update(members)
        held = {name: modules[name] for name in members if name in modules}
        targets = [name.removesuffix(".weight") for name in group.targets]
        try:
            joint = joint_of(convert, group, [held.get(name) for name in members])
            _convert(joint, members, targets, held, found)
        except NotExactError as reason:
            found.faults.extend(f"{module}.{tail}: {reason}" for tail in list(parts)[:1])
    return found


def _by_module(shapes: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    """Module to what the adapter has there: the tail of the key to the shape."""
    found: dict[str, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        segments = key.split(".")
        at = next((at for at, segment in enumerate(segments) if has_part(segment)), None)
        if at is not None:
            found.setdefault(".".join(segments[:at]), {})[".".join(segments[at:])] = shape
        else:  # a module that is saved whole
            found.setdefault(key.removesuffix(".weight"), {})["weight"] = shape
    return found


def _convert(
    joint: Joint,
    members: Sequence[str],
    targets: Sequence[str],
    held: Mapping[str, Mapping[str, Shape]],
    found: Fused,
) -> None:
    tails = list(dict.fromkeys(tail for parts in held.values() for tail in parts))
    for tail in tails:
        absent = [name for name in held if tail not in held[name]]
        if absent:
            raise NotExactError(f"{absent[0]} has no {tail}")
    steps = []
    for tail in tails:
        sources = tuple(f"{name}.{tail}" for name in members if name in held)
        there = tuple(f"{name}.{tail}" for name in targets)
        steps.append((sources, there, _operations(joint, tail, [held[name] for name in members if name in held], held)))
    found.steps.extend(steps)


def _operations(
    joint: Joint, tail: str, parts: Sequence[Mapping[str, Shape]], held: Mapping[str, Any]
) -> tuple[Operation, ...]:
    if joint.kind == "rename":
        return (Keep(),)
    if tail not in ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_magnitude_vector"):
        raise NotExactError(f"there is no rule for {tail} of a weight that is fused or split")
    along = tail != "lora_A.weight" if joint.outputs else tail == "lora_A.weight"
    if tail in ("lora_B.bias", "lora_magnitude_vector") and not joint.outputs:
        raise NotExactError(f"{tail} belongs to all inputs of a weight at once")
    rows = joint.rows if along else ()
    if joint.kind == "split":
        return (*rows, Split(0 if joint.outputs else 1, joint.sizes)) if along else (Repeat(len(joint.sizes)),)
    if tail in ("lora_B.bias", "lora_magnitude_vector"):
        if len(parts) < len(joint.sizes):
            raise NotExactError(f"not all parts have {tail}, and what the others have is not zero")
        return (*rows, Concat(0, joint.sizes))
    ranks = tuple(part["lora_A.weight"][0] for part in parts)
    if not along:
        return (Concat(0 if joint.outputs else 1, ranks),)
    filled = iter(ranks)
    widths = tuple(next(filled) if present else 0 for present in joint.present)
    return (*rows, BlockDiagonal(joint.sizes, widths) if joint.outputs else BlockDiagonal(widths, joint.sizes))
