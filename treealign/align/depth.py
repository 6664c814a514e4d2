"""How deep a tree may be that is compared: levels are gone down one within another."""

from __future__ import annotations

from treealign.errors import TreealignError
from treealign.tree.keytree import KeyTree

MAX_LEVELS = 200  # several times what the deepest models need


def refuse_depth(checkpoint: KeyTree, model: KeyTree) -> None:
    """Refuse trees too deep to be compared; of one and the same tree, nothing has to be.

    Raises
    ------
    TreealignError
        Saying how deep it is.
    """
    if checkpoint.keys == model.keys:
        return
    for tree in (checkpoint, model):
        deepest = max((len(fold.segments) for fold in tree.folds), default=0)
        if deepest > MAX_LEVELS:
            what = f"a key has {deepest:,} levels, of which at most {MAX_LEVELS} are compared"
            raise TreealignError(what, where=tree.source)
