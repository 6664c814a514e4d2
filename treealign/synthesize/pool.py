"""The candidates as far as they are known: contents are looked into when a solution wants them.

Until then a content stands for the best that could come of it: one rule that makes all its edits and demands nothing.
So a solution without such promises is as short as any, whatever has not been looked into.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from treealign.synthesize.absorbing import absorptions
from treealign.synthesize.candidates import Candidate, explore
from treealign.synthesize.contents import Content, Occurrence
from treealign.synthesize.cover import Cover, Cut, cover
from treealign.synthesize.problem import Problem, Verdict
from treealign.tree.keys import is_index

_DOUBT = 4.0  # what is known is preferred to a promise that is no better


class Pool:
    """Candidates, numbered; numbers keep their meaning while more are found."""

    def __init__(self, problem: Problem, contents: Sequence[Content]) -> None:
        self._problem = problem
        self._open = dict(enumerate(contents))
        self.found: list[Candidate] = [_promise(c) for c in contents]
        self._live = set(range(len(contents)))
        self.bound = 0  # what the last program without cuts says of all candidates
        self._entries = 0
        for candidate in _converts(problem):
            self._add(candidate)

    @property
    def work(self) -> int:
        """What has been done so far, counted so that it is the same everywhere: some 10 µs each."""
        return self._entries + self._problem.searched // 2

    def solve(self, cuts: Sequence[Cut], work: int, below: int) -> Cover | None:
        """The smallest set of candidates, all of them known and fewer than `below`.

        None where there is none, or it takes more work.
        """
        while self.work <= work and self.bound < below:
            solution = cover(self._problem, self.found, sorted(self._live), cuts)
            self._entries += solution.work if solution else 0
            if solution and not cuts:
                self.bound = solution.bound
            if not solution or not solution.chosen:
                return None
            wanted = [n for n in solution.chosen if n in self._open]
            if not wanted:
                return solution
            self._look_into(wanted)
        return None

    def estimate(self) -> int:
        """How many rules there are at least, as far as that is told by what has been looked into."""
        solution = cover(self._problem, self.found, sorted(self._live))
        return solution.bound if solution else 0

    def _look_into(self, numbers: Iterable[int]) -> None:
        for n in numbers:
            self._live.discard(n)
            for candidate in explore(self._problem, self._open.pop(n)):
                self._add(candidate)

    def _add(self, candidate: Candidate) -> None:
        self._live.add(len(self.found))
        self.found.append(candidate)


def _promise(content: Content) -> Candidate:
    numbers = sum(bool(n) and all(isinstance(s, str) and is_index(s) for s in n) for n in (content.old, content.new))
    length = len(content.old) + len(content.new) + 0.3 * len(content.words) + 2.0 * numbers
    verdict = Verdict(frozenset(content.occurrences), (), False, 0, True)
    return Candidate(None, verdict, length + _DOUBT)


def _converts(problem: Problem) -> Iterator[Candidate]:
    """One candidate for all conversions that one `Convert` could do."""
    groups: dict[Hashable, list[Occurrence]] = {}
    for occurrence, key in absorptions(problem.conversions, len(problem.templates)):
        groups.setdefault(key, []).append(occurrence)
    for occurrences in groups.values():
        yield Candidate(None, Verdict(frozenset(occurrences), (), False, 0, True), 1.0)
