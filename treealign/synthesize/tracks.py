"""Names on their way: what each template has become so far, and what a move would make of all of them.

A move is one rule, or several that work at once. It is right if it makes edits that are still to be made, in every name
it matches, and if its inverse brings back exactly the names it has changed. A list of right moves is right as a whole,
forward and in reverse, in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from treealign.synthesize.choosing import Way
from treealign.synthesize.contents import Content, renumbered
from treealign.synthesize.lines import Line, Lines
from treealign.synthesize.problem import Problem
from treealign.synthesize.rules import Found, Move, Rule, rewritten, undone
from treealign.synthesize.templates import PartialMatch, Values
from treealign.tree.segments import Name

_MOST_REFUSING = 4


class Pending(NamedTuple):
    """An edit that is still to be made: a run of segments of the name as it is, and those of the target it becomes."""

    start: int
    stop: int
    j: int
    j2: int
    content: int

    @property
    def growth(self) -> int:
        """How much longer it makes the name."""
        return self.j2 - self.j - (self.stop - self.start)

    def moved(self, by: int) -> Pending:
        """The same in a name that has become longer in front of it."""
        return self._replace(start=self.start + by, stop=self.stop + by)


@dataclass
class Track:
    """A template on its way.

    Attributes
    ----------
    pending : dict of int to Pending
        What is still to be made, numbered in the order in which it stands in the name.
    targets : sequence of Name
        What each of its names has to become; a conversion has several.
    lines : list of int
        Where its names stand among all.
    """

    pending: dict[int, Pending]
    targets: Sequence[Name]
    values: Values
    lines: list[int]

    def make(self, at: int) -> None:
        """Note that an edit has been made."""
        made = self.pending.pop(at)
        for number, other in self.pending.items():
            if number > at:
                self.pending[number] = other.moved(made.growth)

    @property
    def joined(self) -> Pending:
        """All that is still to be made as one, what is kept between included."""
        first, last = self.pending[min(self.pending)], self.pending[max(self.pending)]
        return Pending(first.start, last.stop, first.j, last.j2, -1)


class Place(NamedTuple):
    """Where an edit stands now, in one name."""

    track: int
    edit: int
    left: Name
    right: Name
    old: Name
    values: Values


class Effect(NamedTuple):
    """What a right move does: the edits it makes, the names it changes, and what else it matches."""

    made: tuple[tuple[int, int], ...]  # track, edit
    names: dict[int, Name]  # by line
    guarded: bool
    loose: int


class Tracks:
    """All names of a problem, each template on the way chosen for it; the first `count` contents are renamings."""

    def __init__(self, problem: Problem, ways: Sequence[Way], count: int) -> None:
        self.tracks: list[Track] = []
        lines: list[Line] = []
        for number, (sides, values) in enumerate(problem.starts):
            renamings = (step for step in ways[number] if step[1] < count)
            pending = {at: Pending(e.i, e.i2, e.j, e.j2, c) for at, (e, c) in enumerate(renamings)}
            own = list(range(len(lines), len(lines) + len(sides)))
            self.tracks.append(Track(pending, [target for _, target in sides], values, own))
            lines += [Line(source, values, number) for source, _ in sides]
        self._lines = Lines(lines)
        self._having: dict[int, list[int]] = {}  # of each content the tracks that make it, in order
        for number, track in enumerate(self.tracks):
            for content in dict.fromkeys(p.content for p in track.pending.values()):
                self._having.setdefault(content, []).append(number)
        self._problem = problem
        self.looked_at: set[int] = set()  # tracks on which it depended what the moves asked about would do
        self._states = [-1] * len(self.tracks)
        self._note(range(len(self.tracks)))
        self._refusing: list[int] = []  # lines that the last wrong moves were wrong about: asked first

    @property
    def searched(self) -> int:
        """How many names have been looked at."""
        return self._lines.searched

    def places(self, content: int) -> list[Place]:
        """Where edits with this content are still to be made."""
        found: list[Place] = []
        for number in self._having[content]:
            for at, pending in self.tracks[number].pending.items():
                if pending.content == content:
                    found += self._places(number, at)
        return found

    def _places(self, number: int, at: int) -> Iterator[Place]:
        track = self.tracks[number]
        start, stop = track.pending[at][:2]
        for line in track.lines:
            name = self._lines.lines[line].name
            yield Place(number, at, name[:start], name[stop:], name[start:stop], track.values)

    def merged(self) -> Iterator[tuple[int, Content]]:
        """Templates with several edits still to be made, and one content for all of them."""
        for number, track in enumerate(self.tracks):
            if len(track.pending) > 1:
                joined = track.joined
                old = self._lines.lines[track.lines[0]].name[joined.start : joined.stop]
                yield number, Content(*renumbered(old, track.targets[0][joined.j : joined.j2]), ())

    def merge(self, number: int, content: int) -> None:
        """Have all edits of a template that are still to be made made as one."""
        track = self.tracks[number]
        track.pending = {min(track.pending): track.joined._replace(content=content)}
        self._having.setdefault(content, []).append(number)
        self._note([number])

    def left(self) -> list[int]:
        """The contents that are still to be made."""
        return sorted({p.content for t in self.tracks for p in t.pending.values()})

    def effect(self, move: Move) -> Effect | None:
        """What a move does; None where it is not right."""
        known = [self._problem.known(rule) for rule in move]
        if any(one.fixed for one in known):
            return None
        move = tuple(one.rule for one in known)  # what it has computed is computed
        if len(move) == 1 and any(self._refuses(number, move[0]) for number in self._refusing):
            return None
        touched = self._touched(move)
        if not touched:
            return None
        made = self._made(move, touched)
        if made is None:
            return None
        names = {line: new for line, (_, _, new) in touched.items()}
        if not self._restores(move, names):
            return None
        return Effect(made, names, any(one.final for one in known), sum(one.loose for one in known))

    def _touched(self, move: Move) -> dict[int, tuple[Rule, Found, Name]] | None:
        """The names that some rule matches, with the rule that wins and what it makes of them."""
        best: dict[int, tuple[Rule, Found]] = {}
        for rule in move:
            for number, found in self._lines.find(rule.forward):
                self.looked_at.add(self._lines.lines[number].template)
                if found is None or (len(move) == 1 and self._edit_of(number, rule, found) is None):
                    self._refused_by(number)
                    return None
                other = best.get(number)
                if other is None or (found.first, -found.stop) < (other[1].first, -other[1].stop):
                    best[number] = rule, found
        return {
            n: (rule, found, rewritten(self._lines.lines[n].name, found, len(rule.old), rule.new))
            for n, (rule, found) in best.items()
        }

    def _refused_by(self, number: int) -> None:
        """Note a line that a move is wrong about: the next one may be wrong about it, too."""
        self.looked_at.add(self._lines.lines[number].template)
        self._refusing = [number, *(n for n in self._refusing if n != number)][:_MOST_REFUSING]

    def _refuses(self, number: int, rule: Rule) -> bool:
        """Whether a rule would change this line otherwise than it has to, or not bring it back."""
        line = self._lines.lines[number]
        self._lines.searched += 1
        try:
            found = rule.forward.find(line.name, line.values)
            if found:
                made = self._edit_of(number, rule, found[0])
                new = rewritten(line.name, found[0], len(rule.old), rule.new)
                wrong = len(found) > 1 or made is None or undone((rule,), new, line.values) != line.name
            else:
                wrong = bool(rule.backward.find(line.name, line.values))
        except PartialMatch:
            wrong = True
        if wrong:
            self.looked_at.add(line.template)
        return wrong

    def _made(self, move: Move, touched: dict[int, tuple[Rule, Found, Name]]) -> tuple[tuple[int, int], ...] | None:
        """The edits that are made; None where some name is changed otherwise, or a track in part."""
        made: dict[int, int] = {}
        seen: dict[int, int] = {}
        for line, (rule, found, _) in touched.items():
            number, at = self._lines.lines[line].template, self._edit_of(line, rule, found)
            if at is None or made.setdefault(number, at) != at:
                return None
            seen[number] = seen.get(number, 0) + 1
        if any(seen[number] < len(self.tracks[number].lines) for number in made):
            return None
        return tuple(sorted(made.items()))

    def _edit_of(self, line: int, rule: Rule, found: Found) -> int | None:
        """The pending edit that a rule makes there."""
        track = self.tracks[self._lines.lines[line].template]
        side = track.lines.index(line)
        new = tuple(segment.fill(found.captures) for segment in rule.new)
        run = found.at, found.at + len(rule.old)
        for at, pending in track.pending.items():
            if pending[:2] == run and track.targets[side][pending.j : pending.j2] == new:
                return at
        return None

    def _restores(self, move: Move, names: dict[int, Name]) -> bool:
        """Whether the inverse brings back these names and changes no others."""
        for line, name in names.items():
            of = self._lines.lines[line]
            if undone(move, name, of.values) != of.name:
                self._refused_by(line)
                return False
        for number, _ in (hit for rule in move for hit in self._lines.find(rule.backward)):
            if number not in names:
                self._refused_by(number)
                return False
        return True

    @property
    def seen(self) -> dict[int, int]:
        """The tracks that were looked at, as they are."""
        return {number: self._states[number] for number in self.looked_at}

    def state(self, number: int) -> int:
        """A number that is equal where a track is as it is, in this list or another."""
        return self._states[number]

    def is_as_before(self, seen: Mapping[int, int]) -> bool:
        """Whether these tracks are as they were seen."""
        return all(self._states[number] == state for number, state in seen.items())

    def _note(self, numbers: Iterable[int]) -> None:
        known = self._problem.states
        for number in numbers:
            track = self.tracks[number]
            state: Hashable = (*(self._lines.lines[n].name for n in track.lines), *track.pending.items())
            self._states[number] = known.setdefault(state, len(known))

    def make(self, effect: Effect) -> None:
        """Make a move."""
        for number, at in effect.made:
            self.tracks[number].make(at)
        for line, name in effect.names.items():
            self._lines.rename(line, name)
        self._note(number for number, _ in effect.made)
