"""Find the answers to open questions with which the model computes what the original computes.

The best guess is run first. Where its outputs differ, the answers are tried one after the other, those to the questions
that stand first first, and one is kept if more of what the original computes on its way is computed by the model too
(see `treealign.run.recorder.signature`). Where no single answer helps, two are tried together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from treealign.align.alignment import Alignment
from treealign.align.asking.choices import Choice, Way, find_choices, with_answers
from treealign.align.asking.exchanging import reach
from treealign.align.asking.hidden import Sizes
from treealign.align.paths import rooted_text
from treealign.errors import TreealignError
from treealign.run.pair import Sides
from treealign.run.realising import Realiser
from treealign.run.recorder import Events
from treealign.run.results import LOOSE, agrees

MOST_RUNS = 400  # of the model
MOST_LEFT = 4  # keys of the checkpoint that are left over and tried for one that nothing fills
Hints = tuple[str, ...]
Decided = tuple[tuple[Choice, Way], ...]


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
        self._trials: dict[Hints, Trial | None] = {}
        self._made: dict[Hints, Alignment | None] = {}
        self._expected = pair.original_events()

    @property
    def events(self) -> int:
        """How many intermediate results the original has."""
        return len(self._expected)

    def made(self, hints: Hints) -> Alignment | None:
        """The alignment with these answers; None where they contradict, or leave more of the model unfilled."""
        if hints not in self._made:
            found = with_answers(self.alignment, hints) if hints else self.alignment
            holes = found is not None and set(found.right) - set(self.alignment.right)
            self._made[hints] = None if holes else found
        return self._made[hints]

    def trial(self, hints: Hints) -> Trial | None:
        """What a run under these answers gives; None where there is none, or no run is left."""
        if hints not in self._trials:
            found = self.made(hints)
            if found is None or self.left < 1:
                return None
            self.left -= 1
            self.realiser.links = found.links
            self.realiser.fill(self.pair.model)
            watch = Events()
            try:
                difference = self.pair.compare(inside=lambda: watch)
            except TreealignError:  # some wrong values stop the code
                difference = math.inf
            self._trials[hints] = Trial(difference, len(self._expected.intersection(watch.seen)))
        return self._trials[hints]

    def agrees(self, trial: Trial) -> bool:
        """Whether the outputs are equal, exactly or nearly."""
        return agrees(trial.difference, self.pair.precision) or trial.difference < LOOSE

    def choices(self, hints: Hints) -> list[Choice]:
        """What is still open under these answers, and which key that is left over may fill what nothing fills."""
        found = self.made(hints)
        return [] if found is None else [*find_choices(found, self.sizes), *_leftovers(found)]

    def run(self) -> Decided | None:
        """Answers under which the outputs agree, none if the best guess does; None where none were found."""
        decided: Decided = ()
        best = self.trial(())
        while best is not None and not self.agrees(best):
            better = next(self._better(decided, best), None)
            if better is None:
                return None
            decided = better
            best = self.trial(hints_of(decided))
        return None if best is None else decided

    def _better(self, decided: Decided, best: Trial) -> Iterator[Decided]:
        """Answers that bring the model nearer, the best of each question; then of two questions together."""
        choices = self.choices(hints_of(decided))
        for choice in choices:
            yield from self._best([(*decided, (choice, way)) for way in choice.ways[1:]], best)
        for one, other in combinations(choices, 2):
            pairs = [(*decided, (one, a), (other, b)) for a in one.ways[1:] for b in other.ways[1:]]
            yield from self._best(pairs, best)

    def _best(self, ways: Sequence[Decided], best: Trial) -> Iterator[Decided]:
        found = [(trial, way) for way in ways if (trial := self.trial(hints_of(way))) is not None]
        better = [(t, way) for t, way in found if self.agrees(t) or t.shared > best.shared]
        if better:
            yield max(better, key=lambda one: (self.agrees(one[0]), one[0].shared))[1]

    def half_differs(self, hints: Hints, others: Hints, floor: float) -> bool:
        """Whether the outputs change when half of the rows that other answers move are moved, in one tensor."""
        model = self.pair.model
        sides = []
        for said in (others, hints):
            found = self.made(said)
            if found is None:
                return False
            self.realiser.links = found.links
            self.realiser.fill(model)
            sides.append(model.values(model.places.places))
        moved, kept = sides
        changed = [key for key, value in kept.items() if not torch.equal(value, moved[key])]
        if not changed:
            return False
        key = max(changed, key=lambda key: kept[key].numel())
        rows = (kept[key] != moved[key]).flatten(1).any(1).nonzero().flatten()
        half = kept[key].clone()
        half[rows[: len(rows) // 2]] = moved[key][rows[: len(rows) // 2]]
        model.put({key: half})
        try:
            return self.pair.compare() > floor
        finally:
            model.put({key: kept[key]})


def hints_of(decided: Decided) -> Hints:
    """The hints of all ways that were decided for."""
    return tuple(hint for _, way in decided for hint in way.hints)


def _leftovers(alignment: Alignment) -> Iterator[Choice]:
    """For a key of the model that nothing fills: nothing, or one of those keys of like shape that belong to nothing."""
    for q in alignment.right:
        like = [p for p in alignment.left if reach(p, q)][:MOST_LEFT]
        target = rooted_text([q], [*alignment.right, *(p for link in alignment.links for p in link.right)])[0]
        known = [*alignment.left, *(p for link in alignment.links for p in link.left)]
        ways = [Way(f"{p.template} -> {q.template}", (f"{rooted_text([p], known)[0]}={target}",)) for p in like]
        if ways:
            yield Choice((), (Way("nothing", ()), *ways))
