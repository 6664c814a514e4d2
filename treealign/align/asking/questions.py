"""All questions that an alignment leaves open, in the order in which to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.asking.hidden import MOST, Sizes, hidden_questions
from treealign.align.asking.merging import merge_questions
from treealign.align.asking.naming import naming_questions
from treealign.align.asking.question import Question
from treealign.align.links import Ambiguity, Link
from treealign.align.reasons import ASPECTS, WHOSE


def find_questions(alignment: Alignment, sizes: Sizes | None = None) -> tuple[Question, ...]:
    """What evidence does not settle, as questions with options.

    Names come before what stands under them, and among those what settles most keys.

    Parameters
    ----------
    alignment : Alignment
        Both sides and their matches.
    sizes : callable, optional
        The sizes that the heads of a link may have, where more is known than names and shapes tell.

    """
    hidden = list(hidden_questions(alignment, sizes))
    names, hidden = _told_by_order(list(naming_questions(alignment)), hidden)
    found = [_in_context(q, alignment) for q in merge_questions(names)] + merge_questions(hidden)
    place = {aspect: at for at, aspect in enumerate(ASPECTS)}
    return tuple(sorted(found, key=lambda q: (place[q.about], -len(q.model) - len(q.checkpoint), q.options[0].hint)))


def _told_by_order(names: list[Question], hidden: list[Question]) -> tuple[list[Question], list[Question]]:
    """The questions, without those whether keys belong together that the answer to another tells.

    Who says in which order parts stand in a whole, or which member of a list is which of another, says that they belong
    together; that they do not is one more option of that question.
    """
    told: dict[Question, list[Question]] = {}
    for question in names:
        chooses = [option for option in question.options if option.links]
        if len(chooses) == 1 and len(chooses) < len(question.options):
            of = [q for q in hidden if q.about == "order" and set(q.links).issuperset(question.links)]
            told.update({q: [*told.get(q, ()), question] for q in of[:1]})
    gone = {question for questions in told.values() for question in questions}
    kept = [question for question in names if question not in gone]
    return kept, [_with_names(q, told[q]) if q in told else q for q in hidden]


def _with_names(question: Question, told: Sequence[Question]) -> Question:
    """A question about order whose options say too that the keys belong together."""
    options = [replace(o, links=tuple(_named(link) for link in o.links)) for o in question.options]
    if len(options) < MOST and all(set(q.links) == set(question.links) for q in told):
        options += [o for o in told[0].options if not o.links and all(o.hint != known.hint for known in options)]
    why = "; ".join(dict.fromkeys([*(q.why for q in told), question.why]))
    return replace(question, options=tuple(options), why=why)


def _named(link: Link) -> Link:
    return replace(link, answered=tuple(dict.fromkeys((*link.answered, *sorted(WHOSE)))))


def _in_context(question: Question, alignment: Alignment) -> Question:
    """A question whose options say too who has the keys that are called as those in question are on the other side."""
    names = tuple({p.template for link in question.sides[n] for p in (link.left, link.right)[n]} for n in (0, 1))
    options = []
    for option in question.options:
        gone, said = set(option.replaces), {p for link in option.links for p in (*link.left, *link.right)}
        others = [link for link in (*alignment.links, *option.implied) if link not in gone]
        context = tuple(
            link
            for link in others
            if any(p.template in names[0] and p not in said for p in link.right)
            or any(p.template in names[1] and p not in said for p in link.left)
        )
        options.append(replace(option, context=tuple(dict.fromkeys((*option.context, *context)))))
    return replace(question, options=tuple(options))


def ambiguity(question: Question) -> Ambiguity:
    """A question as the keys among which the truth is, and what would settle it."""
    keys = (set(question.checkpoint), set(question.model))
    for option in question.options:
        for match in option.matches:
            keys[0].update(match.checkpoint)
            keys[1].update(match.model)
    left, right = (
        tuple(key for key in tree.keys if key in mine) for tree, mine in zip(question.trees, keys, strict=True)
    )
    hints = " or ".join(f"'{option.hint}'" for option in question.options[:2])
    return Ambiguity(left, right, f"{question.why}: a hint such as {hints}, or {', or '.join(question.settled_by[1:])}")
