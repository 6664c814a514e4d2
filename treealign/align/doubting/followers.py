"""A leaf of a module of which other leaves certainly go to one module, that has the same leaves: it goes there, too.

A batch norm's counter has no shape to be told by, so that the order of a list, or another counter, leaves it open; its
weight and its bias are of one shape, where its running mean alone bears that name. Who they belong to is their
module's decision, and that is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from treealign.align import verdict
from treealign.align.links import Link
from treealign.align.reasons import NAMED
from treealign.align.state import State
from treealign.tree.keytree import KeyTree

OTHERS = 2  # vectors of its module that must be certain, or one matrix: of a scale and a shift either may be wrong
FOLLOWS = "its module: what is certain of it goes to the same one"
Module = dict[str, int]


def follow_modules(state: State) -> State:
    """Settle who the open leaves of a module belong to; linear in the leaves."""
    wanted = [link for link in state.links if _may_follow(link)]
    if not wanted or not state.shapes:
        return state
    certain = {
        group.left[0]: group.right[0]
        for link in state.known
        if link.certain and len(link.left) == len(link.right) == 1
        for group in link.expand()
        if len(group.left) == len(group.right) == 1
    }
    modules = tuple(map(_modules, state.trees))
    settled = {link: _following(link) for link in wanted if _follows(link, state.trees, modules, certain)}
    return replace(state, links=tuple(settled.get(link, link) for link in state.links))


def _may_follow(link: Link) -> bool:
    alone = not link.certain and not link.operations and len(link.left) == len(link.right) == 1
    return alone and set(link.open) <= NAMED and link.left[0].segments[-1] == link.right[0].segments[-1]


def _modules(tree: KeyTree) -> dict[str, Module]:
    found: dict[str, Module] = defaultdict(dict)
    for at, key in enumerate(tree.keys):
        module, _, name = key.rpartition(".")
        found[module][name] = at
    return found


def _follows(
    link: Link, trees: tuple[KeyTree, KeyTree], modules: tuple[Mapping[str, Module], ...], certain: Mapping[int, int]
) -> bool:
    for group in link.expand():
        mine, theirs = (
            modules[n][trees[n].keys[at].rpartition(".")[0]] for n, at in enumerate((group.left[0], group.right[0]))
        )
        told = {name: certain[at] for name, at in mine.items() if at in certain}
        enough = len(told) >= OTHERS or any(len(trees[0].leaves[mine[name]].shape or ()) > 1 for name in told)
        if mine.keys() != theirs.keys() or not enough or any(theirs[name] != at for name, at in told.items()):
            return False
    return True


def _following(link: Link) -> Link:
    return verdict.settled(replace(link, evidence=(*link.evidence, FOLLOWS)))
