"""Answers about names: which option a hint tells from the others, or where it moves keys to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.asking.choosing import all_patterns, anew, chosen, settled, spelled, with_links
from treealign.align.asking.exchanging import moved
from treealign.align.asking.question import Option, Question
from treealign.align.asking.questions import find_questions
from treealign.align.hints import Naming
from treealign.align.links import Link
from treealign.align.paths import fits, is_limited, leaves_of, rest
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE, Reason
from treealign.align.verdict import doubted

Path = tuple[str, ...]
DISPLACED = Reason("names", "an answer gave its place to another")


def named(alignment: Alignment, hint: Naming) -> Alignment | str:
    """The alignment with every option chosen that the hint tells from the others, else with the keys moved.

    Why it can do nothing, where nothing is so then as the hint says.
    """
    if option := spelled(alignment, hint):
        return chosen(alignment, option)
    done, changed = set(), True
    result = alignment
    while changed:
        changed = False
        for question in find_questions(result):
            option = _told(question, hint)
            if option is not None and option.hint not in done and _is_within(option, hint):
                done.add(option.hint)
                result, changed = chosen(result, option), True
                break
    if done:
        return result
    if len(hint.source) == len(hint.target) == 1 and (not hint.floats or any(map(is_limited, hint.every_path))):
        return _moved(alignment, hint)
    return result if _holds(result, hint) else _why_not(result, hint)


def _is_within(option: Option, hint: Naming) -> bool:
    """Whether an option reaches no further than a hint that gives numbers of repeats."""
    if not any(map(is_limited, hint.every_path)):
        return True
    ends = ((0, [p for link in option.links for p in link.left]), (1, [p for link in option.links for p in link.right]))
    return all(hint.speaks_of(p, side) for side, patterns in ends for p in patterns)


def paired_by(alignment: Alignment, hint: Naming) -> set[tuple[int, int]]:
    """The leaves of both sides, by position, that are matched as a hint says."""
    found = set()
    for link in alignment.links:
        here, there = (_said_of(hint, patterns, n) for n, patterns in enumerate((link.left, link.right)))
        if here and there and hint.within(link.left[0], link.right[0]):
            pairs = ((i, j) for group in link.expand() for i in group.left for j in group.right)
            found |= {(i, j) for i, j in pairs if i in here and j in there}
    return found


def _said_of(hint: Naming, patterns: Sequence[Pattern], side: int) -> set[int]:
    return {at for p in patterns for path in (hint.source, hint.target)[side] for at in leaves_of(path, p)}


def _holds(alignment: Alignment, hint: Naming) -> bool:
    """Whether something is matched as a hint says, all of its parts with the whole."""
    for link in (*alignment.links, *alignment.copies, *alignment.resized):
        ends = (hint.source, link.left), (hint.target, link.right)
        if all(any(fits(path, p) for p in patterns) for paths, patterns in ends for path in paths):
            return True
    return False


def _why_not(alignment: Alignment, hint: Naming) -> str:
    """What the leaves are that a hint names and that cannot be matched."""
    paths = [(path, n) for n, side in enumerate((hint.source, hint.target)) for path in side]
    found = [(next(p for p in all_patterns(alignment, n) if fits(path, p)), n) for path, n in paths]
    mine, theirs = (", ".join(_sizes(p) for p, n in found if n == side) for side in (0, 1))
    return f"nothing of the one can be of the other: {mine} in the checkpoint, {theirs} in the model"


def _told(question: Question, hint: Naming) -> Option | None:
    """The one option that a hint tells from all others of a question."""
    if question.about == "order":
        return _told_order(question, hint)
    if question.about not in WHOSE:
        return None
    if parts := question.options[0].parts:  # a hint that names one of them speaks of no other
        return next((part for part in parts if _verdict(part, hint)), None)
    verdicts = [_verdict(option, hint) for option in question.options]
    fitting = [o for o, verdict in zip(question.options, verdicts, strict=True) if verdict is not False]
    said = [o for o, verdict in zip(question.options, verdicts, strict=True) if verdict]
    return said[0] if len(fitting) == 1 and said == fitting else None


def _verdict(option: Option, hint: Naming) -> bool | None:
    """Whether an option is what a hint says (True), something else (False), or nothing it speaks of (None)."""
    says = False
    if not option.links:
        touched = any(hint.speaks_of(p, 0) for link in option.replaces for p in link.left)
        return False if touched else None
    for link in option.links:
        here = any(hint.speaks_of(p, 0) for p in link.left)
        there = any(hint.speaks_of(p, 1) for p in link.right)
        if not hint.within(link.left[0], link.right[0]):
            continue
        if here != there:
            return False
        says |= here
    return True if says else None


def _told_order(question: Question, hint: Naming) -> Option | None:
    """The option in which the parts stand as a hint lists them."""
    for option in question.options:
        if not option.links:
            continue
        link = option.links[0]
        parts, whole = (link.left, link.right[0]) if len(link.left) > 1 else (link.right, link.left[0])
        named, of = (hint.source, hint.target) if len(hint.source) > 1 else (hint.target, hint.source)
        lists = len(parts) == len(named) > 1 and len(of) == 1 and fits(of[0], whole)
        if lists and all(fits(path, p) for path, p in zip(named, parts, strict=True)):
            return option
    return None


def _moved(alignment: Alignment, hint: Naming) -> Alignment | str:
    """The alignment with keys moved to where a hint says that they belong, whatever the guess was."""
    lefts, rights_ = (_in_scope(hint, [p for p in all_patterns(alignment, n) if hint.speaks_of(p, n)]) for n in (0, 1))
    rights = {rest(hint.target[0], p): p for p in rights_}
    facts, heard = [], False
    for p in lefts:
        if _is_joined(alignment, p, rights_):
            heard = True
            continue
        now = _partner(alignment, p)
        q = now if now in rights_ else rights.get(rest(hint.source[0], p)) or _in_place_of(now, hint, rights)
        if q is None and len(lefts) == len(rights) == 1:
            q = next(iter(rights.values()))
        if q is None or not hint.within(p, q):
            continue
        heard = True
        if now is q:
            alignment = _confirmed(alignment, p, hint)
        elif p.signature != q.signature and p.ranked != q.ranked:
            facts.append(f"{_sizes(p)} in the checkpoint, {_sizes(q)} in the model")
        else:
            alignment = _exchanged(alignment, p, q, hint)
    if facts or not (heard or _holds(alignment, hint)):
        return "; ".join(dict.fromkeys(facts)) or _why_not(alignment, hint)
    return alignment


def _is_joined(alignment: Alignment, p: Pattern, others: Sequence[Pattern]) -> bool:
    """Whether a leaf is matched with one of these as a part with its whole, or as a whole with its part."""
    joins = (link for link in alignment.links if (len(link.left), len(link.right)) != (1, 1))
    return any(p in link.left and any(q in link.right for q in others) for link in joins)


def _in_scope(hint: Naming, patterns: list[Pattern]) -> list[Pattern]:
    """Those that have the path to which a hint is kept; all, if it is a path of the other side."""
    return [p for p in patterns if fits(hint.under, p)] or patterns if hint.under else patterns


def _in_place_of(now: Pattern | None, hint: Naming, rights: Mapping[Path | None, Pattern]) -> Pattern | None:
    """The leaf in the module that a hint names which is what the present partner is in its own: in another repeat."""
    if now is None:
        return None
    anywhere = re.sub(r"(?<![^.^])[0-9]+(?![^.$])", "{i}", hint.target[0])
    return rights.get(rest(anywhere, now))


def _partner(alignment: Alignment, p: Pattern) -> Pattern | None:
    return next((link.right[0] for link in alignment.links if link.left == (p,) and len(link.right) == 1), None)


def _confirmed(alignment: Alignment, p: Pattern, hint: Naming) -> Alignment:
    links = tuple(
        settled(replace(link, answered=(*link.answered, *WHOSE)), f"answered: {hint.text}")
        if link.left == (p,) and WHOSE & link.open.keys()
        else link
        for link in alignment.links
    )
    return replace(alignment, links=links)


def _exchanged(alignment: Alignment, p: Pattern, q: Pattern, hint: Naming) -> Alignment:
    mine = next((link for link in alignment.links if p in link.left), None)
    theirs = next((link for link in alignment.links if q in link.right), None)
    base = theirs if theirs is not None and len(theirs.left) == len(theirs.right) == 1 else None
    made = moved(base, source=p) if base else Link((p,), (q,))
    beneath = list(dict.fromkeys(r for link in (base, mine) if link for r in _besides_names(link)))
    made = replace(doubted(made, "", beneath=beneath), answered=(*made.answered, *WHOSE))
    links = [link for link in alignment.links if link not in (mine, theirs)]
    links.append(settled(anew(alignment, made), f"answered: {hint.text}"))
    if mine is not None and base is not None and len(mine.left) == len(mine.right) == 1:
        links.append(doubted(moved(mine, source=base.left[0]), DISPLACED, beneath=beneath))
    return with_links(alignment, tuple(links))


def _besides_names(link: Link) -> list[Reason]:
    """What is open about a link whatever it is called."""
    return [reason for aspect, reason in link.open.items() if aspect not in WHOSE]


def _sizes(p: Pattern) -> str:
    shape, count = next(iter(p.shapes.values())), len(p)
    return f"`{p.template}` {shape}{f' in {count} places' if count > 1 else ''}"
