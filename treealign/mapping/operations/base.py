"""What every operation is: a frozen value of plain ints that knows its inverse, its shapes and its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Self, TypeAlias

from treealign.errors import MappingError, PatternError
from treealign.formats.cached import cached_property
from treealign.mapping.operations.sizes import Captures, Size, SizeTable

Shape: TypeAlias = tuple[int, ...]
_KINDS: dict[str, type[Operation]] = {}


@dataclass(frozen=True, repr=False)
class Operation:
    """What a `Convert` does to a list of tensors.

    An operation takes `arity[0]` tensors and gives `arity[1]`. Applied to a longer list it consumes consecutive runs:
    ``Stack(0, 16)`` makes two tensors of 32, ``Split(0, (8, 2, 2))`` makes six tensors of two. The length of the list
    must be a multiple of what the operation takes.

    Sizes may be a `SizeTable`; `resolve` puts plain ints in their place. Arity, inverse and shapes of a resolved
    operation need nothing else.
    """

    def __init_subclass__(cls) -> None:
        """Register the class under its name, for `from_json`."""
        _KINDS[cls.__name__] = cls

    def __post_init__(self) -> None:
        for name, value in self._values().items():
            object.__setattr__(self, name, _frozen(value))
        reason = self._wrong_type() or self._reason()
        if reason:
            raise PatternError(f"{self!r} is no operation", facts=[reason])

    # -- what subclasses define ---------------------------------------------------------------------------------------

    def _arity(self) -> tuple[int, int]:
        return 1, 1

    def _inverse(self) -> Operation:
        raise NotImplementedError

    def _lossy(self) -> bool:
        return False

    def _reason(self) -> str | None:
        """Why the fields, each of the right type, make no operation; or None."""
        return None

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        """Shapes of one run; `_misfit` raises what does not fit."""
        raise NotImplementedError

    # -- what they inherit --------------------------------------------------------------------------------------------

    @property
    def arity(self) -> tuple[int, int]:
        """How many tensors one run takes, and how many it gives.

        Raises
        ------
        MappingError
            The number depends on captures.
        """
        return self._arity()

    @property
    def inverse(self) -> Operation:
        """The operation that undoes this one; its inverse is this one again."""
        return self._inverse()

    @property
    def lossy(self) -> bool:
        """Whether the inverse may give something other than the bytes that went in."""
        return self._lossy()

    def output_shapes(self, input_shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """Shapes after the operation, from plain ints.

        Raises
        ------
        MappingError
            The shapes do not fit the operation, or it is not resolved.
        """
        given: list[Shape] = []
        for run in self.runs([tuple(shape) for shape in input_shapes]):
            given.extend(self._run_shapes(tuple(run)))
        return tuple(given)

    def runs(self, items: Sequence[Any]) -> list[Sequence[Any]]:
        """Cut a list into the runs that the operation takes.

        Raises
        ------
        MappingError
            The length is not a multiple of what the operation takes.
        """
        if self.capture_names:
            raise MappingError(f"{self!r} has sizes that depend on captures", hint="resolve it first")
        takes = self.arity[0]
        if len(items) % takes:
            raise MappingError(f"{self!r} takes {takes} tensors at a time", facts=[f"it was given {len(items)}"])
        return [items[at : at + takes] for at in range(0, len(items), takes)]

    @cached_property
    def capture_names(self) -> frozenset[str]:
        """The captures that sizes depend on; empty for plain ints."""
        return frozenset(name for value in self._values().values() for name in _captures(value))

    def resolve(self, captures: Captures) -> Self:
        """The operation with plain ints in place of tables.

        Raises
        ------
        MappingError
            A table has no size for these captures.
        """
        if not self.capture_names:
            return self
        return replace(self, **{name: _resolved(value, captures) for name, value in self._values().items()})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; fields that hold their default are left out."""
        return {"operation": type(self).__name__} | {
            name: _plain(value) for name, value in self._values().items() if value != _default(self, name)
        }

    def __repr__(self) -> str:
        values = self._values()
        shown = [repr(value) for name, value in values.items() if _default(self, name) is MISSING]
        shown += [f"{n}={v!r}" for n, v in values.items() if _default(self, n) not in (MISSING, v)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _wrong_type(self) -> str | None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not _TYPES[str(field.type)](value):
                return f"{field.name} is {value!r}, not {field.type} of 0 or more"
        return None

    def _misfit(self, shape: Shape, reason: str) -> MappingError:
        return MappingError(f"{self!r} does not fit a tensor of shape {shape}", facts=[reason])


def as_ints(sizes: Sequence[Size]) -> tuple[int, ...]:
    """Sizes of a resolved operation.

    Raises
    ------
    MappingError
        A size is still a table.
    """
    plain = tuple(size for size in sizes if isinstance(size, int))
    if len(plain) != len(sizes):
        raise MappingError(f"the sizes {tuple(sizes)} depend on captures", hint="resolve the operation first")
    return plain


def check_dim(operation: Operation, dim: int, size: int | None, shape: Shape) -> None:
    """Refuse a shape without that dimension, or with another size along it where one is given."""
    if dim >= len(shape):
        raise operation._misfit(shape, f"it has no dimension {dim}")
    if size is not None and shape[dim] != size:
        raise operation._misfit(shape, f"dimension {dim} should have size {size}, not {shape[dim]}")


def with_size(shape: Shape, dim: int, size: int) -> Shape:
    """The shape with another size along `dim`."""
    return (*shape[:dim], size, *shape[dim + 1 :])


def from_json(data: Any) -> Operation:
    """Operation from `Operation.to_json`.

    Raises
    ------
    PatternError
        The kind or a field is unknown, a field is absent, or a value is not what the operation takes.
    """
    kind = data.get("operation") if isinstance(data, dict) else None
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        known_kinds = ", ".join(sorted(_KINDS))
        raise PatternError("an operation cannot be read", facts=[repr(data)], hint=f"the kinds are {known_kinds}")
    given = {name: value for name, value in data.items() if name != "operation"}
    known = {field.name: field.default for field in fields(cls)}
    reasons = [f"unknown field {name}" for name in given if name not in known]
    reasons += [f"no field {name}" for name, default in known.items() if default is MISSING and name not in given]
    if reasons:
        raise PatternError(f"an operation {kind} cannot be read", facts=reasons)
    return cls(**{name: _value(value) for name, value in given.items()})


def _default(operation: Operation, name: str) -> Any:
    return next(field.default for field in fields(operation) if field.name == name)


def _value(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_value(item) for item in data)
    if isinstance(data, dict):
        return from_json(data) if "operation" in data else SizeTable.from_json(data)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_json() if isinstance(value, SizeTable | Operation) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _resolved(value: Any, captures: Captures) -> Any:
    if isinstance(value, tuple):
        return tuple(_resolved(item, captures) for item in value)
    return value.resolve(captures) if isinstance(value, SizeTable | Operation) else value


def _captures(value: Any) -> Iterable[str]:
    if isinstance(value, tuple):
        return [name for item in value for name in _captures(item)]
    if isinstance(value, Operation):
        return value.capture_names
    return value.captures if isinstance(value, SizeTable) else ()


def _is_int(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_size(value: Any) -> bool:
    return _is_int(value) or isinstance(value, SizeTable)


def _each(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(accepts(item) for item in value)


# the types that fields may have, as they are spelled there; a new one must be added, so that reading stays strict
_TYPES: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "Size": _is_size,
    "Size | None": lambda value: value is None or _is_size(value),
    "tuple[int, ...]": _each(_is_int),
    "tuple[Size, ...]": _each(_is_size),
    "tuple[tuple[int, ...], ...]": _each(_each(_is_int)),
    "tuple[Operation, ...]": _each(lambda value: isinstance(value, Operation)),
}
