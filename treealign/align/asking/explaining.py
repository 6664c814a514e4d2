"""All evidence about one match and its rivals, gathered again on demand: what decided, and what it would take.

The exchange of a match with another of its class is what certainty is about (see `certainty`): the evidence that both
matches hold, against that of the two pairs which the exchange would make.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from treealign.align.alignment import Alignment
from treealign.align.asking.question import Question
from treealign.align.asking.questions import find_questions
from treealign.align.asking.weighing import SMALL, Weighed, is_shared, more, sizes_text, token_text, total
from treealign.align.knowledge.weights import ANCESTORS, BESIDE, MARGIN, SAME_PATH, token_weight
from treealign.align.links import Link, keys_of
from treealign.align.matching.assigning import assign_refined
from treealign.align.matching.assignment import Given, comparable
from treealign.align.matching.certainty import Evidence
from treealign.align.matching.scoring import Side, Votes, same_path
from treealign.align.matching.traced_roles import traced_roles, with_traced_roles
from treealign.align.patterns import Pattern
from treealign.formats.cached import cached_property
from treealign.mapping.operations import Operation
from treealign.tree.keytree import KeyTree

UNMATCHED = 3  # candidates named for a key without a match


@dataclass(frozen=True)
class Rival:
    """Another match of the same shapes, or a key that is left over, and the exchange with it.

    Attributes
    ----------
    checkpoint, model : tuple of str
        Its keys; empty on the side on which there is none.
    lost : float
        Evidence that the exchange would lose; no more than `MARGIN` separates nothing.
    for_match, for_exchange : tuple of (str, float)
        Evidence that only the pairs as they are have, and that only the exchanged ones would have.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    lost: float
    for_match: Weighed
    for_exchange: Weighed


