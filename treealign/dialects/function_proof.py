"""Functions on state dicts, run on what they were written for and compared with the mapping, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from treealign.dialects.samples import counted, samples
from treealign.dialects.transformers.sides import Sides
from treealign.errors import MappingError
from treealign.mapping import execution
from treealign.mapping.planning import Step

Function: TypeAlias = "Callable[[dict[str, Any]], Mapping[str, Any]]"


def prove(held: Sides, forward: Function, backward: Function | None, what: str) -> None:
    """Run functions on names and shapes, then each kind of conversion on numbers.

    Parameters
    ----------
    held : Sides
        What is to come out.
    forward, backward : callable
        From the checkpoint's state dict to the model's, and back; None where there is no way back.
    what : str
        The dialect, for messages.

    Raises
    ------
    MappingError
        Something comes out otherwise; the message names the keys.
    """
    torch = import_module("torch")
    shapes = dict(_shapes(held))
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    faults = _faults(state, held.steps, forward, backward, values=False)
    for step, small in samples(held.steps, shapes) if not faults else ():
        faults += _faults(dict(counted(step, small)), [step], forward, backward, values=True)
    if faults:
        raise MappingError(
            f"the code for {what} would not do what the mapping says",
            facts=faults[:20],
            hint="treealign's own load and save do it",
        )


def _shapes(held: Sides) -> Iterator[tuple[str, tuple[int, ...]]]:
    for step in held.steps:
        for key in step.sources:
            shape = held.shapes.get(key) if step.operations else (1,)
            if shape is None:
                raise MappingError(
                    "the shape of this key is not known, so that its conversion cannot be checked",
                    facts=[key],
                    hint="pass the checkpoint",
                )
            yield key, shape


def _faults(
    state: dict[str, Any], steps: Sequence[Step], forward: Function, backward: Function | None, values: bool
) -> list[str]:
    same = import_module("torch").equal if values else lambda a, b: a.shape == b.shape
    try:
        made = forward(dict(state))
        wanted = dict(_wanted(state, steps))
        faults = _compare(made, wanted, state, steps, same, "loading")
        if backward is not None and not faults:
            back = backward(dict(made))
            turned = [step._replace(sources=step.targets, targets=step.sources) for step in steps]
            faults += _compare(back, state, made, turned, same, "saving")
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        return [f"{type(error).__name__}: {error}"]
    return faults


def _wanted(state: Mapping[str, Any], steps: Sequence[Step]) -> Iterator[tuple[str, Any]]:
    for step in steps:
        tensors = [state[key] for key in step.sources]
        made = execution.run(step.operations, tensors) if step.operations else tensors
        yield from zip(step.targets, made, strict=True)


def _compare(
    made: Mapping[str, Any],
    wanted: Mapping[str, Any],
    given: Mapping[str, Any],
    steps: Sequence[Step],
    same: Callable[[Any, Any], bool],
    way: str,
) -> list[str]:
    faults = [f"{way}: {key} is not made" for key in wanted if key not in made]
    faults += [f"{way}: {key} is made" for key in made if key not in wanted]
    if faults:
        return faults
    # a tensor that is only renamed is the very tensor that was given
    kept = {step.targets[0]: step.sources[0] for step in steps if not step.operations}
    faults = [
        f"{way}: {new} holds another tensor than {old}" for new, old in kept.items() if made[new] is not given[old]
    ]
    return faults + [
        f"{way}: {key} comes out otherwise" for key in wanted if key not in kept and not same(made[key], wanted[key])
    ]
