"""What a mapping is to say of the alignment it comes from, beside the questions: guesses nobody asks about, answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from treealign.align.alignment import Alignment
from treealign.align.asking.probing import Probed
from treealign.align.links import keys_of
from treealign.mapping.marking import AnyQuestion
from treealign.mapping.open_questions import OpenQuestion

UNASKED = "matched, but not for certain"


def unasked(alignment: Alignment, questions: Iterable[AnyQuestion]) -> Iterator[OpenQuestion]:
    """Guesses that no question speaks of: they are guesses all the same."""
    asked = {key for question in questions for key in (*question.checkpoint, *question.model)}
    for link in alignment.links:
        if not link.certain:
            left, right = keys_of(alignment.checkpoint, link.left), keys_of(alignment.model, link.right)
            if not asked.issuperset((*left, *right)):
                yield OpenQuestion("names", left, right, UNASKED)


def probe_answers(probed: Probed | None) -> list[str]:
    """What a probe settled."""
    if probed is None:
        return []
    return [f"probe {probed.name}: {decision.trials[0].text}" for decision in probed.decisions if decision.settled]
