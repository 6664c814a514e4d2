"""What the public functions are given, looked at before anything is done: the wrong order or kind is said at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

from treealign.errors import TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.tree.keytree import KeyTree

# kind -> what it is called
KINDS = {
    "module": "a torch.nn.Module",
    "path": "a path",
    "state dict": "a state dict",
    "tree": "a KeyTree",
    "mapping": "a ConversionMapping, the path of its JSON, or transforms",
    "nothing": "None",
}
SOURCE = frozenset({"module", "path", "state dict", "tree"})
MODULE, FOLDER = frozenset({"module"}), frozenset({"path"})
MAPPING = frozenset({"mapping", "path"})
# the arguments of each function that could be confused with one another, in their order
CALLS = {
    "load": {"model": MODULE, "checkpoint": SOURCE - {"tree"}, "mapping": MAPPING | {"nothing"}},
    "save": {"model": MODULE, "directory": FOLDER},
    "attach": {"model": MODULE, "mapping": MAPPING},
    "convert_checkpoint": {"checkpoint": FOLDER, "destination": FOLDER | {"nothing"}, "mapping": MAPPING},
    "emit": {"mapping": MAPPING, "dialect": FOLDER},
    "suggest": {"checkpoint": SOURCE, "model": SOURCE},
    "audit": {"old": SOURCE, "new": SOURCE},
    "prove": {"original": MODULE, "model": MODULE, "mapping": MAPPING | {"nothing"}},
    "verify": {"model": MODULE, "reference": FOLDER, "checkpoint": SOURCE - {"tree"} | {"nothing"}},
}


def check_arguments(function: str, *given: Any) -> None:
    """Raise where arguments of a public function are of kinds that it does not take, with the call that was meant.

    Raises
    ------
    TreealignError
        Names each argument that cannot be, what it is, and, where another order fits, the call in that order.
    """
    wanted = CALLS[function]
    kinds = [kind_of(value) for value in given]
    if function == "suggest" and kinds[0] == "module" and kinds[1] in ("path", "state dict"):
        _refuse_swapped_sides(given)
    if _fit(kinds, wanted.values()):
        return
    wrong = [
        f"{name} is {_described(value)}, not {_either(takes)}"
        for (name, takes), value in zip(wanted.items(), given, strict=True)
        if kind_of(value) not in takes
    ]
    meant = next((order for order in permutations(given) if _fit(map(kind_of, order), wanted.values())), None)
    call = f"treealign.{function}({', '.join(wanted)})"
    if meant is not None:
        hint = f"in this order: {_call(function, meant)}"
    elif kinds[-1] == "flag" and "mapping" in wanted:
        hint = f"strict is given by its name: {_call(function, given[:-1], f'strict={given[-1]}')}"
    else:
        hint = f"the call is {call}"
    raise TreealignError(f"{function} cannot take {'these' if len(wrong) > 1 else 'this'}", facts=wrong, hint=hint)


def check_hints(hints: Any) -> None:
    """Raise where hints are no texts; one text is one hint.

    Raises
    ------
    TreealignError
        With what is taken.
    """
    is_listed = isinstance(hints, Mapping | Sequence | set | frozenset) and not isinstance(hints, bytes)
    if hints is not None and not is_listed:
        raise TreealignError(
            "hints are a dict or a list", facts=[f"hints is {_described(hints)}"], hint="hints=['name=other_name']"
        )


def kind_of(value: Any) -> str:
    """One of `KINDS`, or "other"; torch is not imported for it."""
    torch = sys.modules.get("torch")
    tests = (
        ("nothing", value is None),
        ("flag", isinstance(value, bool)),
        ("path", isinstance(value, str | os.PathLike)),
        ("tree", isinstance(value, KeyTree)),
        ("module", torch is not None and isinstance(value, torch.nn.Module)),
        ("state dict", isinstance(value, Mapping)),
        ("mapping", isinstance(value, ConversionMapping | Transform) or _are_transforms(value)),
    )
    return next((kind for kind, holds in tests if holds), "other")


def _are_transforms(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, bytes | type)


def _fit(kinds: Iterable[str], wanted: Iterable[frozenset[str]]) -> bool:
    return all(kind in takes for kind, takes in zip(kinds, wanted, strict=True))


def _refuse_swapped_sides(given: Sequence[Any]) -> None:
    raise TreealignError(
        "suggest takes the checkpoint first, then the model",
        facts=[f"checkpoint is {_described(given[0])}", f"model is {_described(given[1])}"],
        hint=f"{_call('suggest', given[::-1])}; if it was meant so: read_tree(model) for the first",
    )


def _call(function: str, given: Iterable[Any], *named: str) -> str:
    shown = [*map(_shown, given)]
    while shown and shown[-1] == "None":
        shown.pop()
    return f"treealign.{function}({', '.join([*shown, *named])})"


def _shown(value: Any) -> str:
    """An argument as it may stand in a call."""
    names = {"module": "model", "state dict": "state_dict", "tree": "tree", "mapping": "mapping"}
    return names.get(kind_of(value)) or repr(str(value) if isinstance(value, os.PathLike) else value)


def _described(value: Any) -> str:
    kind = kind_of(value)
    if isinstance(value, type):
        return f"the class {value.__name__}, which is not built yet: {value.__name__}(…)"
    if kind == "path":
        return f"the path {str(value)!r}"
    if kind == "module":
        return f"a torch.nn.Module, {type(value).__name__}"
    return KINDS[kind] if kind in ("nothing", "state dict", "tree") else f"of type {type(value).__name__}"


def _either(kinds: Iterable[str]) -> str:
    mapping = "mapping" in kinds
    names = [text for kind, text in KINDS.items() if kind in kinds and not (mapping and kind == "path")]
    return " or ".join(names)
