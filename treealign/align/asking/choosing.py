"""What an option makes of an alignment, and what the parts of one are called while it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.asking.question import Option
from treealign.align.asking.questions import find_questions
from treealign.align.doubting.stacking import judged_anew
from treealign.align.hints import Naming, Statement
from treealign.align.knowledge.settling import settled_by_layouts
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE
from treealign.align.verdict import doubted, settled_if_answered

Hint = Statement | Naming


def chosen(alignment: Alignment, option: Option) -> Alignment:
    """An alignment as an option says that it is."""
    said = f"answered: {option.hint}"
    made = []
    for link in option.links:
        is_other = set(link.answered) >= WHOSE and link not in option.replaces and _is_moved(link, option.replaces)
        made.append(settled(anew(alignment, link) if is_other else link, said))
    gone = set(option.replaces)
    implied = [doubted(anew(alignment, link), link.reason) for link in option.implied]
    links = (*(link for link in alignment.links if link not in gone), *made, *implied)
    return with_links(alignment, links)


def _is_moved(link: Link, before: Sequence[Link]) -> bool:
    return not any(link.left == old.left and link.right == old.right for old in before)


def anew(alignment: Alignment, link: Link) -> Link:
    """A link between others than before: what rows and axes may hide between these."""
    if alignment.conventions is None or link.operations:
        return link
    made = judged_anew(link, alignment.conventions, alignment.model)
    made = replace(made, answered=link.answered, evidence=link.evidence)
    return settled_by_layouts([made], alignment.model.modules, alignment.conventions.habits)[0]


def settled(link: Link, said: str) -> Link:
    """A link of which something is said, as a certain one if nothing else is open about it."""
    return settled_if_answered(replace(link, evidence=(*link.evidence, said)))


def with_links(alignment: Alignment, links: tuple[Link, ...]) -> Alignment:
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


def spelled(alignment: Alignment, hint: Hint) -> Option | None:
    """The option that has this very hint."""
    options = (o for question in find_questions(alignment) for o in question.options)
    return next((o for o in options if o.hint in (hint.text, hint.whole)), None)


def all_patterns(alignment: Alignment, side: int) -> list[Pattern]:
    """The patterns of one side, matched or left over."""
    links = (*alignment.links, *alignment.copies, *alignment.resized)
    mine = [p for link in links for p in (link.left, link.right)[side]]
    return [*mine, *(alignment.left, alignment.right)[side]]
