"""A conversion of transformers that knows every key by name, in both directions.

The class is made when it is first asked for, by whoever unpickles it too: it derives from one of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple

from treealign.dialects.transformers.installed import LOADING
from treealign.errors import LoadError
from treealign.mapping import execution
from treealign.mapping.operations import Operation, invert

_PATTERN = "as recorded by treealign"


class Group(NamedTuple):
    """Keys of the files, the names in the state dict that they are made of, and how."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    operations: tuple[Operation, ...]

    @property
    def copies(self) -> bool:
        """Whether one tensor is written under several keys as it is."""
        return not self.operations

    @property
    def inverse(self) -> Group:
        """From the files to the model."""
        return Group(self.names, self.keys, invert(self.operations))


def recorded(groups: Mapping[str, Group], refusal: str = "") -> Any:
    """The conversion from the files to the model whose reverse makes these groups.

    Parameters
    ----------
    groups : mapping of str to Group
        Name in the state dict to the group that it belongs to.
    refusal : str
        Why the model cannot be saved as it was loaded, if it cannot; the reverse then raises it.
    """
    return _kind()(dict(groups), refusal, False)


def _kind() -> Any:
    if "Recorded" not in globals():
        globals()["Recorded"] = _made()
    return globals()["Recorded"]


def __getattr__(name: str) -> Any:
    if name == "Recorded":
        return _kind()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _made() -> Any:
    loading = import_module(LOADING)
    body = {
        "__module__": __name__,
        "__qualname__": "Recorded",
        "__doc__": "Every key by name; see the module.",
        "__init__": _init,
        "__reduce__": lambda self: (_rebuilt, (self.groups, self.refusal, self.saving)),
        "__deepcopy__": lambda self, memo: _rebuilt(self.groups, self.refusal, self.saving),
        "rename_source_key": _rename_source_key,
        "add_tensor": _add_tensor,
        "convert": _convert_and_report if _reports(loading.WeightConverter.convert) else _convert,
        "reverse_transform": _reverse_transform,
    }
    return type("Recorded", (loading.WeightConverter,), body)


def _rebuilt(groups: dict[str, Group], refusal: str, saving: bool) -> Any:
    return _kind()(groups, refusal, saving)


def _init(self: Any, groups: dict[str, Group], refusal: str, saving: bool) -> None:
    loading = import_module(LOADING)
    # an operation there must be; none is run, for `convert` is ours
    given = {"source_patterns": _PATTERN, "target_patterns": _PATTERN, "operations": [loading.Chunk(dim=0)]}
    loading.WeightConverter.__init__(self, **given)
    self.groups, self.refusal, self.saving = groups, refusal, saving
    self.tensors = {}
    self._was_used = True


def _table(self: Any) -> dict[str, Group]:
    """What belongs to each name on the side that is given."""
    if not self.saving and "_forward" not in self.__dict__:
        groups = [g for g in dict.fromkeys(self.groups.values()) if not (g.copies and len(g.keys) > 1)]
        self.__dict__["_forward"] = {key: group.inverse for group in groups for key in group.keys}
    table: dict[str, Group] = self.groups if self.saving else self.__dict__["_forward"]
    return table


def _rename_source_key(self: Any, source_key: str) -> tuple[str, str | None]:
    group = _table(self).get(source_key)
    return (source_key, None) if group is None else (group.keys[0], _PATTERN)


def _add_tensor(self: Any, target_key: str, source_key: str, source_pattern: str, future: Any) -> None:
    self.tensors[source_key] = future
    self.layer_targets[target_key].add(source_key)


def _convert(self: Any, layer_name: str, **_: Any) -> dict[str, Any]:
    given = {key: _value(tensor) for key, tensor in self.tensors.items()}
    self.tensors = {}
    group = _table(self)[next(iter(given))]
    absent = [name for name in group.names if name not in given]
    if absent:
        raise LoadError(f"{', '.join(group.keys)}: made of {', '.join(absent)} too, which is not there")
    if not group.operations:
        return dict.fromkeys(group.keys, given[group.names[0]])
    made = execution.run(group.operations, [given[name] for name in group.names])
    return {key: tensor.contiguous() for key, tensor in zip(group.keys, made, strict=True)}


def _reports(convert: Any) -> bool:
    """Whether conversions of the installed release give their errors too, beside the tensors."""
    return "conversion_errors" in signature(convert).parameters


def _convert_and_report(self: Any, layer_name: str, conversion_errors: Any = None, **_: Any) -> tuple[Any, Any]:
    return _convert(self, layer_name), conversion_errors


def _value(tensor: Any) -> Any:
    """The tensor itself: a load may hand over something that reads it."""
    if hasattr(tensor, "result"):
        return tensor.result()
    return tensor if hasattr(tensor, "shape") else tensor()


def _reverse_transform(self: Any) -> Any:
    if self.refusal:
        raise LoadError(self.refusal)
    return _kind()(self.groups, self.refusal, not self.saving)
