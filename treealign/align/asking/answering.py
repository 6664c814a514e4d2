"""Answers: what hints make of an alignment, each within what it speaks of.

A hint about names chooses among the options of a question; a statement about order, rows or axes says what is so with
the leaves that it names. Nothing else changes: a match that no hint speaks of stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.asking.arranging import arranged
from treealign.align.asking.exchanging import moved
from treealign.align.asking.naming import NAMES
from treealign.align.asking.question import Option, Question
from treealign.align.asking.questions import find_questions
from treealign.align.doubting.stacking import judged_anew
from treealign.align.hints import Naming, Statement
from treealign.align.knowledge.settling import settled_by_layouts
from treealign.align.links import Link
from treealign.align.paths import fits, rest, rooted_text
from treealign.align.patterns import Pattern
from treealign.align.reasons import About
from treealign.align.verdict import doubted, settled_if_answered
from treealign.errors import TreealignError

Hint = Statement | Naming


def answered(alignment: Alignment, hints: Sequence[Hint]) -> Alignment:
    """An alignment with all that hints settle.

    Parameters
    ----------
    alignment : Alignment
        As evidence has it.
    hints : sequence of Statement or Naming
        In any order: one that speaks of what another makes waits for it.

    Raises
    ------
    TreealignError
        Shapes refute what a hint says.

    """
    waiting, refused = list(hints), {}
    while waiting:
        left: list[Hint] = []
        for hint in waiting:
            made = _one(alignment, hint)
            if isinstance(made, str):
                refused[hint.text] = made
                left.append(hint)
            else:
                alignment = made
        if len(left) == len(waiting):
            facts = [f"`{hint.text}`: {refused[hint.text]}" for hint in left]
            raise TreealignError(
                "hints that cannot hold",
                facts=facts,
                hint="leave them out, or look at the shapes with `treealign show`",
            )
        waiting = left
    return alignment


def refusals(alignment: Alignment, question: Question) -> tuple[str, ...]:
    """The hints which say that none of the options is so: nothing in question belongs to anything."""
    left = [p for link in question.sides[0] for p in link.left]
    right = [p for link in question.sides[1] for p in link.right]
    ends = ((left, 0, "not in the model"), (right, 1, "not in the checkpoint"))
    return tuple(f"{','.join(rooted_text(mine, _all(alignment, n)))}: {text}" for mine, n, text in ends if mine)


def chosen(alignment: Alignment, option: Option) -> Alignment:
    """An alignment as an option says that it is."""
    said = f"answered: {option.hint}"
    made = []
    for link in option.links:
        anew = link
        if set(link.answered) >= NAMES and link not in option.replaces and _is_moved(link, option.replaces):
            anew = _anew(alignment, link)
        made.append(_settled(anew, said))
    gone = set(option.replaces)
    implied = [doubted(_anew(alignment, link), link.reason) for link in option.implied]
    links = (*(link for link in alignment.links if link not in gone), *made, *implied)
    return _with_links(alignment, links)


def _is_moved(link: Link, before: Sequence[Link]) -> bool:
    return not any(link.left == old.left and link.right == old.right for old in before)


def _anew(alignment: Alignment, link: Link) -> Link:
    """A link between others than before: what rows and axes may hide between these."""
    if alignment.conventions is None or link.operations:
        return link
    made = judged_anew(link, alignment.conventions, alignment.model)
    made = replace(made, answered=link.answered, evidence=link.evidence)
    return settled_by_layouts([made], alignment.model.modules, alignment.conventions.habits)[0]


def _settled(link: Link, said: str) -> Link:
    return settled_if_answered(replace(link, evidence=(*link.evidence, said)))


def _with_links(alignment: Alignment, links: tuple[Link, ...]) -> Alignment:
    """The alignment with these links; what none of them uses is left over."""
    known: tuple[dict[Pattern, None], dict[Pattern, None]] = ({}, {})
    for link in alignment.links:
        known[0].update(dict.fromkeys(link.left))
        known[1].update(dict.fromkeys(link.right))
    used = {p for link in links for p in (*link.left, *link.right)}
    spare = [
        tuple(p for p in (*before, *mine) if p not in used)
        for before, mine in zip((alignment.left, alignment.right), known, strict=True)
    ]
    copies = tuple(link for link in alignment.copies if used.isdisjoint(link.left))
    return replace(alignment, links=links, copies=copies, left=spare[0], right=spare[1])


def _one(alignment: Alignment, hint: Hint) -> Alignment | str:
    """What one hint makes of an alignment, or why it can do nothing."""
    if isinstance(hint, Statement):
        return _without(alignment, hint) if hint.said.about == "belongs" else _stated(alignment, hint)
    return _named(alignment, hint)


# statements


def _spelled(alignment: Alignment, hint: Hint) -> Option | None:
    """The option that has this very hint."""
    options = (o for question in find_questions(alignment) for o in question.options)
    return next((o for o in options if o.hint in (hint.text, hint.whole)), None)


def _stated(alignment: Alignment, hint: Statement) -> Alignment | str:
    about: About = hint.said.about
    spoken = [link for link in alignment.links if any(hint.speaks_of(p) for p in (*link.left, *link.right))]
    links = [link for link in spoken if about in link.open] or [link for link in spoken if about not in link.answered]
    if not links:
        return alignment if spoken else "no match has these keys"
    if option := _spelled(alignment, hint):
        return chosen(alignment, option)
    made, gone = [], set()
    for link in links:
        new = arranged(link, hint.said)
        if new is not None:
            gone.add(link)
            settled: tuple[About, ...] = (about, "order") if hint.said.parts else (about,)
            made.append(_settled(replace(new, answered=(*new.answered, *settled)), f"answered: {hint.text}"))
    if not made:
        p = links[0].left[0]
        return f"`{p.template}` of shape {next(iter(p.shapes.values()))} cannot stand so"
    return _with_links(alignment, (*(link for link in alignment.links if link not in gone), *made))


def _without(alignment: Alignment, hint: Statement) -> Alignment | str:
    """Without the matches of keys that belong to nothing."""
    side = 0 if hint.said.kind == "unused" else 1
    kept = tuple(link for link in alignment.links if not any(hint.speaks_of(p) for p in (link.left, link.right)[side]))
    return _with_links(alignment, kept)


# names


def _named(alignment: Alignment, hint: Naming) -> Alignment | str:
    """The alignment with every option chosen that the hint tells from the others, else with the keys moved."""
    if option := _spelled(alignment, hint):
        return chosen(alignment, option)
    done, changed = set(), True
    result = alignment
    while changed:
        changed = False
        for question in find_questions(result):
            option = _told(question, hint)
            if option is not None and option.hint not in done:
                done.add(option.hint)
                result, changed = chosen(result, option), True
                break
    if done or len(hint.source) > 1 or len(hint.target) > 1:
        return result
    return _unheeded(result, hint) if hint.floats else _moved(alignment, hint)


def _unheeded(alignment: Alignment, hint: Naming) -> Alignment | str:
    """The alignment, if a hint that counted as evidence while names were matched has paired what it names."""
    links = (*alignment.links, *alignment.copies, *alignment.resized)
    if any(any(hint.speaks_of(p, 0) for p in x.left) and any(hint.speaks_of(p, 1) for p in x.right) for x in links):
        return alignment
    ends = (next(p for p in _all(alignment, n) if hint.speaks_of(p, n)) for n in (0, 1))
    mine, theirs = map(_sizes, ends)
    return f"nothing of the one can be of the other: {mine} in the checkpoint, {theirs} in the model"


def _told(question: Question, hint: Naming) -> Option | None:
    """The one option that a hint tells from all others of a question."""
    if question.about == "order":
        return _told_order(question, hint)
    if question.about not in NAMES:
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
    lefts = [p for p in _all(alignment, 0) if hint.speaks_of(p, 0)]
    rights = {rest(hint.target[0], p): p for p in _all(alignment, 1) if hint.speaks_of(p, 1)}
    facts = []
    for p in lefts:
        q = rights.get(rest(hint.source[0], p))
        if q is None and len(lefts) == len(rights) == 1:
            q = next(iter(rights.values()))
        if q is None or not hint.within(p, q):
            continue
        if _partner(alignment, p) is q:
            alignment = _confirmed(alignment, p, hint)
        elif p.signature != q.signature and p.ranked != q.ranked:
            facts.append(f"{_sizes(p)} in the checkpoint, {_sizes(q)} in the model")
        else:
            alignment = _exchanged(alignment, p, q, hint)
    return "; ".join(dict.fromkeys(facts)) if facts else alignment


def _all(alignment: Alignment, side: int) -> list[Pattern]:
    links = (*alignment.links, *alignment.copies, *alignment.resized)
    mine = [p for link in links for p in (link.left, link.right)[side]]
    return [*mine, *(alignment.left, alignment.right)[side]]


def _partner(alignment: Alignment, p: Pattern) -> Pattern | None:
    return next((link.right[0] for link in alignment.links if link.left == (p,) and len(link.right) == 1), None)


def _confirmed(alignment: Alignment, p: Pattern, hint: Naming) -> Alignment:
    links = tuple(
        _settled(replace(link, answered=(*link.answered, *NAMES)), f"answered: {hint.text}")
        if link.left == (p,) and NAMES & link.open.keys()
        else link
        for link in alignment.links
    )
    return replace(alignment, links=links)


def _exchanged(alignment: Alignment, p: Pattern, q: Pattern, hint: Naming) -> Alignment:
    mine = next((link for link in alignment.links if p in link.left), None)
    theirs = next((link for link in alignment.links if q in link.right), None)
    base = theirs if theirs is not None and len(theirs.left) == len(theirs.right) == 1 else None
    made = moved(base, source=p) if base else Link((p,), (q,))
    made = replace(doubted(made, ""), answered=(*made.answered, *NAMES))
    links = [link for link in alignment.links if link not in (mine, theirs)]
    links.append(_settled(_anew(alignment, made), f"answered: {hint.text}"))
    if mine is not None and base is not None and len(mine.left) == len(mine.right) == 1:
        back = moved(mine, source=base.left[0])
        links.append(doubted(back, mine.reason or base.reason))
    return _with_links(alignment, tuple(links))


def _sizes(p: Pattern) -> str:
    return f"`{p.template}` {next(iter(p.shapes.values()))}"
