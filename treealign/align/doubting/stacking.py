"""Doubts that stack: what else is open about a match whose first doubt hides it.

Settling who goes to whom says nothing of rows and axes. So whatever a match is doubted for, it is judged as if that
were settled, and all that is open stands with it from the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from treealign.align.doubting.conventions import SQUARE, Conventions, is_turned_square, without_guess
from treealign.align.doubting.folded_space import folds, order_doubt
from treealign.align.doubting.lists import ORDER, doubt_lists
from treealign.align.doubting.transposition import OPPOSED, TURNED
from treealign.align.links import Link
from treealign.align.reasons import Reason, about
from treealign.tree.keytree import KeyTree


def stacked(links: Iterable[Link], conventions: Conventions, model: KeyTree) -> list[Link]:
    """The links, with those that are open what else is open about them."""
    merges, found = folds(model), exposed(list(links))
    told = [replace(link, certain=True) for link in found]
    orders = [after.reason if not after.certain else "" for after in doubt_lists(told)]
    return [
        link if link.certain else _with_all(link, conventions, model, merges, order)
        for link, order in zip(found, orders, strict=True)
    ]


def exposed(links: Sequence[Link]) -> list[Link]:
    """The links, those open that would have to give way if names are right about a partner of another layout.

    An exchange is one decision: where the one half of it is open, the other is.
    """
    doubted = [link for link in links if not link.certain and link.reason in (TURNED, OPPOSED)]
    rivals = {p for link in doubted for side in link.rivals for p in side}
    return [
        replace(link, certain=False, reason=TURNED, rivals=(link.left, link.right))
        if link.certain and not rivals.isdisjoint((*link.left, *link.right))
        else link
        for link in links
    ]


def judged_anew(link: Link, conventions: Conventions, model: KeyTree) -> Link:
    """A link that an answer has made: what its rows and axes may hide, and what habits of its libraries suggest."""
    bare = replace(link, certain=True, reason="", beneath=(), rivals=((), ()))
    made = conventions.judged(bare)
    if made.certain:
        made = replace(made, certain=False, reason="", rivals=(link.left, link.right))
    return _with_all(made, conventions, model, folds(model))


def _with_all(link: Link, conventions: Conventions, model: KeyTree, merges: set[str], order: str = "") -> Link:
    base = without_guess(link)
    found: Sequence[Reason | None] = (
        *link.beneath,
        *conventions.doubts(base),
        order_doubt(base, model, merges),
        SQUARE if is_turned_square(link) else None,
        ORDER if order == ORDER else None,
    )
    known = {about(link.reason)} if link.reason else set()
    kept: list[Reason] = []
    for reason in found:
        if reason is not None and reason.about not in known:
            known.add(reason.about)
            kept.append(reason)
    return replace(link, beneath=tuple(kept))
