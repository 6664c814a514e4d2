"""Questions that were found apart and ask one thing, asked at once.

A match that nothing rivals, and of which it is open only whether it is one, has one question with two options: it is
so, or its keys belong to nothing. Such questions are put together where one doubt recurs, for the same reason or within
the same block of either side: all is so, all but one of them, or nothing is. So are lists of which it is asked for the
same reason which way they run: all the same way, or one of them otherwise. And so are pairs that trade places where one
side tells all of them by the same two words, as it does two streams (`ff_a`, `norm1_a` beside `ff_b`, `norm1_b`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from treealign.align.asking.naming import MOST
from treealign.align.asking.question import Option, Question
from treealign.align.asking.units import cut_common
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE, About

_NUMBER = re.compile(r"\{\}|[0-9]+", re.ASCII)
PARTS = MOST - 2  # questions that are put together: all are so, all but one of them, none is
Path = tuple[str, ...]


def merge_questions(questions: Sequence[Question]) -> list[Question]:
    """The questions, those put together that ask one thing."""
    lone = [question for question in questions if _is_lone(question)]
    groups = [_by_change(together) for together in _by_doubt(lone)]
    lists: dict[object, list[list[Question]]] = defaultdict(list)
    for question in questions:
        if question.about == "order" and question not in lone and all(_lists(o) for o in question.options if o.links):
            lists[question.why, tuple(option.text for option in question.options)].append([question])
    streams: dict[object, list[list[Question]]] = defaultdict(list)
    for question in questions:
        if question not in lone and (words := _stream(question)):
            streams[words].append([question])
    made: dict[Question, Question | None] = {}
    for parts in (*groups, *lists.values(), *streams.values()):
        for at in range(0, len(parts), PARTS):
            some = parts[at : at + PARTS]
            members = [question for part in some for question in part]
            made |= dict.fromkeys(members[1:]) | {members[0]: _merged([_joined(part) for part in some])}
    kept = [made.get(question, question) for question in questions]
    return [question for question in kept if question is not None]


def _is_lone(question: Question) -> bool:
    """Whether its options are that a match is one, and that it is none."""
    links = [option.links for option in question.options]
    both_sides = question.sides[0] == question.sides[1] == question.links
    return len(links) == 2 and bool(links[0]) and not links[1] and both_sides


def _stream(question: Question) -> object:
    """The two words by which one side tells the two that may trade places, in all that is asked; nothing else."""
    if question.about not in WHOSE or len(question.options) != 2 or not all(o.links for o in question.options):
        return None
    guess, other = ({x.right[0]: x.left[0] for x in option.links} for option in question.options)
    place = {left: right for right, left in guess.items()}
    if guess.keys() != other.keys() or place.keys() != set(other.values()):
        return None
    pairs = [((guess[x], other[x]), (x, place[other[x]])) for x in guess]
    for side in (1, 0):
        words = {frozenset(cut_common(*ends[side])) for ends in pairs}
        if len(words) == 1 and all(len(told) == 1 and told[0].isalpha() for told in next(iter(words))):
            return side, words.pop()
    return None


def _lists(option: Option) -> bool:
    """Whether it says of lists which way they run."""
    return option.hint.endswith((": order as numbered", ": order reversed"))


def _by_doubt(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions about one aspect by what they have in common: the reason, or a block on either side."""
    root = {question: question for question in questions}

    def find(question: Question) -> Question:
        while root[question] is not question:
            question = root[question]
        return question

    first: dict[object, Question] = {}
    for question in questions:
        for doubt in _doubts(question):
            root[find(question)] = find(first.setdefault(doubt, question))
    found: dict[Question, list[Question]] = defaultdict(list)
    for question in questions:
        found[find(question)].append(question)
    yield from found.values()


