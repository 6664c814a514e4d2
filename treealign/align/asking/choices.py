"""What a suggestion leaves open, as choices between mappings: what a program can try one after the other.

The ways to decide are the options of the questions. Questions about names that share keys are one choice: what one of
them answers, another may contradict, and of the answers that go together each is one way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from treealign.align.alignment import Alignment
from treealign.align.asking.answering import answered
from treealign.align.asking.exchanging import alike, same_parameter
from treealign.align.asking.hidden import Sizes
from treealign.align.asking.question import Option, Question
from treealign.align.asking.questions import find_questions
from treealign.align.doubting.conventions import HEADS
from treealign.align.doubting.folded_space import FOLDS
from treealign.align.hints import parse
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE
from treealign.errors import TreealignError

MOST_WAYS = 64  # combinations of answers about names that are looked at
Pairs = frozenset[tuple[tuple[Pattern, ...], tuple[Pattern, ...]]]


@dataclass(frozen=True, eq=False)
class Way:
    """One way to decide a choice.

    Attributes
    ----------
    text : str
        In words.
    hints : tuple of str
        What chooses it.
    """

    text: str
    hints: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """Questions that are decided together.

    Attributes
    ----------
    questions : tuple of Question
        What is open.
    ways : tuple of Way
        At least two, the best guess first.
    complete : bool
        Whether these are all ways that evidence leaves open.
    guessed : bool
        Whether the first way is what the alignment has now: where the model says how large heads are, what was guessed
        without it may be none of the ways.
    """

    questions: tuple[Question, ...]
    ways: tuple[Way, ...]
    complete: bool = True
    guessed: bool = True

    @property
    def hints(self) -> set[str]:
        """The answers of all ways."""
        return {hint for way in self.ways for hint in way.hints}

    @property
    def targets(self) -> set[Pattern]:
        """The patterns of the model in question."""
        return {p for question in self.questions for link in question.links for p in link.right}


def with_answers(alignment: Alignment, hints: Sequence[str]) -> Alignment | None:
    """The alignment with these answers; None where they cannot hold together."""
    try:
        return answered(alignment, [hint for text in hints for hint in parse(text)])
    except TreealignError:
        return None


def find_choices(alignment: Alignment, sizes: Sizes | None = None) -> list[Choice]:
    """All choices that the questions of an alignment leave open and that can be tried.

    That keys belong to nothing cannot: the model would lack them.
    """
    questions = find_questions(alignment, sizes)
    names = [question for question in questions if question.about in WHOSE]
    found = [_names_choice(alignment, group) for group in _connected(names)]
    found += [_hidden_choice(question) for question in questions if question.about not in WHOSE]
    return [choice for choice in found if len(choice.ways) > 1]


def _hidden_choice(question: Question) -> Choice:
    ways = tuple(Way(option.text, (option.hint,)) for option in _filling(question))
    # the heads of a fused qkv, and what a fold makes, may stand in more ways than can be listed
    complete = question.about != "rows" or not any(map(_has_more_ways, question.links))
    first = _filling(question)[:1]
    made, now = (_arranged(links) for links in (first[0].links if first else (), question.links))
    return Choice((question,), ways, complete=complete, guessed=made == now)


def _has_more_ways(link: Link) -> bool:
    doubt = link.open["rows"].kind if "rows" in link.open else ""
    return doubt in FOLDS or (doubt == HEADS.kind and len(link.left) == len(link.right) == 1)


def _arranged(links: Sequence[Link]) -> list[object]:
    """What moves which values where."""
    return [(link.operations, tuple(link.expand())) for link in links]


def _filling(question: Question) -> list[Option]:
    """The options by which no key in question belongs to nothing."""
    most = len(question.options[0].links)
    return [option for option in question.options if option.links and len(option.links) >= most]


def _names_choice(alignment: Alignment, questions: Sequence[Question]) -> Choice:
    """Answers that go together, each as the pairs that they make."""
    tried = [_filling(question) for question in questions]
    complete = all(_is_complete(question) for question in questions)
    if math.prod(map(len, tried)) > MOST_WAYS:
        tried, complete = [options if n == 0 else options[:1] for n, options in enumerate(tried)], False
    found: dict[Pairs, tuple[str, ...]] = {}
    for picks in sorted(product(*(range(len(options)) for options in tried)), key=lambda p: (sum(p), p)):
        chosen = [options[pick] for options, pick in zip(tried, picks, strict=True)]
        made = with_answers(alignment, [option.hint for option, pick in zip(chosen, picks, strict=True) if pick])
        if made is not None:
            pairs = frozenset((link.left, link.right) for link in made.links)
            found.setdefault(pairs, _holding(tried, pairs))
    texts = {option.hint: option.text for options in tried for option in options}
    ways = (Way(", ".join(dict.fromkeys(texts[hint] for hint in hints)), hints) for hints in found.values())
    return Choice(tuple(questions), tuple(ways), complete)


def _holding(tried: Sequence[Sequence[Option]], pairs: Pairs) -> tuple[str, ...]:
    """The hints of the options that hold where these are paired."""
    holding = (
        next((o.hint for o in options if all((link.left, link.right) in pairs for link in o.links)), None)
        for options in tried
    )
    return tuple(hint for hint in holding if hint is not None)


def _is_complete(question: Question) -> bool:
    """Whether the options speak of all that nothing separates from the leaves in question."""
    spoken = {p for o in question.options for link in (*o.links, *o.implied) for p in (*link.left, *link.right)}
    return all(p in spoken for link in question.links for p in _rivals(link))


def _rivals(link: Link) -> Iterator[Pattern]:
    for mine, rivals in zip((link.left, link.right), link.rivals, strict=True):
        yield from (p for p in rivals if len(mine) == 1 and alike(p, mine[0]) and same_parameter(p, mine[0]))


def _connected(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions grouped by the patterns that their options speak of."""
    groups: list[tuple[set[Pattern], list[Question]]] = []
    for question in questions:
        links = [link for option in question.options for link in (*option.links, *option.implied, *option.replaces)]
        spoken = {p for link in links for p in (*link.left, *link.right)}
        mine = [group for group in groups if not spoken.isdisjoint(group[0])]
        together = [other for _, members in mine for other in members]
        groups = [group for group in groups if group not in mine]
        groups.append((spoken.union(*(group[0] for group in mine)), [*together, question]))
    return [members for _, members in groups]
