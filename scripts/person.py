"""A person who knows the truth and answers questions by their options' hints, in the order in which they are asked.

An option is true if what it asserts agrees with the answers known: names and belonging by keys, the order of parts by
the keys' order, rows and axes by numbers too, as far as the known operation tells them. Counted are the answers until
nothing is open, and harm: a right group made wrong, a wrong one made certain, keys of nothing matched for certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cases import Case, Group
from numbering import computes
from scoring import Stated

from treealign.suggestion import Suggestion, suggest

MOST = 25  # answers
GOOD = ("right", "sure")
Keys = tuple[frozenset[str], frozenset[str]]  # of the checkpoint, of the model


@dataclass(frozen=True)
class Told:
    """What became of a case.

    Attributes
    ----------
    result : str
        ``solved``: all is right and certain; ``over``: nothing is asked any more, and something is not; ``stuck``: no
        option of a question is true; ``too many``: answers.
    suggestion : Suggestion
        In the end.
    hints : tuple of str
        The answers.
    harm : int
        What answers broke.
    options : int
        Of the question that had most.
    question : Question or None
        The one that could not be answered.
    """

    result: str
    suggestion: Suggestion
    hints: tuple[str, ...]
    harm: int = 0
    options: int = 0
    question: Any = None


class Judge:
    """Compares matches with the answers known of a case."""

    def __init__(self, case: Case) -> None:
        self.case, self.tied = case, set(case.tied)
        self.known = {key for group in case.groups for key in (*group.checkpoint, *group.model)} | self.tied

    def of(self, matches: Iterable[Any], keys: Keys | None = None, about: str = "") -> tuple[dict[int, str], int]:
        """Each group that keys touch as right, sure, silent or wrong; and matches of keys that belong to nothing.

        Keys are those of the checkpoint and those of the model: where names were exchanged, one name stands on both
        sides and is two things.
        """
        stated, found = Stated(matches, self.tied), {}
        for number, group in enumerate(self.case.groups):
            if keys is None or _touch(keys, group):
                found[number] = self._verdict(stated, group, about)
        spurious = [m for m in stated.matches if {*m.checkpoint, *m.model} - self.known]
        if keys is None:
            return found, sum(m.certain for m in spurious)
        return found, sum(_touch(keys, m) for m in spurious)

    def _verdict(self, stated: Stated, group: Group, about: str) -> str:
        hit = _named(stated, group) if about in ("names", "belongs") else stated.stating(group)
        if hit and about not in ("names", "belongs", "order") and not (group.renames or group.ties):
            hit = None if computes(stated.origin[hit], group, self.case) is False else hit
        if hit:
            return "sure" if hit.certain else "right"
        return "silent" if any(m.certain for m in stated.about(group)) else "wrong"


def _touch(keys: Keys, match: Any) -> bool:
    return not (keys[0].isdisjoint(match.checkpoint) and keys[1].isdisjoint(match.model))


def _named(stated: Stated, group: Group) -> Any:
    here = stated.by_checkpoint.get(group.checkpoint[0], ())
    whole, model = set(group.checkpoint), set(group.model)
    fitting = (m for m in here if set(m.checkpoint) == whole)
    return next((m for m in fitting if set(m.model) == model or (group.ties and set(m.model) < model)), None)


def true_option(question: Any, judge: Judge) -> Any:
    """The first option that says what is so, or None."""
    keys = frozenset(question.checkpoint), frozenset(question.model)
    for option in question.options:
        verdicts, spurious = judge.of(option.matches, keys, question.about)
        if not spurious and all(verdict in GOOD for verdict in verdicts.values()):
            return option
    return None


def tell(case: Case) -> Told:
    """Answer what is asked about a case until nothing is."""
    judge, trees = Judge(case), case.trees()
    found, harm, most = suggest(*trees), 0, 0
    state, spurious = judge.of(found.matches)
    while found.questions and len(found.hints) < MOST:
        question = found.questions[0]
        most = max(most, len(question.options))
        option = true_option(question, judge)
        if option is None and judge.known & {*question.checkpoint, *question.model}:
            return Told("stuck", found, found.hints, harm, most, question)
        said = [*found.hints, *([option.hint] if option else [])]
        found = suggest(*trees, hints=said) if option else found.answer(question, None)
        after, more = judge.of(found.matches)
        harm += _harm(state, after) + max(0, more - spurious)
        state, spurious = after, more
    if found.questions:
        return Told("too many", found, found.hints, harm, most)
    solved = set(state.values()) <= {"sure"} and not spurious
    return Told("solved" if solved else "over", found, found.hints, harm, most)


def _harm(before: dict[int, str], after: dict[int, str]) -> int:
    broken = [n for n in after if before[n] in GOOD and after[n] not in GOOD]
    hidden = [n for n in after if before[n] == "wrong" and after[n] == "silent"]
    return len(broken) + len(hidden)


@dataclass
class Answers:
    """Figures over many cases."""

    results: Counter[str] = field(default_factory=Counter)
    asked: list[int] = field(default_factory=list)
    unasked: int = 0
    harm: int = 0
    crowded: int = 0

    def add(self, told: Told) -> None:
        """Count one case."""
        self.results[told.result] += 1
        self.harm += told.harm
        self.crowded += told.options > 6
        if told.result == "solved":
            self.unasked += not told.hints
            self.asked += [len(told.hints)] if told.hints else []

    def table(self, name: str) -> list[str]:
        """The figures of one corpus, for a terminal of 80 columns."""
        cases, asked = sum(self.results.values()), sorted(self.asked) or [0]
        others = ", ".join(f"{result} {count}" for result, count in self.results.items() if result != "solved")
        median, p90 = asked[len(asked) // 2], asked[int(len(asked) * 0.9)]
        return [
            f"{name}: {cases} cases",
            f"  solved, nobody asked     {self.unasked:>7,} of {cases:>7,}  {self.unasked / max(1, cases):7.2%}",
            f"  solved with answers      {self.results['solved']:>7,} of {cases:>7,}  "
            f"{self.results['solved'] / max(1, cases):7.2%}",
            f"  otherwise                {others or 'none'}",
            f"  answers where asked      median {median}, p90 {p90}, most {asked[-1]}",
            f"  harm done by answers     {self.harm:>7,}  (questions of more than six options {self.crowded})",
        ]
