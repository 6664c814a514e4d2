"""Settle what evidence leaves open by scores of the model itself, loaded in one way and in another.

Every choice has all its options scored, the other choices as they are in the best mapping found. An option wins if it
beats every mapping tried that decides the choice otherwise, by more than the score changes when nothing does; and if it
beats the same mapping with the tensors in question shuffled, by more than shuffles differ among themselves: where no
option is right, the best of them is no better than chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from treealign.align.alignment import Alignment
from treealign.align.asking.alternatives import Choice, Layouts, rename_choices, square_choices, with_turns
from treealign.align.asking.hidden_alternatives import fused_choices, head_choices, part_choices, rotary_choices
from treealign.align.doubting.conventions import hidden_beneath, without_guess
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.mapping.operations import Operation

SHUFFLES = 3
Picks = tuple[int, ...]


class Score(Protocol):
    """Scores the model under links, higher is better; the tensors that `shuffled` fill are shuffled first."""

    def __call__(self, links: Sequence[Link], shuffled: Sequence[Link] = (), seed: int = 0) -> float:
        """The score of a mapping."""


@dataclass(frozen=True)
class Trial:
    """One way to decide a choice, and the best score of a mapping that decides so; None if it was not tried."""

    text: str
    score: float | None


@dataclass(frozen=True)
class Decision:
    """What a probe said about one choice.

    Attributes
    ----------
    settled : bool
        Whether it decided.
    reason : str
        Why it did not, or empty.
    trials : tuple of Trial
        The options, best first.
    shuffled : tuple of float
        Scores with the tensors in question shuffled.
    """

    settled: bool
    reason: str
    trials: tuple[Trial, ...]
    shuffled: tuple[float, ...] = ()


@dataclass(frozen=True)
class Probed:
    """What a probe did.

    Attributes
    ----------
    name : str
        The callable's name.
    probes : int
        How often it was called.
    decisions : tuple of Decision
        One for each choice.
    """

    name: str
    probes: int
    decisions: tuple[Decision, ...]


def settle_by_probe(
    alignment: Alignment, score: Score, layout_of: Layouts, *, name: str, max_probes: int, tolerance: float
) -> tuple[Alignment, Probed]:
    """Try what an alignment leaves open and take what a probe prefers.

    Parameters
    ----------
    alignment : Alignment
        With open links.
    score : callable
        Scores a mapping; see `Score`.
    layout_of : callable
        Key of the model to the arrangements of heads that its rows may have.
    name : str
        What to call the probe.
    max_probes : int
        Bound on the calls of `score`.
    tolerance : float
        Relative difference of two scores that says nothing: rounding in the model's dtype.

    Returns
    -------
    Alignment, Probed
        Settled links are certain, with the scores as evidence; the others are as they were, with the reason.

    Notes
    -----
    Where all combinations of options fit the bound, all are tried. Otherwise the choices are gone through one after the
    other until none changes, in order of plausibility (coordinate ascent); a choice whose options could not all be
    tried beside the final ones of the others stays open.
    """
    choices = find_choices(alignment, layout_of)
    search = _Search(alignment, choices, score, max_probes)
    best = search.run()
    decisions = tuple(_decide(search, best, at, tolerance) for at in range(len(choices)))
    settled = _settled(alignment, search, best, decisions, name)
    return settled, Probed(name, search.probes, decisions)


def find_choices(alignment: Alignment, layout_of: Layouts) -> list[Choice]:
    """All choices that an alignment leaves open and that can be tried."""
    links, conventions = alignment.links, alignment.conventions
    reasons = hidden_beneath(links, conventions) if conventions is not None else {}
    found = rename_choices(alignment) + part_choices(links, layout_of, _key_of(alignment))
    found += square_choices(links) + fused_choices(links, reasons) + head_choices(links, reasons)
    return found + rotary_choices(links, reasons, layout_of, _key_of(alignment))


def _key_of(alignment: Alignment) -> Callable[[Link], str]:
    keys = alignment.model.keys
    return lambda link: keys[next(iter(link.right[0].cells.values()))]


class _Search:
    """Scores combinations of options, each once."""

    def __init__(self, alignment: Alignment, choices: Sequence[Choice], score: Score, max_probes: int) -> None:
        self.links, self.choices, self.score = alignment.links, choices, score
        self.left, self.probes = max_probes, 0
        self.scores: dict[Picks, float] = {}
        self.reserve = 1 + SHUFFLES * len(choices)  # the best is scored again, and with each choice's tensors shuffled
        self._noise: float | None = None
        self._turned: dict[object, Link] = {}

    def run(self) -> Picks:
        """The best combination found."""
        sizes = [len(choice.options) for choice in self.choices]
        start = (0,) * len(sizes)
        if math.prod(sizes) <= self.left - self.reserve:
            for picks in sorted(product(*map(range, sizes)), key=lambda p: (sum(p), p)):
                self.at(picks)
            return self._best()
        best, before = start, None
        while best != before and self.left > self.reserve:
            before = best
            for at, size in enumerate(sizes):
                for pick in range(size):
                    self.at((*best[:at], pick, *best[at + 1 :]))
                best = self._best() if self.scores else best
        return best

    def _best(self) -> Picks:
        return max(self.scores, key=lambda picks: (self.scores[picks], -sum(picks), tuple(-p for p in picks)))

    def at(self, picks: Picks) -> float | None:
        """The score of a combination; None when the bound is reached."""
        if picks not in self.scores:
            if self.left <= self.reserve:
                return None
            found = self.call(picks)
            if found is None:
                return None
            self.scores[picks] = found
        return self.scores[picks]

    def call(self, picks: Picks, shuffled: Sequence[Pattern] = (), seed: int = 0) -> float | None:
        """Score a combination, again if need be."""
        if self.left < 1:
            return None
        self.left -= 1
        self.probes += 1
        links = tuple(self.candidate(picks).values())
        wanted = {id(p) for p in shuffled}
        found = self.score(links, [link for link in links if any(id(p) in wanted for p in link.right)], seed)
        return -math.inf if math.isnan(found) else found

    def noise(self, best: Picks) -> float:
        """How much the score of one combination changes when nothing does."""
        if self._noise is None:
            again = self.call(best)
            self._noise = math.inf if again is None or not math.isfinite(again) else abs(self.scores[best] - again)
        return self._noise

    def candidate(self, picks: Picks) -> dict[int, Link]:
        """The links of the alignment, by identity, as a combination has them."""
        current = {id(link): link for link in self.links}
        current.update((id(link), without_guess(link)) for choice in self.choices for link in choice.links)
        turned: dict[int, tuple[Operation, ...]] = {}
        for choice, pick in zip(self.choices, picks, strict=True):
            option = choice.options[pick]
            current.update((id(old), link) for old, link in zip(choice.links, option.links, strict=False))
            turned.update((p, turned.get(p, ()) + operations) for p, operations in option.turned.items())
        return {at: self._with(link, turned) for at, link in current.items()} if turned else current

    def _with(self, link: Link, turned: dict[int, tuple[Operation, ...]]) -> Link:
        """The link with the operations on it, the same object each time: what is loaded already is not loaded again."""
        mine = tuple((id(p), turned[id(p)]) for p in (*link.left, *link.right) if id(p) in turned)
        if not mine:
            return link
        key = (link.left, link.right, link.operations, link.groups, mine)
        return self._turned.setdefault(key, with_turns(link, dict(mine)))


def _decide(search: _Search, best: Picks, at: int, tolerance: float) -> Decision:
    """Whether the best combination's option of one choice won."""
    choice = search.choices[at]
    own = search.scores.get(best)
    trials = tuple(sorted(_trials(search, at), key=lambda t: -math.inf if t.score is None else t.score, reverse=True))
    if own is None or not math.isfinite(own):
        return Decision(False, "the probe rejects all alternatives", trials)
    if not choice.complete or not _all_tried(search, best, at):
        return Decision(False, "there are more alternatives than the probe may try", trials)
    noise = search.noise(best)
    rival = max(score for picks, score in search.scores.items() if picks[at] != best[at])
    if not _beats(own, rival, noise, tolerance):
        return Decision(False, f"the probe scores alternatives alike: {own:.6g} and {rival:.6g}", trials)
    chance = _chance(search, best, choice)
    spread = max(chance) - min(chance) if all(map(math.isfinite, chance)) else 0.0
    if not chance or not _beats(own, max(chance), max(noise, spread), tolerance):
        return Decision(False, "the best alternative scores like shuffled tensors", trials, chance)
    return Decision(True, "", trials, chance)


