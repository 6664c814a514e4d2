"""Orders of elements that no shape and no name shows: folded space, and the halves of a modulation.

A merge of patches concatenates what it folds in an order of its library's: slice by slice, or channel by channel as
`torch.nn.Unfold` does. A modulation makes shift and scale, or scale and shift. A match of leaves behind them is not
certain where the two sides spell them differently; where they spell them alike, they are taken to be one library's.
"""

from __future__ import annotations

from collections.abc import Mapping

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
HALVES = Reason(
    "rows",
    "a modulation makes shift and scale, in an order that shapes cannot show: it is called otherwise on one side",
)
FOLDING = frozenset({"Unfold", "PixelUnshuffle"})
SPREADING = frozenset({"PixelShuffle", "Fold"})
MODULATING = frozenset({"modulation", "mod", "ada", "adaln", "film"})
Path = tuple[str, ...]


def judge_orders(state: State) -> Alternatives:
    """Matches behind a fold or of a modulation that is spelled differently."""
    model = state.trees[1]
    merges = folds(model)
    reasons = {link: order_doubt(link, model, merges) for link in state.links if link.certain}
    return {link: alone(link, reason) for link, reason in reasons.items() if reason}


def folds(model: KeyTree) -> dict[str, Reason]:
    """The modules that fold patches together or make places of channels, and what that leaves open."""
    kinds = {**dict.fromkeys(FOLDING, FOLDED), **dict.fromkeys(SPREADING, UNFOLDED)}
    return {_parent(path): kinds[name] for path, name in model.modules.items() if name in kinds}


def order_doubt(link: Link, model: KeyTree, merges: Mapping[str, Reason]) -> Reason | None:
    """What a plain match of leaves behind a fold, or of a modulation, may hide."""
    if link.operations:
        return None
    a, b = link.left[0], link.right[0]
    key = model.keys[next(iter(b.cells.values()))]
    inside = (reason for merge, reason in merges.items() if merge and key.startswith(f"{merge}."))
    reason = next(inside, None) if a.segments[-5:] != b.segments[-5:] else None
    if reason is not None and not (reason is FOLDED and _is_of_outputs(key, model)):
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
