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
    kind : str
        What sort of doubt it is: the text that it was given first, whatever is said of it later. Decide by this.

    Examples
    --------
    >>> reason = Reason("rows", "heads of 64 rows are a guess")
    >>> reason.about, str(reason)
    ('rows', 'heads of 64 rows are a guess')
    >>> reason.because("no probe tells").kind == reason.kind
    True
    """

    __slots__ = ("about", "kind")
    about: About
    kind: str

    def __new__(cls, about: About, text: str, kind: str = "") -> Reason:
        """A reason that leaves this aspect open."""
        made = super().__new__(cls, text)
        made.about, made.kind = about, kind or text
        return made

    def __getnewargs__(self) -> tuple[About, str, str]:  # type: ignore[override]
        return self.about, str(self), self.kind

    def because(self, why: str) -> Reason:
        """The same doubt, with more said of it."""
        return self if why in self else Reason(self.about, f"{self}; {why}", self.kind)


def about(reason: str) -> About:
    """What a reason leaves open."""
    return reason.about if isinstance(reason, Reason) else "names"


def kind(reason: str) -> str:
    """What sort of doubt a reason is."""
    return reason.kind if isinstance(reason, Reason) else reason


def as_reason(reason: str) -> Reason:
    """A reason as one, for what hands on an objection as text."""
    return reason if isinstance(reason, Reason) else Reason("names", reason)
