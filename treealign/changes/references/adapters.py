"""The keys of adapter files: ``base_model.model.<module>.lora_A.weight`` names a module of the base model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from treealign.changes.references.resolving import Resolver
from treealign.changes.results import NOTHING, OTHER, STILL, Reference
from treealign.changes.translation import Translation
from treealign.tree.fold import fold, fold_names

PREFIX = "base_model.model."
_PARTS = ("lora_", "vera_", "ia3_", "loha_", "lokr_", "hada_", "oft_", "boft_", "adapter", "modules_to_save", "vblora_")
_LONGEST_TAIL = 5  # segments that a PEFT layer adds behind the name of the module


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether keys are those of an adapter."""
    return any(key.startswith(PREFIX) or any(part in key for part in _PARTS) for key in keys)


def adapter_references(keys: Iterable[str], file: str, resolver: Resolver) -> Iterator[Reference]:
    """One reference for all keys that differ by indices only and have come to the same."""
    for group in fold(list(listed := tuple(keys))):
        found: dict[str, list[tuple[str, str]]] = {}
        for at in group.positions:
            judged = _judged(listed[at], resolver)
            if judged is not None:
                found.setdefault(judged[0], []).append((listed[at], judged[1]))
        for status, pairs in found.items():
            old = ", ".join(fold_names(key for key, _ in pairs))
            new = ", ".join(fold_names(key for _, key in pairs if key)) or None
            yield Reference(file, 0, old, None if status == STILL else new, status, reader="adapter")


def _judged(key: str, resolver: Resolver) -> tuple[str, str] | None:
    """The status of a key and its new spelling, which is empty where there is none; None if it names no module."""
    prefix = PREFIX if key.startswith(PREFIX) else ""
    name = base_name(key.removeprefix(prefix), resolver.translation)
    if not name:
        return None
    there = resolver.translation.of(name)
    if there == (name,):
        return STILL, key
    status = OTHER if name in resolver.translation.target_modules or name in resolver.new.tree else NOTHING
    return status, prefix + there[0] + key.removeprefix(prefix + name) if len(there) == 1 else ""


def base_name(name: str, translation: Translation) -> str:
    """The longest start of an adapter's key that the old tree has: a module of the base model; empty if none is."""
    for _ in range(_LONGEST_TAIL + 1):
        if name in translation.modules or name in translation.source:
            return name
        name = name.rpartition(".")[0]
    return ""
