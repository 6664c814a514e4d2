"""A person who knows the truth and answers questions by their options' hints."""

from __future__ import annotations

from dataclasses import dataclass

from scoring import Case

from treealign.suggestion import Suggestion, suggest

MOST = 15  # answers


@dataclass(frozen=True)
class Told:
    """What became of a case: the suggestion in the end, the hints given, and what could not be answered."""

    suggestion: Suggestion
    hints: tuple[str, ...]
    stuck: str = ""


def truth(case: Case) -> dict[str, frozenset[str]]:
    """Each key of the checkpoint to the keys of the model that it feeds."""
    tied = frozenset(case.tied)
    return {key: frozenset(g.model) - tied or frozenset(g.model) for g in case.groups for key in g.checkpoint}


def is_true(matches, answers) -> bool:
    """Whether matches send every key where it belongs, and nothing else anywhere."""
    return all(answers.get(key, frozenset()) and set(m.model) <= answers[key] for m in matches for key in m.checkpoint)


def tell(case: Case) -> Told:
    """Answer what is asked about a case whose operations are all plain: names and belonging."""
    answers, trees = truth(case), case.trees()
    filled = {key for targets in answers.values() for key in targets}
    found, hints = suggest(*trees), ()
    while found.questions and len(hints) < MOST:
        question = found.questions[0]
        keys = {*question.checkpoint} & answers.keys() or {*question.model} & filled
        options = [o for o in question.options if is_true(o.matches, answers) and bool(o.matches) == bool(keys)]
        if not options:
            return Told(found, hints, repr(question))
        hints = (*hints, options[0].hint)
        found = suggest(*trees, hints=hints)
    return Told(found, hints, "too many answers" if found.questions else "")
