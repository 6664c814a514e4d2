"""How deep and how varied a tree may be that is compared: levels are gone down one within another."""

from __future__ import annotations

from treealign.errors import TreealignError
from treealign.formats.bounds import refuse_more
from treealign.tree.keytree import KeyTree

MAX_LEVELS, MAX_LENGTH, MAX_PATTERNS = 200, 10_000, 20_000  # several times what the deepest models need


def refuse_depth(checkpoint: KeyTree, model: KeyTree) -> None:
    """Refuse trees too deep, of keys too long, or of too many patterns to be compared, be they one and the same.

    Raises
    ------
    TreealignError
        Saying how deep, how long or how many.
    """
    for tree in (checkpoint, model):
        what = "names that differ by more than their indices"
        refuse_more(len(tree.folds), MAX_PATTERNS, what, tree.source or "a tree", "compared")
        deepest = max((len(fold.segments) for fold in tree.folds), default=0)
        longest = max(map(len, tree.keys), default=0)
        if deepest > MAX_LEVELS:
            what = f"a key has {deepest:,} levels, of which at most {MAX_LEVELS} are compared"
            raise TreealignError(what, where=tree.source)
        if longest > MAX_LENGTH:
            what = f"a key has {longest:,} characters, of which at most {MAX_LENGTH:,} are compared"
            raise TreealignError(what, where=tree.source)
