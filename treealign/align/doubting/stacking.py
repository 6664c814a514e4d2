"""Doubts that stack: what else is open about a match whose first doubt hides it.

Settling who goes to whom says nothing of rows and axes. So whatever a match is doubted for, it is judged as if that
were settled, and all that is open stands with it from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.doubting.conventions import SQUARE, Conventions, is_turned_square, without_guess
from treealign.align.doubting.folded_space import Folds, folds, order_doubt
from treealign.align.doubting.lists import ORDER, unconfirmed
from treealign.align.doubting.transposition import OPPOSED, TURNED
from treealign.align.links import Link
from treealign.align.reasons import Reason, about
from treealign.align.state import State
from treealign.align.verdict import Alternatives, alone, doubted, settled, supposed
from treealign.tree.keytree import KeyTree


def stacked(links: Sequence[Link], conventions: Conventions, model: KeyTree) -> list[Link]:
    """The links, with those that are open what else is open about them."""
    merges, told = folds(model), [supposed(link) for link in links]
    ordered = {link for link, found in unconfirmed(told).items() if found.reason == ORDER}
    return [
        link if link.certain else _with_all(link, conventions, merges, one in ordered)
        for link, one in zip(links, told, strict=True)
    ]


def judge_exchanges(state: State) -> Alternatives:
    """Matches that would have to give way if names are right about a partner of another layout.

    An exchange is one decision: where the one half of it is open, the other is.
    """
    open_ones = (link for link in state.known if not link.certain and link.reason in (TURNED, OPPOSED))
    rivals = {p for link in open_ones for side in link.rivals for p in side}
    return {link: alone(link, TURNED) for link in state.known if not rivals.isdisjoint((*link.left, *link.right))}


def judged_anew(link: Link, conventions: Conventions, model: KeyTree) -> Link:
    """A link that an answer has made: what its rows and axes may hide, and what habits of its libraries suggest."""
    made = conventions.judged(replace(settled(link), near=link.near))
    if made.certain:
        made = doubted(made, "", (link.left, link.right))
    return _with_all(made, conventions, folds(model))


def _with_all(link: Link, conventions: Conventions, merges: Folds, order: bool = False) -> Link:
    base = without_guess(link)
    found: Sequence[Reason | None] = (
        *link.beneath,
        *conventions.doubts(base),
        order_doubt(base, merges),
        SQUARE if is_turned_square(link) else None,
        ORDER if order else None,
    )
    known = {about(link.reason)} if link.reason else set()
    kept: list[Reason] = []
    for reason in found:
        if reason is not None and reason.about not in known:
            known.add(reason.about)
            kept.append(reason)
    return replace(link, beneath=tuple(kept))
