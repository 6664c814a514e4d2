"""Whether another leaf could take the place of a whole, or of one of its parts, for all that names say.

Of the stacked projections of an expert the shapes tell the last one from the first two, and not those two from each
other; and where a library keeps inputs first, not even that.
"""

from __future__ import annotations

from collections.abc import Sequence

from treealign.align.converting.part_order import own_name, own_roles
from treealign.align.knowledge.entries import parts_of
from treealign.align.knowledge.weights import SURE
from treealign.align.matching.scoring import Side
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import split_words, vocabulary

RIVALS = Reason("names", "others beside them have the same sizes, and the names do not say which is which")


def has_rival(wholes: Side, parts: Side, whole: int, members: Sequence[int]) -> bool:
    """Whether a leaf beside the whole has its shape, or one beside the parts theirs, and names do not tell them apart.

    Names tell where every part is called as the whole is, or has one role, which is the whole's or one of those of
    which the whole is made. Against a leaf of the transposed shape it is enough that a role may be the same.
    """
    one, some = wholes.patterns[whole], [parts.patterns[p] for p in members]
    beside = [_beside(one, wholes, {whole}), *(_beside(p, parts, {*members}) for p in some)]
    if any(_shape(q) == _shape(p) for p, near in zip((one, *some), beside, strict=True) for q in near):
        return not all(naming(p, one) >= SURE for p in some)
    return any(beside) and not all(naming(p, one) for p in some)


def naming(part: Pattern, whole: Pattern) -> int:
    """How well their own names say that one is of the other: 3 one name, 2 one role, 1 a role that may be, 0 nothing.

    A role of a whole is each of those of which it is made; of one of a known library these are known.
    """
    if split_words(own_name(part)) == split_words(own_name(whole)):
        return 3
    known, compositions = vocabulary().part_roles, vocabulary().compositions
    mine, theirs = own_roles(part), own_roles(whole)
    if len(mine & known) == 1 and mine & known <= parts_of(whole.segments, whole.library):
        return SURE
    wanted = theirs | {p for role in theirs for p in compositions.get(role, ())}
    if not mine & known & wanted:
        return 0
    return SURE if len(mine & known) == 1 and len(theirs & known) <= 1 else 1


def _beside(p: Pattern, side: Side, without: set[int]) -> list[Pattern]:
    """The leaves of the same module, or of modules beside it, that have its sizes in any order."""
    sizes = sorted(_shape(p))
    below = side.below.get(p.holder, range(len(side.patterns)))  # the root is no node there
    near = (side.patterns[n] for n in below if n not in without)
    return [q for q in near if q.holder == p.holder and sorted(_shape(q)) == sizes]


def _shape(p: Pattern) -> tuple[int, ...]:
    return next(iter(p.shapes.values())) or ()
