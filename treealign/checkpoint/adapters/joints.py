"""How a base model's weights are joined or taken apart, as far as it matters to a low-rank update of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from treealign.mapping.convert import Convert, Group
from treealign.mapping.operations import (
    Concat,
    Keep,
    Operation,
    Parallel,
    Permute,
    RotaryPermute,
    RotaryUnpermute,
    Split,
    resolve,
)

Parts = Mapping[str, tuple[int, ...]]
_TURN = Permute((1, 0))


class NotExactError(Exception):
    """Why an update cannot be converted exactly."""


@dataclass(frozen=True)
class Joint:
    """One weight and its parts.

    Attributes
    ----------
    kind : str
        ``"join"``, ``"split"``, or ``"rename"``: the weight is turned at most, of which an update knows nothing.
    outputs : bool
        Whether the parts lie one above the other along the outputs; else along the inputs.
    sizes : tuple of int
        Of the parts.
    rows : tuple of Operation
        What happens to the rows besides: before they are joined, or before they are taken apart.
    present : tuple of bool
        Which parts have an update.
    """

    kind: str
    outputs: bool = True
    sizes: tuple[int, ...] = ()
    rows: tuple[Operation, ...] = ()
    present: tuple[bool, ...] = ()


def joint_of(convert: Convert, group: Group, parts: Sequence[Parts | None]) -> Joint:
    """How a group of weights is converted; `parts` are the updates of its sources, None for one without.

    Raises
    ------
    NotExactError
        An update cannot follow, and why.
    """
    operations = [op for op in resolve(convert.operations, group.captures) if not _is_turn(op)]
    turned = len(operations) < len(convert.operations)
    present = tuple(part is not None for part in parts)
    if not operations and len(group.sources) == len(group.targets) == 1:
        return Joint("rename")
    cuts = [op for op in operations if isinstance(op, Concat | Split)]
    rows = tuple(op for op in operations if op not in cuts)
    if len(cuts) != 1 or not all(map(_moves_rows, rows)):
        raise NotExactError(f"its weight goes through {', '.join(map(repr, convert.operations))}")
    cut, sizes = cuts[0], tuple(int(size) for size in cuts[0].sizes)  # type: ignore[arg-type]  # resolved
    found = Joint(
        "join" if isinstance(cut, Concat) else "split", _outputs(cut, sizes, parts, turned), sizes, rows, present
    )
    if rows and (turned or not found.outputs or cut.dim != 0):
        raise NotExactError("its rows are rearranged while it is turned")
    return replace(found, rows=tuple(_of_present(op, present) for op in rows)) if found.kind == "join" else found


def _is_turn(operation: Operation) -> bool:
    """A matrix that is turned, or several of them."""
    return operation == _TURN or (
        isinstance(operation, Parallel) and all(part in (_TURN, Keep()) for part in operation.operations)
    )


def _moves_rows(operation: Operation) -> bool:
    parts = operation.operations if isinstance(operation, Parallel) else (operation,)
    return all(isinstance(part, RotaryPermute | RotaryUnpermute | Keep) for part in parts)


def _of_present(operation: Operation, present: tuple[bool, ...]) -> Operation:
    if not isinstance(operation, Parallel) or len(operation.operations) != len(present):
        return operation
    return Parallel(tuple(part for part, there in zip(operation.operations, present, strict=True) if there))


def _outputs(cut: Concat | Split, sizes: tuple[int, ...], parts: Sequence[Parts | None], turned: bool) -> bool:
    """Whether the parts are parted along the outputs: told by the update's shapes, else by torch's own layout."""
    updates = [part for part in parts if part is not None]
    if any("lora_A.weight" not in part or "lora_B.weight" not in part for part in updates):
        kinds = sorted({tail for part in updates for tail in part})
        raise NotExactError(f"there is no rule for {', '.join(kinds)} of a weight that is fused or split")
    if isinstance(cut, Split):
        part = updates[0]
        fits = part["lora_B.weight"][0] == sum(sizes), part["lora_A.weight"][1] == sum(sizes)
    else:
        held = [(size, part) for size, part in zip(sizes, parts, strict=True) if part is not None]
        fits = (
            all(part["lora_B.weight"][0] == size for size, part in held),
            all(part["lora_A.weight"][1] == size for size, part in held),
        )
    if fits == (False, False):
        raise NotExactError(f"its update does not have the sizes {sizes}")
    if fits == (True, True) and (turned or cut.dim != 0):
        raise NotExactError(f"its shape does not tell whether {cut!r} concerns the outputs or the inputs")
    return fits[0]