def _doubts(question: Question) -> Iterator[object]:
    aspect = "names" if question.about in WHOSE else question.about
    yield from ((aspect, reason) for reason in question.why.split("; "))
    for link in question.links:
        for side, patterns in enumerate((link.left, link.right)):
            yield from ((aspect, side, block) for p in patterns if (block := _block(p)))


def _block(p: Pattern) -> Path:
    """The names down to the last number of a path, numbers left out; the modules around it where it has none."""
    path = p.segments[:-1]
    numbered = [at for at, name in enumerate(path) if _NUMBER.search(name)]
    return _numberless(path[: numbered[-1] + 1] if numbered else path[:-1])


def _numberless(path: Sequence[str]) -> Path:
    return tuple(_NUMBER.sub("#", name) for name in path)


def _by_change(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions by what is said of their keys: how their names change, numbers left out; a block's side by side."""
    found: dict[object, list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda q: sorted(map(str, _doubts(q)))):
        said = question.options[0].hint.rpartition(": ")[2]
        found[tuple(dict.fromkeys(map(_change, question.links))) if question.about in WHOSE else said].append(question)
    return list(found.values())


def _change(link: Link) -> tuple[Path, Path]:
    """The names of both sides without what they begin and end with in common."""
    left, right = (_numberless(".".join(side[0].segments).split(".")) for side in (link.left, link.right))
    while left and right and left[0] == right[0]:
        left, right = left[1:], right[1:]
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    return left, right


def _joined(members: Sequence[Question]) -> Question:
    """Questions with the same options as one, with these options."""
    if len(members) == 1:
        return members[0]
    links = tuple(link for question in members for link in question.links)
    left, right = (tuple(link for question in members for link in question.sides[n]) for n in (0, 1))
    options = tuple(map(_union, zip(*(question.options for question in members), strict=True)))
    about = _about(members)
    return replace(members[0], options=options, why=_why(members), links=links, sides=(left, right), about=about)


def _union(options: Sequence[Option]) -> Option:
    """Options that say the same of their keys as one: all paths of a statement, one of the names that change alike."""
    first = options[0]
    links, replaces, implied, context = (
        tuple(link for option in options for link in getattr(option, name))
        for name in ("links", "replaces", "implied", "context")
    )
    paths, statement, said = first.hint.rpartition(": ")
    if statement:
        paths = ",".join(dict.fromkeys(option.hint.rpartition(": ")[0] for option in options))
    hint = f"{paths}{statement}{said}"
    return replace(first, hint=hint, links=links, replaces=replaces, implied=implied, context=context)


def _merged(members: Sequence[Question]) -> Question:
    """One question: all is so, all but one, all otherwise."""
    if len(members) == 1:
        return members[0]
    ways = list(zip(*(question.options for question in members), strict=True))
    options = [_both([question.options[0] for question in members])]
    for n, question in enumerate(members):
        options.append(_but([q.options[0] for q in members], n, question.options[1]))
    options += [replace(made, text=made.text if made.links else "none of it") for made in map(_union, ways[1:])]
    whole = _joined(members)
    distinct = {option.hint: option for option in options}
    return replace(whole, options=tuple(distinct.values())[:MOST])


def _both(options: Sequence[Option]) -> Option:
    """Several options as one, each by its own hint."""
    hint, text = " and ".join(option.hint for option in options), "; ".join(option.text for option in options)
    return replace(_union(options), hint=hint, text=text, parts=tuple(options))


def _but(options: Sequence[Option], at: int, other: Option) -> Option:
    """All options but one, and of that one another: first what belongs to nothing, for the others are named by it."""
    rest = [option for n, option in enumerate(options) if n != at]
    text = f"{other.hint}; the others as guessed" if other.links else f"all of it but {options[at].text}"
    return replace(_both([other, *rest]), text=text, parts=())


def _why(members: Sequence[Question]) -> str:
    return "; ".join(dict.fromkeys(reason for question in members for reason in question.why.split("; ")))


def _about(members: Sequence[Question]) -> About:
    return "names" if any(question.about == "names" for question in members) else members[0].about
