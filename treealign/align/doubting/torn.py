"""Weight and bias of one module: who they belong to is one decision, with one verdict.

A bias has few shapes to be told by, so a name may settle it where the weight beside it is open, or goes to another
module. What tells the module of the one must hold for the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from treealign.align.links import Link
from treealign.align.parameters import parameter_of
from treealign.align.reasons import Reason
from treealign.align.verdict import Alternative, Alternatives, alone, settled

if TYPE_CHECKING:
    from treealign.align.state import State

TORN = Reason("names", "the other leaf of its module is open")
Path = tuple[str, ...]


def judge_torn(state: State) -> Alternatives:
    """Matches of a weight or a bias of which the other one, of either of its modules, is open.

    To a fixpoint: a module that is open by one side opens what the other side holds of it.
    """
    modules: dict[tuple[int, Path], list[Link]] = defaultdict(list)
    for link in state.known:
        for place in _modules(link):
            modules[place].append(link)
    found: dict[Link, Alternative] = {}
    queue = [link for link in state.known if _is_open(link)]
    while queue:
        beside = [link for place in _modules(queue.pop()) for link in modules[place]]
        news = [link for link in beside if link.certain and link not in found]
        found |= {link: alone(link, TORN) for link in news}
        queue += news
    return found


def released(links: Sequence[Link]) -> list[Link]:
    """The links, those certain again whose one doubt was the other leaf of their module, where no such leaf is open."""
    modules: dict[tuple[int, Path], list[Link]] = defaultdict(list)
    for link in links:
        for place in _modules(link):
            modules[place].append(link)
    freed = {
        link
        for link in links
        if link.reason == TORN
        and not link.beneath
        and all(other.certain or other is link for place in _modules(link) for other in modules[place])
    }
    return [settled(link) if link in freed else link for link in links]


def _modules(link: Link) -> list[tuple[int, Path]]:
    """The modules of which it is a plain weight or bias, by side."""
    sides = enumerate((link.left, link.right))
    return sorted({(at, p.named[:-1]) for at, side in sides for p in side if parameter_of(p.named)})


def _is_open(link: Link) -> bool:
    return not link.certain and not link.is_told
