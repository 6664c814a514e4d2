"""How deep a tree may be that is compared: levels are gone down one within another."""

from __future__ import annotations

from treealign.errors import TreealignError
from treealign.tree.keytree import KeyTree

MAX_LEVELS = 200  # several times what the deepest models need


def refuse_depth(checkpoint: KeyTree, model: KeyTree) -> None:
    """Refuse trees too deep to be compared, be they one and the same: the paths of its levels alone are too long.

    Raises
    ------
    TreealignError
        Saying how deep it is.
    """
    for tree in (checkpoint, model):
        deepest = max((len(fold.segments) for fold in tree.folds), default=0)
        if deepest > MAX_LEVELS:
            what = f"a key has {deepest:,} levels, of which at most {MAX_LEVELS} are compared"
            raise TreealignError(what, where=tree.source)
