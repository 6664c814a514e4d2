"""Score suggestions against known answers: what was right, what was wrong and admitted, what was wrong in silence.

A case is a checkpoint, a model and the groups of keys that belong together. `Score` counts groups:

right      a match names the same keys, in the operation's order, with operations if and only if tensors change; where
           these are told exactly, they compute the same numbers (`numbers_wrong` of `told` do not)
sure       of those, the ones marked certain
silent     contradicted by a match marked certain, or a certain match of keys that belong to nothing
flagged    all others; `unlisted` of them stand in no uncertain match, no ambiguity and no list of missing or unexpected
           keys; `truth_listed` of them have the truth among the rivals of one ambiguity

A case is `solved` if all of it is right and sure and nothing is asked. Counted is too whether the mapping, run on keys,
keeps the laws that keys alone can show.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from cases import Case, Group
from numbering import computes

from treealign import suggest
from treealign.errors import MappingError
from treealign.mapping.operations import Reorder
from treealign.tree.fold import fold

LAWS = ("forward", "reverse", "idempotent")


@dataclass
class Score:
    """Counts of groups, cases and transforms; they add up."""

    cases: int = 0
    crashed: int = 0
    perfect: int = 0
    solved: int = 0
    groups: int = 0
    right: int = 0
    sure: int = 0
    silent: int = 0
    flagged: int = 0
    unlisted: int = 0
    truth_listed: int = 0
    told: int = 0
    untold: int = 0
    numbers_wrong: int = 0
    ambiguous: int = 0
    transforms: int = 0
    by_hand: int = 0
    with_hand: int = 0
    no_more_than_by_hand: int = 0
    seconds: float = 0.0
    laws: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"laws": {law: self.laws[law] for law in LAWS}}


def score(case: Case, keep_order: bool = False) -> Score:
    """Run one case and count."""
    checkpoint, model = case.trees(keep_order)
    start = time.perf_counter()
    suggestion = suggest(checkpoint, model)
    result = Score(cases=1, seconds=time.perf_counter() - start, groups=len(case.groups))
    answers = Answers(suggestion, set(case.tied))
    for group in case.groups:
        count_group(result, group, answers, lambda stated, group: computes(answers.origin[stated], group, case))
    result.silent += sum(1 for match in answers.matches if match.certain and _belongs_to_nothing(match, case))
    result.ambiguous = len(suggestion.ambiguous)
    result.perfect = int(result.right == result.groups and not result.silent)
    result.solved = int(result.perfect and result.sure == result.groups and not suggestion.ambiguous)
    result.transforms = len(suggestion.mapping)
    if case.by_hand is not None:
        result.by_hand, result.with_hand = case.by_hand, 1
        result.no_more_than_by_hand = int(result.transforms <= case.by_hand)
    result.laws = Counter(law for law in LAWS if keeps(law, case, suggestion.mapping, answers))
    return result


class Answer(NamedTuple):
    """A match, without the tied aliases that nobody has to feed."""

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    changes_tensors: bool
    certain: bool
    parts: tuple[
        str, ...
    ] = ()  # the model's keys as they stand in a whole that is cut, where they are listed otherwise


class Stated:
    """Matches by key."""

    def __init__(self, matches: Iterable[Any], tied: set[str]) -> None:
        self.tied = tied
        self.origin = {_answer(m, tied): m for m in matches}
        self.matches = list(self.origin)
        self.by_checkpoint = _index((key, match) for match in self.matches for key in match.checkpoint)
        self.by_model = _index((key, match) for match in self.matches for key in match.model)

    def about(self, group: Group) -> list[Answer]:
        found = [m for key in group.checkpoint for m in self.by_checkpoint.get(key, ())]
        return found + [m for key in group.model for m in self.by_model.get(key, ())]

    def stating(self, group: Group) -> Answer | None:
        """The match that says exactly this, or None."""
        here = self.by_checkpoint.get(group.checkpoint[0], ())
        for match in here:
            if set(match.checkpoint) == set(group.checkpoint) and set(match.model) == set(group.model):
                return match if _same_operation(match, group) else None
        if group.ties:  # one tensor under several names: feeding some of them feeds all
            return next((m for m in here if set(m.model) < set(group.model)), None)
        if len(group.checkpoint) > 1 and len(group.model) > 1:
            return self._in_parts(group)
        return None

    def _in_parts(self, group: Group) -> Answer | None:
        """Many to many, stated as several exact matches; the least certain of them stands for all."""
        parts = {m for key in group.checkpoint for m in self.by_checkpoint.get(key, ())}
        inside = all(set(m.checkpoint) <= set(group.checkpoint) and set(m.model) <= set(group.model) for m in parts)
        covered = {key for m in parts for key in m.model} == set(group.model)
        return min(parts, key=lambda m: m.certain) if parts and inside and covered else None


class Answers(Stated):
    """The matches of a suggestion by key, and the keys it lists as open."""

    def __init__(self, suggestion: Any, tied: set[str]) -> None:
        super().__init__(suggestion.matches, tied)
        self.rivals = [(set(a.checkpoint), set(a.model)) for a in suggestion.ambiguous]
        self.open = {key for match in self.matches if not match.certain for key in (*match.checkpoint, *match.model)}
        self.open |= {*suggestion.missing_keys, *suggestion.unexpected_keys}
        self.open |= {key for sides in self.rivals for side in sides for key in side}


def _answer(match: Any, tied: set[str]) -> Answer:
    model = tuple(key for key in match.model if key not in tied) or match.model
    last, parts = (match.operations[-1] if match.operations else None), model
    if isinstance(last, Reorder) and len(last.order) == len(model):
        parts = tuple(model[last.order.index(n)] for n in range(len(model)))
    return Answer(match.checkpoint, model, bool(match.operations), match.certain, parts)


def _index(pairs: Iterable[tuple[str, Answer]]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for key, match in pairs:
        found.setdefault(key, []).append(match)
    return found


def _same_operation(match: Answer, group: Group) -> bool:
    if group.ties:
        return True
    listed = _order(group.model) in (_order(match.model), _order(match.parts or match.model))
    return (
        _order(match.checkpoint) == _order(group.checkpoint)
        and listed
        and match.changes_tensors is not (group.operation in ("rename", "copy"))
    )


def _order(keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The order of the patterns, and of the keys within each: what an operation depends on."""
    return [(f.template, [keys[at] for at in f.positions]) for f in fold(keys)]


