"""What the aligner knows at any time: one frozen value, which each pass takes and gives back with more in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from treealign.align.contents.anchors import Anchors, no_anchors
from treealign.align.contents.fingerprints import Contents
from treealign.align.doubting.conventions import Conventions
from treealign.align.hinted import Hint
from treealign.align.hints import Hints
from treealign.align.links import Link
from treealign.align.matching.assigning import Matched
from treealign.align.matching.assignment import Given
from treealign.align.matching.scoring import Side
from treealign.align.matching.traced_roles import Roles
from treealign.align.patterns import Pattern
from treealign.align.verdict import Alternatives
from treealign.tree.keytree import KeyTree

Trees = tuple[KeyTree, KeyTree]
Patterns = tuple[Sequence[Pattern], Sequence[Pattern]]


@dataclass(frozen=True, eq=False)
class State:
    """All that is known of two trees so far. Checkpoint first, wherever there are two.

    Attributes
    ----------
    given : tuple of KeyTree
        The trees as they were given.
    said : Hints
        What the user said, as it was given.
    contents : Contents or None
        Fingerprints of the tensors, where these are compared.
    shapes : bool
        Whether the shapes of both sides are known.
    trees : tuple of KeyTree
        As they are read: names that were flattened have their dots again.
    spelled : mapping of int to str
        Leaves of the checkpoint that are read under the model's names, to what says so.
    patterns : two sequences of Pattern
        All that is to be matched.
    aside : sequence of Pattern
        Leaves of the checkpoint that are second names of others.
    anchors : Anchors
        What contents have settled.
    hints : tuple of Hint
        What the user said that speaks of names.
    fixed : Given
        What is settled before anything is assigned.
    sides : two of Side
        The patterns with their words.
    roles : mapping of Pattern to tuple of Token
        What only a run of either side tells of a pattern.
    matched : Matched
        What was assigned.
    conventions : Conventions or None
        What the two sides show of their libraries.
    proved : tuple of Link
        What contents have proved, until it joins the links.
    links, resized, copies : tuple of Link
        What corresponds; what does although a size differs; second names of tied weights.
    left, right : tuple of Pattern
        What is left over in the end.
    findings : tuple of str
        What a person should know.
    foreign : bool
        The two sides share nothing: nothing more is to be done.
    """

    given: Trees
    said: Hints
    contents: Contents | None
    shapes: bool
    trees: Trees
    spelled: Mapping[int, str] = field(default_factory=dict)
    patterns: Patterns = ((), ())
    aside: Sequence[Pattern] = ()
    anchors: Anchors = field(default_factory=lambda: no_anchors(((), ())))
    hints: tuple[Hint, ...] = ()
    fixed: Given = field(default_factory=lambda: Given({}, (0, 0)))
    sides: tuple[Side, Side] = Side((), ()), Side((), ())
    roles: Roles = field(default_factory=dict)
    matched: Matched = field(default_factory=Matched.nothing)
    conventions: Conventions | None = None
    proved: tuple[Link, ...] = ()
    links: tuple[Link, ...] = ()
    resized: tuple[Link, ...] = ()
    copies: tuple[Link, ...] = ()
    left: tuple[Pattern, ...] = ()
    right: tuple[Pattern, ...] = ()
    findings: tuple[str, ...] = ()
    foreign: bool = False

    @classmethod
    def of(cls, checkpoint: KeyTree, model: KeyTree, said: Hints = None, contents: Contents | None = None) -> State:
        """Nothing but the two trees, and what was said of them."""
        trees = checkpoint, model
        return cls(trees, said, contents, not any(leaf.shape is None for tree in trees for leaf in tree.leaves), trees)

    @property
    def known(self) -> tuple[Link, ...]:
        """All links, with what contents have proved."""
        return (*self.proved, *self.links)


Pass = Callable[[State], State]
Judge = Callable[[State], Alternatives]
