"""Settle open questions by running the original and the model side by side.

Equal outputs say that the mapping is one of those under which the model computes what the original computes. A question
is settled by them where none of its other answers is another such mapping: names, where no place answers like another
that is in question (see `treealign.run.equivalence`); order, rows and axes, where the outputs differ under every other
answer. What no output tells apart stays open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from treealign.align import verdict
from treealign.align.alignment import Alignment
from treealign.align.asking.hidden import Sizes
from treealign.align.asking.questions import find_questions
from treealign.align.asking.rows import ROTARY, HeadLayout
from treealign.align.hints import Statement, parse
from treealign.align.links import Link
from treealign.align.reasons import WHOSE, About, Reason
from treealign.run.equivalence import Places
from treealign.run.pair import Sides
from treealign.run.realising import Realiser
from treealign.run.results import WORSE, Ran, agrees
from treealign.run.searching import Search, Trial
from treealign.run.trials import head_layouts

NOTHING = {"float64": 1e-10, "float32": 1e-5}
UNSEEN = "no output tells it from another answer"
UNREAD = "the outputs do not depend on it"


def settle(alignment: Alignment, model: Any, sides: Sides, realiser: Realiser, seed: int = 0) -> tuple[Alignment, Ran]:
    """Settle what is open in an alignment.

    Parameters
    ----------
    alignment : Alignment
        Of the original's checkpoint and the model.
    model : nn.Module
        The model, live.
    sides : Sides
        The original and a copy of the model.
    realiser : Realiser
        What fills the copy.
    seed : int
        Of the values.

    Returns
    -------
    Alignment, Ran
        What is settled is certain, with the run as evidence. Where outputs cannot be brought to agree the alignment is
        as it was, with a finding.

    """

    def sizes(link: Link) -> Sequence[HeadLayout]:
        return head_layouts(model, alignment.model.keys[next(iter(link.right[0].cells.values()))])

    search = Search(alignment, sides, realiser, sizes)
    found = search.run()
    if found is None:
        ran = _refuted(sides, search.trial(alignment), search.events)
        return replace(alignment, findings=(*alignment.findings, str(ran))), ran
    trial = search.trial(found)
    assert trial is not None
    hints = _changes(found, alignment, sizes)
    settled = _Settling(search, found, trial.difference).settled()
    return settled, Ran(True, trial.difference, sides.precision, sides.runs, hints)


def _changes(found: Alignment, before: Alignment, sizes: Sizes) -> tuple[str, ...]:
    """The answers by which one alignment differs from another."""
    old = {(link.left, link.right, link.operations, link.groups) for link in before.links}
    moved = {link for link in found.links if (link.left, link.right, link.operations, link.groups) not in old}
    asked = (question for question in find_questions(found, sizes) if moved.intersection(question.links))
    return tuple(question.options[0].hint for question in asked)


def _refuted(sides: Sides, first: Trial | None, events: int) -> Ran:
    difference = first.difference if first else math.inf
    reason = f"under the best guess the outputs differ by {difference:.2g} of how much they vary"
    if events:
        reason += f", {first.shared if first else 0} of {events} intermediate results are the same"
    reason += ", and no answers to what is open make the outputs equal"
    if sides.draws_chance():
        reason += "; the original draws random numbers"
    return Ran(False, difference, sides.precision, sides.runs, (), reason)


class _Settling:
    """What equal outputs settle, and what they cannot tell."""

    def __init__(self, search: Search, found: Alignment, difference: float) -> None:
        self.search, self.alignment, self.difference = search, found, difference
        self.links = [link for link in found.links if not link.certain]
        certain = [link for link in found.links if link.certain]
        self.modules = set[tuple[str, str]]().union(*(_module_pairs(found, link) for link in certain))
        search.fill(found)
        self.places = Places(search.pair, self.links, found.model)

    @property
    def floor(self) -> float:
        """The least difference that is one."""
        precision = self.search.pair.precision
        return (
            NOTHING[precision]
            if agrees(self.difference, precision)
            else max(WORSE * self.difference, NOTHING[precision])
        )

    def settled(self) -> Alignment:
        """The alignment with what the run settles certain, and with the rest open."""
        unseen = self._unseen()
        made: dict[Link, Link] = {}
        # what no output depends on waits for the rest of its module
        for link in sorted(self.links, key=lambda one: self._effect(one) <= self.floor):
            made[link] = self._judged(link, unseen.get(link, frozenset()))
            if made[link].certain:
                self.modules |= _module_pairs(self.alignment, link)
        return replace(self.alignment, links=tuple(made.get(link, link) for link in self.alignment.links))

    # order, rows and axes

    def _unseen(self) -> dict[Link, frozenset[About]]:
        """Aspects of links under another answer to which the outputs are the same."""
        others = [
            (choice, way)
            for choice in self.search.choices(self.alignment)
            if choice.questions[0].about not in WHOSE
            for way in choice.ways
        ]
        blind = {choice for choice, way in others if self._is_blind(way.hints)}
        for (one, way), (other, further) in combinations(others, 2):
            if one is not other and way.text == further.text and not {one, other} <= blind:
                # what stands alike in two places may show in each, and not in both at once
                blind |= {one, other} if self._is_blind((*way.hints, *further.hints)) else set()
        found: dict[Link, frozenset[About]] = {}
        for choice in blind:
            for question in choice.questions:
                for link in question.links:
                    found[link] = found.get(link, frozenset()) | {question.about}
        return found

    def _is_blind(self, hints: Sequence[str]) -> bool:
        """Whether the outputs are the same with other answers too; so it is taken to be where no run is left."""
        other = self.search.answer(self.alignment, hints)
        if other is None:
            return False
        trial = self.search.trial(other)
        if trial is None:
            return True
        if trial.difference > self.floor:
            return False
        changed = self.search.changed(self.alignment, other)
        # what moves no number is the same in other words
        return bool(changed) and not self._rotates_nothing(hints, changed)

    def _rotates_nothing(self, hints: Sequence[str], changed: Mapping[str, tuple[Any, Any]]) -> bool:
        """Whether answers that pair rows for a rotation are without ground: queries and keys are compared, not rotated.

        Rows of both in another order change nothing then, and some of one alone do.
        """
        said = [one for hint in hints for one in parse(hint)]
        rotary = [isinstance(one, Statement) and (one.said.kind in ROTARY or bool(one.said.rotary)) for one in said]
        return all(rotary) and self.search.half_differs(changed, self.floor)

    # each link

    def _judged(self, link: Link, unseen: frozenset[About]) -> Link:
        aspects = (link.open.keys() or WHOSE) | unseen
        seen = self._effect(link) > self.floor
        same = [o for o in self.places.alike[link] if self._effect(o) > self.floor] if seen else []
        same += self._same_contents(link) if seen and not self.search.pair.generic else []
        if not seen and self._follows(link):
            return self._with(link, {}, ())
        left_open: dict[About, str] = {}
        for aspect in aspects:
            if not seen:
                left_open[aspect] = UNREAD
            elif (aspect in WHOSE and same) or aspect in unseen:
                left_open[aspect] = UNSEEN
        return self._with(link, left_open, same)

    def _effect(self, link: Link) -> float:
        return self.places.effects[link]

    def _same_contents(self, link: Link) -> list[Link]:
        """Other links in question whose contents are the same: where weights are real, many are zeros or ones."""
        return [o for o in self.links if o is not link and self.search.realiser.same_contents(link, o)]

    def _follows(self, link: Link) -> bool:
        """Whether it is, under one name on both sides, a leaf of modules that are known to correspond."""
        names = {p.segments[-1] for p in (*link.left, *link.right)}
        return len(names) == 1 and _module_pairs(self.alignment, link) <= self.modules

    def _with(self, link: Link, left_open: dict[About, str], same: Sequence[Link]) -> Link:
        evidence = link.evidence
        if not left_open:
            said = f"run: outputs agree within {self.difference:.1e}, and differ otherwise"
            return verdict.settled(replace(link, evidence=(*evidence, said)))
        open_before = link.open
        known = [(open_before.get(aspect), Reason(aspect, why)) for aspect, why in left_open.items()]
        reasons = [why if before is None else before.because(why) for before, why in known]
        answered = tuple(a for a in (*link.answered, *open_before) if a not in left_open)
        rivals = link.rivals
        if same and not rivals[0]:
            rivals = verdict.rivals_of([link, *same])
        made = replace(link, answered=answered, evidence=evidence)
        return verdict.doubted(made, reasons[0], rivals, beneath=reasons[1:])


def _module_pairs(alignment: Alignment, link: Link) -> set[tuple[str, str]]:
    """The modules on both sides whose leaves a link brings together."""
    left, right = alignment.checkpoint.keys, alignment.model.keys
    return {
        (left[i].rpartition(".")[0], right[j].rpartition(".")[0])
        for group in link.expand()
        for i in group.left
        for j in group.right
    }