def count_group(
    result: Score,
    group: Group,
    answers: Answers,
    agrees: Callable[[Answer, Group], bool | None] = lambda *_: None,
) -> None:
    """Add what became of one group; `agrees` says whether the numbers are right, or None where that cannot be told."""
    stated = answers.stating(group)
    if stated is not None and (stated.changes_tensors or not (group.renames or group.ties)):
        verdict = agrees(stated, group)
        result.told += verdict is not None
        result.untold += verdict is None
        if verdict is False:
            result.numbers_wrong += 1
            stated = None
    if stated is not None:
        result.right += 1
        result.sure += stated.certain
    elif any(match.certain for match in answers.about(group)):
        result.silent += 1
    else:
        keys = {*group.checkpoint, *group.model} - answers.tied
        result.flagged += 1
        result.unlisted += not keys <= answers.open
        result.truth_listed += any(
            set(group.checkpoint) <= checkpoint and set(group.model) - answers.tied <= model
            for checkpoint, model in answers.rivals
        )


def _belongs_to_nothing(match: Answer, case: Case) -> bool:
    known = {key for group in case.groups for key in (*group.checkpoint, *group.model)} | set(case.tied)
    return not known.issuperset((*match.checkpoint, *match.model))


def keeps(law: str, case: Case, mapping: Any, answers: Answers) -> bool:
    """Whether the mapping, run on names alone, does what the matches say; one that cannot be run keeps no law."""
    try:
        return _keeps(law, case, mapping, answers)
    except MappingError:
        return False


def _keeps(law: str, case: Case, mapping: Any, answers: Answers) -> bool:
    matched = {(c, m) for match in answers.matches for c in match.checkpoint for m in match.model}
    if law == "forward":
        forward = mapping.map_keys([leaf[0] for leaf in case.checkpoint])
        used = {c for c, _ in matched}
        return {(c, m) for c, to in forward.items() if c in used for m in to if m not in answers.tied} == matched
    if law == "reverse":
        back = mapping.reverse.map_keys(sorted({m for _, m in matched}))
        return {(c, m) for m, to in back.items() for c in to} == matched
    if _swaps({group.checkpoint[0]: group.model[0] for group in case.groups if group.renames}):
        return True  # names alone cannot tell the two sides of a swap apart
    own = [leaf[0] for leaf in case.model if leaf[0] not in answers.tied]
    return bool(mapping.map_keys(own) == {key: (key,) for key in own})


def _swaps(renames: dict[str, str]) -> bool:
    """Whether following the renames leads back to where one began."""
    for start in renames:
        key, seen = start, set[str]()
        while key in renames and renames[key] != key and key not in seen:
            seen.add(key)
            key = renames[key]
        if key in seen:
            return True
    return False
