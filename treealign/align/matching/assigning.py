"""The assignment, made again wherever what is certain in it teaches something about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from treealign.align.matching.assignment import Assignment, Given, assign
from treealign.align.matching.certainty import Doubt, Evidence, doubts, gather
from treealign.align.matching.containers import as_wholes, judge_wholes
from treealign.align.matching.ranked import unfounded_ranks
from treealign.align.matching.reflection import reflections
from treealign.align.matching.scoring import Floats, Side
from treealign.align.matching.sizes import of_equal_size
from treealign.align.matching.surroundings import misplaced

LESSONS = (misplaced, reflections, of_equal_size, as_wholes)
NOTHING: Floats = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Matched:
    """What assigning leaves of equal cells has found.

    Attributes
    ----------
    assignment : Assignment
        The partner of each pattern.
    evidence : Evidence
        What each pair of patterns shares that can settle anything.
    doubts : mapping of int to Doubt
        The pairs with rivals that nothing separates from them, by left pattern.
    """

    assignment: Assignment
    evidence: Evidence
    doubts: Mapping[int, Doubt]

    @classmethod
    def nothing(cls) -> Matched:
        """Before anything is assigned."""
        return cls(Assignment({}, [], NOTHING, NOTHING, Given({}, (0, 0))), Evidence(NOTHING, NOTHING), {})


def assign_refined(sides: tuple[Side, Side], given: Given) -> Matched:
    """Assign the patterns, and again with each lesson that the assignment so far teaches."""
    learned: list[Floats] = []
    mirrored: Floats | None = None
    assignment, evidence = assign(*sides, given=given), gather(*sides, free=given.free)
    found = doubts(*sides, assignment, evidence)
    for lesson in LESSONS:
        table = lesson(*sides, assignment, found)
        if table is None:
            continue
        learned.append(table)
        if lesson is reflections:
            mirrored, evidence = table, gather(*sides, table, given.free)
        assignment = assign(*sides, np.sum(learned, axis=0), given)
        found = doubts(*sides, assignment, evidence, mirrored)
    unfounded = unfounded_ranks(*sides, assignment)
    if unfounded is not None:
        weaker = gather(*sides, unfounded if mirrored is None else unfounded + mirrored, given.free)
        found = {**doubts(*sides, assignment, weaker, mirrored), **found}
    return Matched(assignment, evidence, judge_wholes(*sides, assignment, found, mirrored))
