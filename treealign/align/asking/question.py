"""Questions and their options, stored folded: what evidence leaves open, as choices between consistent matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from treealign.align.links import Link, Match, keys_of
from treealign.align.reasons import About
from treealign.formats.cached import cached_property
from treealign.formats.legible import printable
from treealign.mapping.operations import Operation, Reorder
from treealign.tree.keys import natural_key
from treealign.tree.keytree import KeyTree

Trees = tuple[KeyTree, KeyTree]


@dataclass(frozen=True, eq=False)
class Option:
    """One way in which what a question asks about can be.

    Attributes
    ----------
    hint : str
        What chooses it: given to `suggest`, it settles the question so.
    text : str
        In words.
    links : tuple of Link
        What it asserts, folded.
    replaces : tuple of Link
        The links of the alignment whose place these take.
    implied : tuple of Link
        What follows for others, as a guess: the partner that was displaced takes the place that became free.
    trees : tuple of KeyTree
        Checkpoint and model.
    context : tuple of Link
        Other matches that it takes as they are guessed: of keys that bear the name of a key in question on the other
        side, and of those in question that it leaves open.
    parts : tuple of Option
        What it is made of, where it answers several questions that were put together.
    """

    hint: str
    text: str
    links: tuple[Link, ...]
    replaces: tuple[Link, ...]
    implied: tuple[Link, ...]
    trees: Trees
    context: tuple[Link, ...] = ()
    parts: tuple[Option, ...] = ()

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """What it asserts, key by key; empty if that is that the keys belong to nothing."""
        return tuple(m for link in (*self.links, *self.context) for m in expand_matches(link, self.trees))

    def __repr__(self) -> str:
        return printable(f"<Option: {self.text}; hint {self.hint!r}>")


@dataclass(frozen=True, eq=False)
class Question:
    """One decision that evidence leaves open, for the keys of every place where the same doubt recurs.

    Attributes
    ----------
    about : str
        ``names``, ``belongs``, ``order``, ``rows`` or ``axes``.
    options : tuple of Option
        Two to six, the best guess first.
    why : str
        What leaves it open.
    settled_by : tuple of str
        What would settle it, beside an answer.
    links : tuple of Link
        The matches in question, as they are guessed.
    sides : tuple of two tuples of Link
        Those of the links whose checkpoint keys are in question, and those whose model keys are.
    trees : tuple of KeyTree
        Checkpoint and model.
    """

    about: About
    options: tuple[Option, ...]
    why: str
    settled_by: tuple[str, ...]
    links: tuple[Link, ...]
    sides: tuple[tuple[Link, ...], tuple[Link, ...]]
    trees: Trees

    @cached_property
    def checkpoint(self) -> tuple[str, ...]:
        """The keys of the checkpoint in question, of every repeat."""
        return keys_of(self.trees[0], [p for link in self.sides[0] for p in link.left])

    @cached_property
    def model(self) -> tuple[str, ...]:
        """The keys of the model in question, of every repeat."""
        return keys_of(self.trees[1], [p for link in self.sides[1] for p in link.right])

    def __repr__(self) -> str:
        keys = f"{len(self.checkpoint)} checkpoint keys, {len(self.model)} model keys"
        return printable(f"<Question about {self.about}: {keys}, {len(self.options)} options; {self.why}>")


def expand_matches(link: Link, trees: Trees) -> Iterator[Match]:
    """The matches of a link, key by key."""
    left, right = trees[0].keys, trees[1].keys
    operations, order = _listed(link, trees)
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), [right[j] for j in group.right]
        yield Match(sources, tuple(targets[n] for n in order), operations, link.certain, link.evidence)


def _listed(link: Link, trees: Trees) -> tuple[tuple[Operation, ...], Sequence[int]]:
    """Targets of a split stand in the order of the parts if the checkpoint has an order at all, else in natural one."""
    first, keys = next(link.expand()).right, trees[1].keys
    order = sorted(range(len(first)), key=lambda n: natural_key(keys[first[n]]))
    if len(link.left) > 1 or order == sorted(order) or trees[0].ordered:
        return link.operations, range(len(first))
    return (*link.operations, Reorder(tuple(order))), order
