"""The laws of questions, checked on cases whose truth is known.

askable    the hint of each option removes its question, makes no certain match wrong or open, does what the option says
           and raises no question on keys of which none spoke
few        a key is asked about once in each aspect; two to six options, each with a hint of its own
complete   where the keys in question are known, one option is true; rows and axes are judged once names are right
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from cases import Case
from person import Judge, true_option

from treealign.errors import TreealignError
from treealign.suggestion import Suggestion, suggest

LAWS = ("askable", "few", "complete")
OPTIONS = 6


def broken_laws(case: Case, most: int = 2) -> tuple[Counter[str], list[str]]:
    """How often each law was looked at in a case, and where one is broken.

    Parameters
    ----------
    case : Case
        Whose questions are looked at.
    most : int
        Of how many questions all options are tried, one `suggest` for each: those asked first.

    """
    trees, judge = case.trees(), Judge(case)
    found = suggest(*trees)
    looked: Counter[str] = Counter(few=1)
    broken = [f"few: {text}" for text in _many(found)]
    for question in found.questions:
        if judge.known & {*question.checkpoint, *question.model} and not _waits(question, found, judge):
            looked["complete"] += 1
            if true_option(question, judge) is None:
                broken.append(f"complete: no option of {question} is true")
    for question in found.questions[:most]:
        for option in question.options:
            looked["askable"] += 1
            broken += [f"askable: {option.hint!r} {text}" for text in _unaskable(found, trees, question, option)]
    return looked, broken


def _waits(question: Any, found: Suggestion, judge: Judge) -> bool:
    """Whether it is about rows or axes of keys that a question about names, asked before, is going to move."""
    keys = {*question.checkpoint, *question.model}
    names = [q for q in found.questions if q.about in ("names", "belongs") and keys & {*q.checkpoint, *q.model}]
    return question.about in ("rows", "axes") and any(true_option(q, judge) is not q.options[0] for q in names)


def _many(found: Suggestion) -> Iterator[str]:
    spoken: Counter[tuple[str, int, str]] = Counter()
    for question in found.questions:
        if not 2 <= len(question.options) <= OPTIONS or len({o.hint for o in question.options}) < len(question.options):
            yield f"{len(question.options)} options of {question}"
        for side, keys in enumerate((question.checkpoint, question.model)):
            spoken.update((question.about, side, key) for key in keys)
    for (about, _, key), times in spoken.items():
        if times > 1:
            yield f"{times} questions about {about} speak of {key}"
            return


def _unaskable(found: Suggestion, trees: Sequence[Any], question: Any, option: Any) -> Iterator[str]:
    try:
        after = suggest(*trees, hints=[option.hint])
    except TreealignError as refused:
        yield f"is refused: {refused}"
        return
    if (question.about, question.checkpoint, question.model) in {
        (q.about, q.checkpoint, q.model) for q in after.questions
    }:
        yield "leaves its question open"
    if not _certain(found) <= _certain(after):
        yield "opens or changes what was certain"
    if not {(m.checkpoint, m.model) for m in option.matches} <= {(m.checkpoint, m.model) for m in after.matches}:
        yield "does not do what its option says"
    spoken = {key for q in found.questions for key in _keys(q)} | _keys(question)
    spoken |= {key for m in option.matches for key in (*m.checkpoint, *m.model)}
    if new := {key for q in after.questions for key in _keys(q)} - spoken:
        yield f"raises a question on {min(new)}"


def _keys(question: Any) -> set[str]:
    named = {key for o in question.options for m in o.matches for key in (*m.checkpoint, *m.model)}
    return named | {*question.checkpoint, *question.model}


def _certain(found: Suggestion) -> set[tuple[Any, ...]]:
    return {(m.checkpoint, m.model, m.operations) for m in found.matches if m.certain}
