"""Averages kept as a list: ``shadow_params.0``, ``shadow_params.1``, … are a model's parameters in their order.

The number of an entry is the place of its parameter in ``model.parameters()``, and nothing else is known of it. So the
list is read under the names of the other side only where all of it fits: as many tensors as that side has parameters,
each of its parameter's shape, in the order of definition. That order ranks and proves nothing: a release that defines q
before k where another has k before q fits as well. So only what is alone of its shape is certain.

Sources: torch_ema `ema.py` and diffusers `training_utils.py` (``EMAModel``): ``shadow_params`` over ``parameters()``.
"""

from __future__ import annotations

from collections import Counter

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.spelling import respelled
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of
from treealign.tree.keytree import KeyTree

FRONT = "shadow_params"
BY_NUMBER = Reason("names", "its name is its place in a list, and others of its shape stand there")


def with_names(listed: KeyTree, other: KeyTree) -> KeyTree:
    """The tree with the names of the other side for the entries of a list; as it is where they do not all fit."""
    found = {int(number): leaf for leaf in listed.leaves if (number := _number(leaf.key)) is not None}
    if len(found) < 2 or len(found) != len(listed) or sorted(found) != list(range(len(found))) or not other.ordered:
        return listed
    parameters = [leaf for leaf in other.leaves if leaf.kind == "parameter" and leaf.key not in other.tied]
    if [leaf.shape for leaf in parameters] != [found[at].shape for at in range(len(found))]:
        return listed
    names = {found[at].key: leaf.key for at, leaf in enumerate(parameters)}
    return respelled(listed, [names[key] for key in listed.keys])


def judge_unnamed(state: State) -> Alternatives:
    """Matches of entries of a list of which others have their shape."""
    given = state.given
    if not any(_number(key) is not None for tree in given for key in tree.keys):
        return {}
    shapes = [Counter(leaf.shape for leaf in tree.leaves if _number(leaf.key) is not None) for tree in given]

    def is_told(p: Pattern, side: int) -> bool:
        leaves = [given[side].leaves[at] for at in p.cells.values()]
        return all(_number(leaf.key) is None or shapes[side][leaf.shape] == 1 for leaf in leaves)

    open_ = [
        link
        for link in state.known
        if not all(is_told(p, side) for side in (0, 1) for p in (link.left, link.right)[side])
    ]
    return {link: Alternative(BY_NUMBER, rivals_of([o for o in open_ if _one_shape(o, link)])) for link in open_}


def _one_shape(link: Link, other: Link) -> bool:
    return link.left[0].signature == other.left[0].signature


def _number(key: str) -> str | None:
    front, _, number = key.rpartition(".")
    return number if front.rpartition(".")[2] == FRONT and number.isdecimal() else None