def _all_tried(search: _Search, best: Picks, at: int) -> bool:
    options = range(len(search.choices[at].options))
    return all((*best[:at], pick, *best[at + 1 :]) in search.scores for pick in options)


def _trials(search: _Search, at: int) -> Iterator[Trial]:
    for pick, option in enumerate(search.choices[at].options):
        yield Trial(option.text, max((s for p, s in search.scores.items() if p[at] == pick), default=None))


def _beats(own: float, other: float, noise: float, tolerance: float) -> bool:
    if other == -math.inf:
        return True
    return own - other > max(noise, tolerance * max(abs(own), abs(other)))


def _chance(search: _Search, best: Picks, choice: Choice) -> tuple[float, ...]:
    targets = [p for link in choice.links for p in link.right]
    found = (search.call(best, targets, seed) for seed in range(SHUFFLES))
    return tuple(score for score in found if score is not None)


def _settled(alignment: Alignment, search: _Search, best: Picks, decisions: Sequence[Decision], name: str) -> Alignment:
    """The alignment with settled links certain; a link in two choices waits for both."""
    open_reasons: dict[int, str] = {}
    evidence: dict[int, tuple[str, ...]] = {}
    for choice, decision in zip(search.choices, decisions, strict=True):
        for link in choice.links:
            if decision.settled:
                evidence[id(link)] = (*evidence.get(id(link), ()), _evidence(name, decision))
            else:
                open_reasons.setdefault(id(link), decision.reason)
    settled = [pick if decision.settled else 0 for pick, decision in zip(best, decisions, strict=True)]
    candidate = search.candidate(tuple(settled))
    links = []
    for link in alignment.links:
        made = candidate[id(link)] if id(link) in evidence else link
        if id(link) in open_reasons:
            made = replace(made, certain=False, reason=f"{link.reason}; {open_reasons[id(link)]}")
        elif id(link) in evidence:
            made = replace(made, certain=True, reason="", rivals=((), ()), evidence=link.evidence + evidence[id(link)])
        links.append(made)
    return replace(alignment, links=tuple(links), left=_left_over(alignment, links))


def _evidence(name: str, decision: Decision) -> str:
    best, second = decision.trials[:2]
    scores = f"{best.score:.6g}, next best {second.score:.6g} ({second.text})"
    return f"probe {name}: {best.text} scores {scores}, shuffled at best {max(decision.shuffled):.6g}"


def _left_over(alignment: Alignment, links: Sequence[Link]) -> tuple[Pattern, ...]:
    """Checkpoint patterns without a partner: an exchange may have taken one of them and left another."""
    before = {id(p): p for link in alignment.links for p in link.left} | {id(p): p for p in alignment.left}
    used = {id(p) for link in links for p in link.left}
    return tuple(p for at, p in before.items() if at not in used)
