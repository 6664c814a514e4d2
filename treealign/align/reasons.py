"""Why a match is open: reasons as values of a type, each with the aspect of the match that it leaves open."""

from __future__ import annotations

from typing import Literal, get_args

About = Literal["names", "belongs", "order", "rows", "axes"]
ASPECTS: tuple[About, ...] = get_args(About)  # in the order in which to ask: rows mean nothing before names are settled

WHOSE: frozenset[About] = frozenset({"names", "belongs"})  # who corresponds to whom
NAMED: frozenset[About] = WHOSE | {"order"}  # what says what a leaf is called, not how its numbers stand


class Reason(str):
    """A reason, in words for a person, and what it is about for the program.

    Attributes
    ----------
    about : str
        ``names``: which goes to which; ``belongs``: whether the two belong together at all; ``order``: of parts in a
        whole, or of the members of a list; ``rows``: how these stand in a tensor; ``axes``: which dimension is which.

    Examples
    --------
    >>> reason = Reason("rows", "heads of 64 rows are a guess")
    >>> reason.about, str(reason)
    ('rows', 'heads of 64 rows are a guess')
    """

    __slots__ = ("about",)
    about: About

    def __new__(cls, about: About, text: str) -> Reason:
        """A reason that leaves this aspect open."""
        made = super().__new__(cls, text)
        made.about = about
        return made

    def __getnewargs__(self) -> tuple[About, str]:  # type: ignore[override]
        return self.about, str(self)


def about(reason: str) -> About:
    """What a reason leaves open."""
    return reason.about if isinstance(reason, Reason) else "names"


def as_reason(reason: str) -> Reason:
    """A reason as one, for what hands on an objection as text."""
    return reason if isinstance(reason, Reason) else Reason("names", reason)
