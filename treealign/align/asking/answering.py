"""Answers: what hints make of an alignment, each within what it speaks of.

A hint about names chooses among the options of a question; a statement about order, rows or axes says what is so with
the leaves that it names. Nothing else changes: a match that no hint speaks of stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.asking.arranging import arranged_apart
from treealign.align.asking.choosing import all_patterns, chosen, settled, spelled, with_links
from treealign.align.asking.named import named, paired_by
from treealign.align.asking.parting import parted_for
from treealign.align.asking.question import Question
from treealign.align.doubting.folded_space import Folds, folds
from treealign.align.doubting.squares import shown_since
from treealign.align.hints import Naming, Statement
from treealign.align.links import Link
from treealign.align.paths import rooted_text
from treealign.align.reasons import About
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
        Shapes refute what a hint says, or two hints contradict each other in what they make of some leaf.

    """
    waiting, refused = list(hints), {}
    followed: list[tuple[Naming, set[tuple[int, int]]]] = []
    while waiting:
        left: list[Hint] = []
        for hint in waiting:
            made = _one(parted_for(alignment, hint), hint)
            if isinstance(made, str):
                refused[hint.text] = made
                left.append(hint)
            else:
                alignment = made
                _refuse_undone(alignment, followed, hint)
                followed += [(hint, paired_by(alignment, hint))] if isinstance(hint, Naming) else []
        if len(left) == len(waiting):
            _refuse([f"`{hint.text}`: {refused[hint.text]}" for hint in left])
        waiting = left
    if hints:
        sides = all_patterns(alignment, 0), all_patterns(alignment, 1)
        alignment = with_links(alignment, tuple(shown_since(alignment.links, *sides)))
    statements = [hint for hint in hints if isinstance(hint, Statement)]
    _refuse_contradictions(alignment, statements)
    _refuse_matched(alignment, [hint for hint in statements if hint.said.about == "belongs"], followed)
    return alignment


def _refuse_undone(alignment: Alignment, before: Sequence[tuple[Naming, set[tuple[int, int]]]], hint: Hint) -> None:
    """Refuse a hint that pairs otherwise what another has paired."""
    for other, pairs in before:
        if lost := pairs - paired_by(alignment, other):
            key = alignment.checkpoint.keys[min(lost)[0]]
            _refuse([f"`{other.text}` and `{hint.text}` cannot both hold: both speak of `{key}`"])


def _refuse_contradictions(alignment: Alignment, statements: Sequence[Statement]) -> None:
    """Refuse statements that say unlike things of one match, by whichever side's names."""
    for n, one in enumerate(statements):
        for other in statements[:n]:
            if other.said.about == one.said.about and other.said != one.said:
                both = next((x for x in alignment.links if _speaks_of(one, x) and _speaks_of(other, x)), None)
                if both is not None and not _says_the_same(both, one, other, folds(alignment.model)):
                    ends = f"`{both.left[0].template}` -> `{both.right[0].template}`"
                    _refuse([f"`{other.text}` and `{one.text}` both speak of {ends}"])


def _refuse_matched(
    alignment: Alignment, nothing: Sequence[Statement], followed: Sequence[tuple[Naming, set[tuple[int, int]]]]
) -> None:
    """Refuse that keys belong to nothing and that another hint matches them."""
    for hint in nothing:
        side = 0 if hint.said.kind == "unused" else 1
        for link in alignment.links:
            matched = next((p for p in (link.left, link.right)[side] if hint.speaks_of(p)), None)
            other = next((n for n, _ in followed if matched and n.speaks_of(matched, side)), None)
            if matched and other:
                _refuse([f"`{hint.text}` and `{other.text}` cannot both hold: both speak of `{matched.template}`"])


def _speaks_of(hint: Statement, link: Link) -> bool:
    return any(hint.speaks_of(p) for p in (*link.left, *link.right))


def _says_the_same(link: Link, one: Statement, other: Statement, merges: Folds) -> bool:
    made = [arranged_apart(link, hint.said, merges) for hint in (one, other)]
    return len({tuple((x.operations, tuple(x.expand())) for x in ones) for ones in made}) == 1


def _refuse(facts: Sequence[str]) -> None:
    way_out = "leave them out, or look at the shapes with `treealign show`"
    raise TreealignError("hints that cannot hold", facts=list(facts), hint=way_out)


def refusals(alignment: Alignment, question: Question) -> tuple[str, ...]:
    """The hints which say that none of the options is so: nothing in question belongs to anything."""
    left = [p for link in question.sides[0] for p in link.left]
    right = [p for link in question.sides[1] for p in link.right]
    ends = ((left, 0, "not in the model"), (right, 1, "not in the checkpoint"))
    return tuple(f"{','.join(rooted_text(mine, all_patterns(alignment, n)))}: {text}" for mine, n, text in ends if mine)


def _one(alignment: Alignment, hint: Hint) -> Alignment | str:
    """What one hint makes of an alignment, or why it can do nothing."""
    if isinstance(hint, Statement):
        return _without(alignment, hint) if hint.said.about == "belongs" else _stated(alignment, hint)
    return named(alignment, hint)


# statements


def _stated(alignment: Alignment, hint: Statement) -> Alignment | str:
    about: About = hint.said.about
    spoken = [link for link in alignment.links if any(hint.speaks_of(p) for p in (*link.left, *link.right))]
    links = [link for link in spoken if about in link.open] or [link for link in spoken if about not in link.answered]
    if not links:
        return alignment if spoken else "no match has these keys"
    if option := spelled(alignment, hint):
        return chosen(alignment, option)
    made, gone, merges = [], set(), folds(alignment.model)
    for link in links:
        for new in arranged_apart(link, hint.said, merges):
            gone.add(link)
            aspects: tuple[About, ...] = (about, "order") if hint.said.parts else (about,)
            made.append(settled(replace(new, answered=(*new.answered, *aspects)), f"answered: {hint.text}"))
    if not made:
        p = links[0].left[0]
        if hint.said.kind == "folded" and all(merges.dim(link) is None for link in links):
            return f"no fold is known in the model around `{links[0].right[0].template}`"
        return f"`{p.template}` of shape {next(iter(p.shapes.values()))} cannot stand so"
    return with_links(alignment, (*(link for link in alignment.links if link not in gone), *made))


def _without(alignment: Alignment, hint: Statement) -> Alignment | str:
    """Without the matches of keys that belong to nothing."""
    side = 0 if hint.said.kind == "unused" else 1
    kept = tuple(link for link in alignment.links if not any(hint.speaks_of(p) for p in (link.left, link.right)[side]))
    spoken = {at for p in all_patterns(alignment, side) if hint.speaks_of(p) for at in p.cells.values()}
    nothing = list(alignment.nothing)
    nothing[side] |= spoken
    return with_links(replace(alignment, nothing=(nothing[0], nothing[1])), kept)
