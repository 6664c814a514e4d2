"""Settle what evidence leaves open by scores of the model itself, loaded in one way and in another.

Every choice has all its options scored, the other choices as they are in the best mapping found. An option wins if it
beats every mapping tried that decides the choice otherwise, by more than the score changes when nothing does; and if it
beats the same mapping with the tensors in question shuffled, by more than shuffles differ among themselves: where no
option is right, the best of them is no better than chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

from treealign.align.alignment import Alignment
from treealign.align.asking.choices import Choice, find_choices, with_answers
from treealign.align.asking.hidden import Sizes
from treealign.align.asking.question import Question
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE, Reason, about, as_reason

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
    alignment: Alignment, score: Score, sizes: Sizes, *, name: str, max_probes: int, tolerance: float
) -> tuple[Alignment, Probed]:
    """Try what an alignment leaves open and take what a probe prefers.

    Parameters
    ----------
    alignment : Alignment
        With open links.
    score : callable
        Scores a mapping; see `Score`.
    sizes : callable
        How the rows of a link may be arranged in heads, as far as the model says it.
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
    tried beside the final ones of the others stays open. What an answer leaves open in turn is tried next.
    """
    decisions: list[Decision] = []
    asked: set[str] = set()
    left = max_probes
    while True:
        choices = [choice for choice in find_choices(alignment, sizes) if not choice.hints <= asked]
        if not choices or left < 1:
            return alignment, Probed(name, max_probes - left, tuple(decisions))
        asked.update(hint for choice in choices for hint in choice.hints)
        search = _Search(alignment, choices, score, left)
        best = search.run()
        made = [_decide(search, best, at, tolerance) for at in range(len(choices))]
        alignment = _settled(search, best, made, name)
        left -= search.probes
        decisions += made


class _Search:
    """Scores combinations of options, each once."""

    def __init__(self, alignment: Alignment, choices: Sequence[Choice], score: Score, max_probes: int) -> None:
        self.alignment, self.choices, self.score = alignment, choices, score
        self.left, self.probes = max_probes, 0
        self.scores: dict[Picks, float] = {}
        self.reserve = 1 + SHUFFLES * len(choices)  # the best is scored again, and with each choice's tensors shuffled
        self._noise: float | None = None
        self._made: dict[Picks, Alignment | None] = {}

    def run(self) -> Picks:
        """The best combination found."""
        sizes = [len(choice.ways) for choice in self.choices]
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

    def call(self, picks: Picks, shuffled: Set[Pattern] = frozenset(), seed: int = 0) -> float | None:
        """Score a combination, again if need be; one that cannot be is worse than any that can."""
        made = self.candidate(picks)
        if made is None:
            return -math.inf
        if self.left < 1:
            return None
        self.left -= 1
        self.probes += 1
        disturbed = [link for link in made.links if not shuffled.isdisjoint(link.right)]
        found = self.score(made.links, disturbed, seed)
        return -math.inf if math.isnan(found) else found

    def noise(self, best: Picks) -> float:
        """How much the score of one combination changes when nothing does."""
        if self._noise is None:
            again = self.call(best)
            self._noise = math.inf if again is None or not math.isfinite(again) else abs(self.scores[best] - again)
        return self._noise

    def candidate(self, picks: Picks) -> Alignment | None:
        """The alignment with the answers of a combination; None where they cannot hold together."""
        if picks not in self._made:
            chosen = zip(self.choices, picks, strict=True)
            ways = (choice.ways[pick] for choice, pick in chosen if pick or not choice.guessed)
            made = with_answers(self.alignment, [hint for way in ways for hint in way.hints])
            # a model with further holes says nothing
            self._made[picks] = None if made is None or set(made.right) - set(self.alignment.right) else made
        return self._made[picks]


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
    options = range(len(search.choices[at].ways))
    return all((*best[:at], pick, *best[at + 1 :]) in search.scores for pick in options)


def _trials(search: _Search, at: int) -> Iterator[Trial]:
    for pick, option in enumerate(search.choices[at].ways):
        yield Trial(option.text, max((s for p, s in search.scores.items() if p[at] == pick), default=None))


def _beats(own: float, other: float, noise: float, tolerance: float) -> bool:
    if other == -math.inf:
        return True
    return own - other > max(noise, tolerance * max(abs(own), abs(other)))


def _chance(search: _Search, best: Picks, choice: Choice) -> tuple[float, ...]:
    found = (search.call(best, choice.targets, seed) for seed in range(SHUFFLES))
    return tuple(score for score in found if score is not None)


def _settled(search: _Search, best: Picks, decisions: Sequence[Decision], name: str) -> Alignment:
    """The alignment with what was decided answered, and the reason added to what was not."""
    evidence: dict[str, str] = {}
    alignment = search.alignment
    for choice, decision, pick in zip(search.choices, decisions, best, strict=True):
        if decision.settled:
            evidence.update((hint, _evidence(name, decision)) for hint in choice.ways[pick].hints)
        else:
            for question in choice.questions:
                alignment = _with_reason(alignment, question, decision.reason)
    made = with_answers(alignment, list(evidence))
    if made is None:
        return alignment
    said = {f"answered: {hint}": text for hint, text in evidence.items()}
    links = tuple(replace(link, evidence=tuple(said.get(e, e) for e in link.evidence)) for link in made.links)
    return replace(made, links=links)


def _evidence(name: str, decision: Decision) -> str:
    best, second = decision.trials[:2]
    scores = f"{best.score:.6g}, next best {second.score:.6g} ({second.text})"
    return f"probe {name}: {best.text} scores {scores}, shuffled at best {max(decision.shuffled):.6g}"


def _with_reason(alignment: Alignment, question: Question, why: str) -> Alignment:
    """The alignment whose links say besides why a probe could not answer a question about them."""
    aspects = WHOSE if question.about in WHOSE else {question.about}
    asked = set(question.links)

    def added(reason: str) -> Reason:
        return as_reason(reason).because(why) if about(reason) in aspects else as_reason(reason)

    links = (
        replace(link, reason=link.reason and added(link.reason), beneath=tuple(map(added, link.beneath)))
        if link in asked
        else link
        for link in alignment.links
    )
    return replace(alignment, links=tuple(links))
