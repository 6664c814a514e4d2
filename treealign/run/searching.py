"""Find the answers to open questions with which the model computes what the original computes.

The best guess is run first. Where its outputs differ, the answers are tried one after the other, those to the questions
that stand first first, and one is kept if more of what the original computes on its way is computed by the model too
(see `treealign.run.recorder.signature`). Where no answer helps, modules in question trade places that no question has
thought of; then two answers are tried together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from treealign.align.alignment import Alignment
from treealign.align.asking.choices import Choice, Way, with_answers
from treealign.align.asking.hidden import Sizes
from treealign.align.asking.questions import find_questions
from treealign.align.links import Link
from treealign.align.reasons import About, Reason
from treealign.align.verdict import doubted
from treealign.errors import TreealignError
from treealign.run.moves import exchanges, leftovers
from treealign.run.pair import Sides
from treealign.run.realising import Realiser
from treealign.run.recorder import Events
from treealign.run.results import LOOSE, agrees

MOST_RUNS = 400  # of the model
FOUND = "found by a run among what was left over"


@dataclass(frozen=True)
class Trial:
    """What a run under some answers gives.

    Attributes
    ----------
    difference : float
        Of the outputs; see `treealign.run.outputs.difference`.
    shared : int
        How many of the original's intermediate results occur.
    """

    difference: float
    shared: int


class Search:
    """Runs the model under answers, each set of them once.

    Parameters
    ----------
    alignment : Alignment
        With open questions.
    pair : Sides
        The two sides, values drawn.
    realiser : Realiser
        What fills the model.
    sizes : callable
        How the rows of a link may be arranged in heads.
    """

    def __init__(self, alignment: Alignment, pair: Sides, realiser: Realiser, sizes: Sizes) -> None:
        self.alignment, self.pair, self.realiser, self.sizes = alignment, pair, realiser, sizes
        self.left = MOST_RUNS
        self._trials: dict[object, Trial] = {}
        self._expected = pair.original_events()

    @property
    def events(self) -> int:
        """How many intermediate results the original has."""
        return len(self._expected)

    def answer(self, alignment: Alignment, hints: Sequence[str]) -> Alignment | None:
        """An alignment with answers; None where they contradict, or leave more of the model unfilled than before."""
        found = with_answers(alignment, hints)
        return None if found is None or set(found.right) - set(self.alignment.right) else found

    def trial(self, alignment: Alignment) -> Trial | None:
        """What a run gives with the values where an alignment has them; None where no run is left."""
        key = frozenset((link.left, link.right, link.operations, link.groups) for link in alignment.links)
        if key not in self._trials:
            if self.left < 1:
                return None
            self.left -= 1
            self.fill(alignment)
            watch = Events()
            try:
                difference = self.pair.compare(inside=lambda: watch)
            except TreealignError:  # some wrong values stop the code
                difference = math.inf
            self._trials[key] = Trial(difference, len(self._expected.intersection(watch.seen)))
        return self._trials[key]

    def fill(self, alignment: Alignment) -> None:
        """Give the model its values as an alignment has them go."""
        self.realiser.links = alignment.links
        self.realiser.fill(self.pair.model)

    def agrees(self, trial: Trial) -> bool:
        """Whether the outputs are equal, exactly or nearly."""
        return agrees(trial.difference, self.pair.precision) or trial.difference < LOOSE

    def choices(self, alignment: Alignment) -> list[Choice]:
        """What an alignment leaves open, each question by itself, with all its answers.

        Where the model says how large heads are, what was guessed without it may be none of them.
        """
        asked = (
            Choice((question,), tuple(Way(option.text, (option.hint,)) for option in question.options if option.links))
            for question in find_questions(alignment, self.sizes)
        )
        return [choice for choice in asked if len(choice.ways) > 1]

    def run(self) -> Alignment | None:
        """The alignment under which the outputs agree, all that was open still open; None where none was found."""
        found: Alignment | None = self.alignment
        best = self.trial(self.alignment)
        while found is not None and best is not None and not self.agrees(best):
            found = next(self._better(found, best), None)
            best = None if found is None else self.trial(found)
        return None if best is None else found

    def _better(self, alignment: Alignment, best: Trial) -> Iterator[Alignment]:
        """Answers that bring the model nearer, the best of each question; then of two questions together."""
        choices = [*self.choices(alignment), *leftovers(alignment)]
        for choice in (*choices, *exchanges(alignment)):
            yield from self._best(alignment, [way.hints for way in choice.ways], best)
        for one, other in combinations(choices, 2):
            pairs = [(*a.hints, *b.hints) for a in one.ways for b in other.ways]
            yield from self._best(alignment, pairs, best)

    def _best(self, alignment: Alignment, answers: Sequence[Sequence[str]], best: Trial) -> Iterator[Alignment]:
        made = [found for hints in answers if (found := self.answer(alignment, hints)) is not None]
        tried = [(trial, found) for found in made if (trial := self.trial(found)) is not None]
        better = [(trial, found) for trial, found in tried if self.agrees(trial) or trial.shared > best.shared]
        if better:
            # which half of an exchange was right is not known yet
            yield reopened(max(better, key=lambda one: (self.agrees(one[0]), one[0].shared))[1], alignment)

    def changed(self, guess: Alignment, other: Alignment) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """The model's tensors that have other values under another answer: as guessed, and as answered."""
        sides = []
        for alignment in (other, guess):
            self.fill(alignment)
            sides.append(self.pair.model.values(self.pair.model.places.places))
        moved, kept = sides
        return {key: (value, moved[key]) for key, value in kept.items() if not torch.equal(value, moved[key])}

    def half_differs(self, changed: Mapping[str, tuple[torch.Tensor, torch.Tensor]], floor: float) -> bool:
        """Whether the outputs change when half of the rows that another answer moves are moved, in one tensor."""
        model = self.pair.model
        key = max(changed, key=lambda key: changed[key][0].numel())
        kept, moved = changed[key]
        rows = (kept != moved).flatten(1).any(1).nonzero().flatten()
        half = kept.clone()
        half[rows[: len(rows) // 2]] = moved[rows[: len(rows) // 2]]
        model.put({key: half})
        try:
            return self.pair.compare() > floor
        finally:
            model.put({key: kept})


def reopened(made: Alignment, before: Alignment) -> Alignment:
    """An alignment with what answers have moved, as open as it was."""
    old = set(before.links)
    places = {link.right: link for link in before.links}
    links = [link if link in old else _as_open(link, places.get(link.right)) for link in made.links]
    return replace(made, links=tuple(links))


def _as_open(link: Link, base: Link | None) -> Link:
    """A link as open as the one that had its place; what never had one is in question as to its name."""
    found: dict[About, Reason] = {"names": Reason("names", FOUND)} if base is None else dict(base.open)
    found |= link.open
    if not found:
        return link
    reason, *beneath = found.values()
    evidence = tuple(text for text in link.evidence if not text.startswith("answered: "))
    answered = () if base is None else base.answered
    rivals, near = (link.rivals, link.near) if base is None else (base.rivals, base.near)
    return doubted(replace(link, answered=answered, evidence=evidence), reason, rivals, near, beneath)
