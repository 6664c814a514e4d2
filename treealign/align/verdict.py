"""The verdict: the only place that makes a match certain, or takes that from it.

A judge says what else a match may be that it cannot refute; here, and nowhere else, that becomes a doubt. What is open
already keeps its first reason, with what else a judge leaves open about it beneath; what is proved is not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE, about, as_reason

Rivals = tuple[tuple[Pattern, ...], tuple[Pattern, ...]]
NOBODY: Rivals = ((), ())


class Alternative(NamedTuple):
    """What a judge cannot refute of a match.

    Attributes
    ----------
    reason : str
        What else it may be, and why that is not refuted; a `Reason` says which aspect of the match it leaves open.
    rivals : tuple of two tuples of Pattern
        Patterns of either side that nothing separates from those of the match, these included.
    near : tuple of two tuples of Pattern
        Those of them with which it could be exchanged directly, without a third.
    """

    reason: str
    rivals: Rivals
    near: Rivals = NOBODY


Alternatives = Mapping[Link, Alternative]


def alone(link: Link, reason: str) -> Alternative:
    """What is open about a match whatever else corresponds."""
    return Alternative(reason, (link.left, link.right))


def rivals_of(links: Sequence[Link]) -> Rivals:
    """All patterns of links that may be exchanged."""
    return tuple(p for link in links for p in link.left), tuple(p for link in links for p in link.right)


def judged(links: Iterable[Link], found: Alternatives, proved: Collection[Link] = ()) -> list[Link]:
    """The links, those open of which a judge cannot refute something; what is proved stays."""
    return [_judged(link, found[link]) if link in found and link not in proved else link for link in links]


def _judged(link: Link, other: Alternative) -> Link:
    """The link as one that is open for this, too.

    A link of which rows or axes are open already would be certain as soon as these are told: whose it is, is asked as
    well. Of whose it is, one doubt is enough.
    """
    if link.certain:
        return doubted(link, *other)
    aspect, known = about(other.reason), {*link.open, *link.answered}
    if aspect in known or (aspect in WHOSE and not WHOSE.isdisjoint(known)):
        return link
    return replace(link, beneath=(*link.beneath, as_reason(other.reason)))


def doubted(
    link: Link,
    reason: str,
    rivals: Rivals | None = None,
    near: Rivals | None = None,
    beneath: Iterable[str] | None = None,
) -> Link:
    """The link as an open one, for this reason; what is not given stays as it is."""
    changes = {"rivals": rivals, "near": near, "beneath": beneath if beneath is None else tuple(beneath)}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(link, certain=False, reason=reason, **given)  # type: ignore[arg-type]


def settled(link: Link) -> Link:
    """The link as a certain one: nothing that spoke against it is left."""
    return replace(link, certain=True, reason="", rivals=NOBODY, near=NOBODY, beneath=())


def supposed(link: Link) -> Link:
    """The link as if it were certain, to see what else would be open about it."""
    return replace(link, certain=True)


def settled_if_answered(link: Link) -> Link:
    """The link as a certain one, if nothing about it is open any more."""
    return link if link.open else settled(link)
