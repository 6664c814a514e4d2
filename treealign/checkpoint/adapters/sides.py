"""The sides of a suggestion, where the checkpoint is an adapter's: its scope is that adapter, not the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.parts import is_adapter
from treealign.tree.keytree import KeyTree


def in_scope(trees: tuple[KeyTree, KeyTree], model: Any) -> tuple[KeyTree, KeyTree]:
    """The trees of checkpoint and model; of a live model with adapters, that of the adapter the checkpoint is for.

    Raises
    ------
    LoadError
        The checkpoint fits several adapters.
    """
    checkpoint = trees[0]
    if not (hasattr(model, "peft_config") and is_adapter(checkpoint.keys)):
        return trees
    from treealign.checkpoint.adapters.scope import scope_of
    from treealign.checkpoint.places import find_places

    where = Path(checkpoint.source) if checkpoint.source else None
    folder = where if where is None or where.is_dir() else where.parent
    scope = scope_of(model, find_places(model), checkpoint, folder)
    return trees if scope is None else (checkpoint, scope.tree)
