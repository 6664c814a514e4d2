"""What an optimizer keeps for the parameters of one step: moved as they are, kept, or refused.

Below operations only what is exactly as large as its parameter is moved. Which slots are, the optimizers of torch say
(``torch.optim``, the ``state[…] = …`` of each): without the shapes of the parameters, theirs tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from treealign.errors import MappingError
from treealign.mapping.execution import run
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step

# as large as their parameters in whatever optimizer keeps them
AS_LARGE = (
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "exp_inf", "square_avg", "grad_avg", "sum"),
    *("acc_delta", "ax", "prev", "step_size"),
)
# one number, however large the parameter
_NUMBERS = ("step", "mu_product", "eta", "mu")
Size: TypeAlias = tuple[int, ...]


def states(
    step: Step, held: Mapping[str, Any], shapes: Mapping[str, Size], faults: list[str]
) -> dict[str, dict[str, Any]]:
    """What the optimizer keeps of the parameters that a step makes.

    Parameters
    ----------
    step : Step
        What becomes of the parameters.
    held : mapping
        The slots of each parameter by its name before.
    shapes : mapping
        Of the parameters before, as far as they are known.
    faults : list of str
        What cannot follow is added, with the reason.
    """
    own = [held.get(name) for name in step.sources]
    if not any(own):
        return {}
    if not step.operations and len(step.sources) == len(step.targets) == 1:
        return {step.targets[0]: {slot: _copied(value) for slot, value in (own[0] or {}).items()}}
    where = ", ".join(step.sources[:3])
    kinds = {tuple(sorted(one)) if one else () for one in own}
    if is_lossy(step.operations) or len(kinds) != 1:
        why = "its numbers are computed anew" if is_lossy(step.operations) else "not all parts have the same states"
        faults.append(f"{where}: {why}")
        return {}
    parts = [one or {} for one in own]
    large = [shapes.get(name, _size(one)) for name, one in zip(step.sources, parts, strict=True)]
    found: dict[str, dict[str, Any]] = {name: {} for name in step.targets}
    for slot in parts[0]:
        values = _values(step, slot, [one[slot] for one in parts], large)
        if isinstance(values, str):
            faults.append(f"{where}: {slot} {values}")
            continue
        for name, value in zip(step.targets, values, strict=True):
            found[name][slot] = value
    return found


def sizes(held: Mapping[str, Any]) -> dict[str, Size]:
    """The shapes of parameters by name, as far as what an optimizer keeps of them tells."""
    found = {name: _size(own) for name, own in held.items()}
    return {name: size for name, size in found.items() if size is not None}


def _size(own: Mapping[str, Any]) -> Size | None:
    """The shape of a parameter by its own states; None where they do not tell with one voice."""
    sizes = {tuple(one.shape) for slot, one in own.items() if slot in AS_LARGE and isinstance(one, torch.Tensor)}
    return sizes.pop() if len(sizes) == 1 else None


def _values(step: Step, slot: str, parts: Sequence[Any], sizes: Sequence[Size | None]) -> list[Any] | str:
    """One slot of all parameters of a step; or why it cannot follow."""
    if all(part is None for part in parts) or _is_one_number(slot, parts, sizes):
        return [_copied(parts[0]) for _ in step.targets]
    fault = _fault(slot, parts, sizes)
    if fault:
        return fault
    try:
        return list(map(_copied, run(step.operations, parts)))
    except (MappingError, RuntimeError) as error:
        return f"is as large as the parameter, but cannot be moved: {error}"


def _is_one_number(slot: str, parts: Sequence[Any], sizes: Sequence[Size | None]) -> bool:
    """Whether it is the same number for all parts, and none of a parameter that is a single number itself."""
    if slot in AS_LARGE or not all(map(_is_number, parts)) or not (slot in _NUMBERS or () not in sizes):
        return False
    return all(float(part) == float(parts[0]) for part in parts)


def _fault(slot: str, parts: Sequence[Any], sizes: Sequence[Size | None]) -> str:
    """Why a slot is not surely moved number by number; empty where it is."""
    for part, size in zip(parts, sizes, strict=True):
        shape = tuple(part.shape) if isinstance(part, torch.Tensor) else None
        if slot in _NUMBERS or shape is None or (size is not None and shape != size):
            kind = type(part).__name__ if shape is None else list(shape)
            of = "a parameter" if size is None else list(size)
            return f"is neither one number for all of it nor as large as the parameter: {kind} beside {of}"
        if part.element_size() == 1:
            return f"is neither one number for all of it nor those of the parameter: {part.dtype} holds codes"
        if size is None:
            return "is neither one number nor surely as large as the parameter; before=model tells its shape"
        if not size and slot not in AS_LARGE:
            return "is a count or a momentum: nothing tells, of a parameter of one number"
    return ""


def _is_number(part: Any) -> bool:
    return isinstance(part, int | float) or (isinstance(part, torch.Tensor) and part.ndim == 0)


def _copied(value: Any) -> Any:
    """In memory of its own: an optimizer goes on in the tensors that it is given."""
    return value.clone() if isinstance(value, torch.Tensor) else value
