"""Tied leaves: keys that show the same numbers in memory, or that a model declares to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def tied_keys(tensors: Mapping[str, Any], declared: Mapping[str, str] | None = None) -> dict[str, str]:
    """Each key that shares its storage with another, with the key that stands for both.

    Parameters
    ----------
    tensors : mapping of str to tensor
        In order of definition: without a declaration, the first of several keys stands for them.
    declared : mapping of str to str, optional
        Key to the key that stands for it. It decides which of the keys in one storage stands for the others. On its
        own it ties tensors of the meta device only: those with memory of their own are no longer tied.

    Notes
    -----
    Two views into one storage are tied only if they agree in offset, shape, strides and dtype.
    """
    declared = {alias: origin for alias, origin in (declared or {}).items() if alias in tensors and origin in tensors}
    if not declared and len({_storage(tensor) for tensor in tensors.values()}) == len(tensors):
        return {}
    views = {key: _view(tensor) for key, tensor in tensors.items()}
    joined: dict[object, object] = {}
    for alias, origin in declared.items():
        one, other = _end(joined, views[alias]), _end(joined, views[origin])
        if one != other and (_is_meta(tensors[alias]) or _is_meta(tensors[origin])):
            joined[one] = other
    groups: dict[object, list[str]] = {}
    for key, view in views.items():
        groups.setdefault(_end(joined, view), []).append(key)
    return {key: origin for group in groups.values() if len(group) > 1 for key, origin in _pairs(group, declared)}


def declared_ties(modules: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The ties that transformers models declare, given all modules by path; keys as in the state dict."""
    return dict(_declarations(modules))


def _declarations(modules: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for path, part in modules:
        # the expanded form, without patterns, of what a class declares in _tied_weights_keys; a module's own getattr is
        # slow where there is none
        declared = vars(part).get("all_tied_weights_keys")
        prefix = f"{path}." if path else ""
        for alias, origin in declared.items() if isinstance(declared, Mapping) else ():
            yield prefix + alias, prefix + origin


def _end(joined: Mapping[object, object], view: object) -> object:
    while view in joined:
        view = joined[view]
    return view


def _pairs(group: list[str], declared: Mapping[str, str]) -> list[tuple[str, str]]:
    standing = [key for key in group if key not in declared]
    stated = {declared[key] for key in group if key in declared}
    origin = next((key for key in standing if key in stated), (standing or group)[0])
    return [(key, origin) for key in group if key != origin]


def _view(tensor: Any) -> object:
    """What tells a tensor apart from others: equal for two tensors that show the same numbers in memory."""
    try:
        # the address of the storage object, not of its bytes: those have none on the meta device
        storage = tensor.untyped_storage()._cdata
        return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), str(tensor.dtype)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return id(tensor)


def _storage(tensor: Any) -> object:
    """What tensors that lie in one storage have in common; None where that cannot be told."""
    try:
        return tensor.untyped_storage()._cdata
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return None


def _is_meta(tensor: Any) -> bool:
    return bool(getattr(tensor, "is_meta", False))
