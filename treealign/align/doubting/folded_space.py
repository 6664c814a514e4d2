"""Orders of elements that no shape and no name shows: folded space, and the halves of a modulation.

A merge of patches concatenates what it folds in an order of its library's: slice by slice, or channel by channel as
`torch.nn.Unfold` does. A modulation makes shift and scale, or scale and shift. A match of leaves behind them is not
certain where the two sides spell them differently; where they spell them alike, they are taken to be one library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternatives, alone
from treealign.align.words import split_words, unwrapped
from treealign.tree.keytree import KeyTree

FOLDED = Reason(
    "rows", "what stands behind a fold of patches may be in another order: the modules are called otherwise on one side"
)
UNFOLDED = Reason(
    "rows", "what a fold makes places of may be in another order: the modules are called otherwise on one side"
)
BOTH = Reason(
    "rows", "one module folds patches and makes places of channels: what is called otherwise may be in another order"
)
FOLDS = frozenset(reason.kind for reason in (FOLDED, UNFOLDED, BOTH))
HALVES = Reason(
    "rows",
    "a modulation makes shift and scale, in an order that shapes cannot show: it is called otherwise on one side",
)
FOLDING = frozenset({"Unfold", "PixelUnshuffle"})
SPREADING = frozenset({"PixelShuffle", "Fold"})
MODULATING = frozenset({"modulation", "mod", "ada", "adaln", "film"})
MATRIX = 2  # dimensions


def judge_orders(state: State) -> Alternatives:
    """Matches behind a fold or of a modulation that is spelled differently."""
    merges = folds(state.trees[1])
    reasons = {link: order_doubt(link, merges) for link in state.links if link.certain}
    return {link: alone(link, reason) for link, reason in reasons.items() if reason}


@dataclass(frozen=True, eq=False)
class Folds:
    """The modules of a model in which patches are folded.

    Attributes
    ----------
    model : KeyTree
        With its classes.
    modules : mapping of str to Reason
        The path of each module that has a fold of its own, to what that leaves open about the leaves in it.
    """

    model: KeyTree
    modules: Mapping[str, Reason]

    def around(self, key: str) -> Reason | None:
        """What the innermost fold that moves elements of a leaf leaves open."""
        path, within = _parent(key), None
        while path and within is None:
            within = self.modules.get(path)
            if within is FOLDED and _is_of_outputs(key, self.model):
                within = None
            path = _parent(path)
        return within

    def dim(self, link: Link) -> int | None:
        """Along which dimension a fold moves elements: a matrix takes in what is folded, and makes what is spread.

        None where no fold is known, or not which.
        """
        leaves = link.right[0].cells.values()
        kinds = {self.around(self.model.keys[at]) for at in leaves}
        ranks = {len(shape or ()) for shape in link.right[0].shapes.values()}
        if kinds not in ({FOLDED}, {UNFOLDED}) or len(ranks) != 1:
            return None
        return 1 if kinds == {FOLDED} and ranks.pop() >= MATRIX else 0


def folds(model: KeyTree) -> Folds:
    """The modules that fold patches together or make places of channels, and what that leaves open."""
    kinds = {**dict.fromkeys(FOLDING, FOLDED), **dict.fromkeys(SPREADING, UNFOLDED)}
    found: dict[str, Reason] = {}
    for path, name in model.modules.items():
        if name in kinds and found.setdefault(_parent(path), kinds[name]) is not kinds[name]:
            found[_parent(path)] = BOTH
    return Folds(model, found)


def order_doubt(link: Link, merges: Folds) -> Reason | None:
    """What a plain match of leaves behind a fold, or of a modulation, may hide."""
    if link.operations:
        return None
    a, b = link.left[0], link.right[0]
    key = merges.model.keys[next(iter(b.cells.values()))]
    if a.segments[-5:] != b.segments[-5:] and (reason := merges.around(key)):
        return reason
    return HALVES if _modulating(a) != _modulating(b) else None


def _is_of_outputs(key: str, model: KeyTree) -> bool:
    """Whether a bias stands beside a matrix: what that takes in is in another order, and what it gives is not."""
    module, _, name = key.rpartition(".")
    weight = f"{module}.weight"
    return name == "bias" and weight in model and len(model.leaf(weight).shape or ()) > 1


def _modulating(p: Pattern) -> frozenset[str]:
    """The words for a modulation that its path has."""
    return frozenset(word for segment in unwrapped(p.segments) for word in split_words(segment) if word in MODULATING)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