@dataclass(frozen=True)
class Explanation:
    """What is known about some keys that repeat.

    Attributes
    ----------
    checkpoint, model : tuple of str
        The keys that correspond, of all repeats; one side is empty for keys without a match.
    operations : tuple of Operation
        As in `Match`.
    certain : bool
        As in `Match`; False without a match.
    reason : str
        Why it is not certain, or why there is no match.
    evidence : tuple of (str, float)
        What the two share, and how much it counts; 0 for what does not settle anything.
    rivals : tuple of Rival
        The exchange that loses least first; for a key without a match, what is most like it.
    alternatives : tuple of str
        Ways that are open, the guess first.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    certain: bool = False
    reason: str = ""
    evidence: Weighed = ()
    rivals: tuple[Rival, ...] = ()
    alternatives: tuple[str, ...] = ()


def explain(alignment: Alignment, keys: Collection[str]) -> tuple[Explanation, ...]:
    """Explain what the alignment says about keys of either side.

    Parameters
    ----------
    alignment : Alignment
        Both sides and their matches.
    keys : collection of str
        Keys of the checkpoint or of the model.

    Returns
    -------
    tuple of Explanation
        One for each match of patterns that one of the keys is in, and for each pattern without a match.

    Notes
    -----
    Quadratic in the number of patterns, as the alignment is.

    """
    wanted, case = set(keys), _Case(alignment)
    found = [case.of_link(link) for link in alignment.links if wanted & set(case.keys_of_link(link))]
    found += [case.of_resized(link) for link in alignment.resized if wanted & set(case.keys_of_link(link))]
    found += [case.of_copy(link) for link in alignment.copies if wanted & set(keys_of(alignment.checkpoint, link.left))]
    for side in (0, 1):
        for p in (alignment.left, alignment.right)[side]:
            if wanted & set(case.keys_of_side(side, [p])):
                found.append(case.unmatched(side, p))
    return tuple(found)


class _Case:
    """Both sides with their evidence, as the alignment had it."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        links = (*alignment.links, *alignment.resized)
        left = [p for link in (*links, *alignment.copies) for p in link.left]
        right = [p for link in links for p in link.right]
        self.left = _side([*left, *alignment.left], alignment.checkpoint, [h.source for h in alignment.hints])
        self.right = _side([*right, *alignment.right], alignment.model, [h.target for h in alignment.hints])
        self.row = {p: at for at, p in enumerate(self.left.patterns)}
        self.column = {p: at for at, p in enumerate(self.right.patterns)}

    @cached_property
    def evidence(self) -> Evidence:
        """Of all pairs, with what certain matches have taught about others."""
        everything = Given({}, (len(self.left.patterns), len(self.right.patterns)))
        return assign_refined((self.left, self.right), everything).evidence

    def votes(self, beside: Sequence[int]) -> Votes:
        """Of certain matches, but of those in the modules of these left patterns and of their partners.

        What descends from a decision cannot speak for it.
        """
        rows = {self.left.patterns[i].segments[:-1] for i in beside if i >= 0}
        own = [(i, j) for link, i, j in self.pairs if link.certain and self.left.patterns[i].segments[:-1] not in rows]
        votes = Votes(self.left, self.right)
        votes.count(own, [1.0] * len(own))
        return votes

    @cached_property
    def pairs(self) -> list[tuple[Link, int, int]]:
        """All one-to-one links with their patterns by position."""
        links = [link for link in self.alignment.links if len(link.left) == len(link.right) == 1]
        return [(link, self.row[link.left[0]], self.column[link.right[0]]) for link in links]

    def keys_of_side(self, side: int, patterns: Sequence[Pattern]) -> tuple[str, ...]:
        """The keys of patterns of the checkpoint (0) or the model (1)."""
        return keys_of((self.alignment.checkpoint, self.alignment.model)[side], patterns)

    def keys_of_link(self, link: Link) -> tuple[str, ...]:
        """Of both sides."""
        return self.keys_of_side(0, link.left) + self.keys_of_side(1, link.right)

    def of_link(self, link: Link) -> Explanation:
        """A match with its rivals."""
        one = len(link.left) == len(link.right) == 1
        row, column = self.row[link.left[0]], self.column[link.right[0]]
        shared = self.shared(row, column, self.votes([row])) if one else ()
        said = tuple((text, 0.0) for text in link.evidence if not one or not is_shared(text))
        return Explanation(
            self.keys_of_side(0, link.left),
            self.keys_of_side(1, link.right),
            link.operations,
            link.certain,
            link.reason,
            shared + said,
            tuple(self.rivals(link)) if one else (),
            tuple(self.alternatives(link)),
        )

    def alternatives(self, link: Link) -> Iterator[str]:
        """The options of the questions that speak of it."""
        if not link.certain:
            for question in self.questions:
                if link in question.links:
                    yield from (f"{option.text}: --hint '{option.hint}'" for option in question.options)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """What is open."""
        return find_questions(self.alignment)

    def of_resized(self, link: Link) -> Explanation:
        """A pair whose sizes differ."""
        keys = self.keys_of_side(0, link.left), self.keys_of_side(1, link.right)
        return Explanation(*keys, reason="the names correspond, but a size differs and no operation reconciles it")

    def of_copy(self, link: Link) -> Explanation:
        """A second name of a tied weight."""
        keys = self.keys_of_side(0, link.left), keys_of(self.alignment.model, link.right)
        return Explanation(*keys, certain=True, reason="the second name of a tied weight: the model fills it by itself")

    def unmatched(self, side: int, p: Pattern) -> Explanation:
        """A pattern without a match, and what is most like it on the other side."""
        keys = self.keys_of_side(side, [p])
        at = (self.row, self.column)[side][p]
        counts = self.evidence.total[at] if side == 0 else self.evidence.total[:, at]
        order = np.argsort(-counts, kind="stable")[:UNMATCHED]
        rivals = tuple(self.candidate(side, at, int(n)) for n in order if counts[n] > MARGIN)
        other = ("model", "checkpoint")[side]
        reason = f"nothing in the {other} corresponds to it"
        checkpoint, model = (keys, ()) if side == 0 else ((), keys)
        return Explanation(checkpoint, model, reason=reason, rivals=rivals)

    def candidate(self, side: int, at: int, other: int) -> Rival:
        """What an unmatched pattern shares with one of the other side, and what keeps them apart."""
        i, j = (at, other) if side == 0 else (other, at)
        a, b = self.left.patterns[i], self.right.patterns[j]
        apart: Weighed = ()
        if set(a.shapes.values()) != set(b.shapes.values()):
            apart = ((f"shapes {sizes_text(a)} and {sizes_text(b)}", 0.0),)
        elif len(a) != len(b):
            apart = ((f"{len(a)} keys and {len(b)} keys", 0.0),)
        taken = next((link for link, k, n in self.pairs if (n, k)[side] == other), None)
        partner = () if taken is None else self.keys_of_side(side, taken.right if side else taken.left)
        keys = self.keys_of_side(1 - side, [(self.right, self.left)[side].patterns[other]])
        shared = self.shared(i, j, self.votes([i]))
        pair = (partner, keys) if side == 0 else (keys, partner)
        return Rival(*pair, 0.0, apart, shared)

    def shared(self, i: int, j: int, votes: Votes) -> Weighed:
        """What a pair of patterns shares that counts, most first."""
        if i < 0 or j < 0:
            return ()
        mine, theirs = ({t.text for t in s.tokens[n] if t.qualified} for s, n in ((self.left, i), (self.right, j)))
        found = [(token_text(text, self.alignment.hints), token_weight(text)) for text in mine & theirs]
        if self.left.companions[i] == self.right.companions[j]:
            found.append(("its module holds leaves of the same kinds", BESIDE))
        if same_path(_one(self.left, i), _one(self.right, j))[0, 0]:
            found.append(("the whole path is the same", SAME_PATH))
        if _parameter(self.left, i) == _parameter(self.right, j):
            found.append((f"the parameter's own name, {self.left.patterns[i].segments[-1]}", 1.0))
        rest = float(self.evidence.total[i, j]) - sum(value for _, value in found)
        found.append(("what certain matches say about it", rest))
        around = ANCESTORS * float(votes.support(np.array([i], np.int32), np.array([j], np.int32))[0, 0])
        found.append(("modules around it that correspond", around))
        kept = [(text, round(value, 2)) for text, value in found if value > SMALL]
        return tuple(sorted(kept, key=lambda item: (-item[1], item[0])))

    def rivals(self, link: Link) -> list[Rival]:
        """All exchanges with others of the class, the one that loses least first."""
        i, j = self.row[link.left[0]], self.column[link.right[0]]
        found = [self.exchange(i, j, k, n) for k, n in self.others(i, j)]
        return sorted(found, key=lambda rival: (rival.lost, rival.checkpoint, rival.model))

    def others(self, i: int, j: int) -> Iterator[tuple[int, int]]:
        """The other pairs of the class, and what is unmatched there with -1 for nothing."""
        for c in comparable(self.left.patterns, self.right.patterns):
            if i not in c.left or j not in c.right:
                continue
            partner = {k: n for _, k, n in self.pairs}
            inside, taken = set(map(int, c.right)), set(partner.values())
            yield from ((int(k), partner[int(k)]) for k in c.left if k != i and partner.get(int(k), -1) in inside)
            yield from ((int(k), -1) for k in c.left if int(k) not in partner)
            yield from ((-1, int(n)) for n in c.right if int(n) not in taken)

    def exchange(self, i: int, j: int, k: int, n: int) -> Rival:
        """Swap the partners of two pairs."""
        votes = self.votes([i, k])
        have = total((*self.shared(i, j, votes), *self.shared(k, n, votes)))
        other = total((*self.shared(i, n, votes), *self.shared(k, j, votes)))
        checkpoint = self.keys_of_side(0, [self.left.patterns[k]] if k >= 0 else [])
        model = self.keys_of_side(1, [self.right.patterns[n]] if n >= 0 else [])
        lost = round(sum(have.values()) - sum(other.values()), 2)
        return Rival(checkpoint, model, lost, more(have, other), more(other, have))


def _side(patterns: Sequence[Pattern], tree: KeyTree, hints: Sequence[tuple[str, ...]]) -> Side:
    """The side as the alignment had it; its patterns in the order of their first keys."""
    unique = dict.fromkeys(patterns)
    side = Side.of(sorted(unique, key=lambda p: min(p.cells.values())), tree.ordered, hints)
    return with_traced_roles(side, traced_roles(side, tree))


def _one(side: Side, at: int) -> Side:
    return Side([side.patterns[at]], [side.tokens[at]])


def _parameter(side: Side, at: int) -> tuple[str, ...]:
    return tuple(t.text for t in side.tokens[at] if t.depth == 0 and not t.ordinal)
