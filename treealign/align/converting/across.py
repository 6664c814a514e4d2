"""Parts of one whole that stand at two levels: an attention's q, k and v, and what runs beside the attention.

A block whose attention and MLP read the same input may compute both by one matrix (the parallel layers of GPT-J and
PaLM: Chowdhery et al. 2022, section 2; the single blocks of FLUX and HunyuanVideo; ViT-22B). A library that keeps them
apart has q, k and v in the attention and the MLP's first layer beside it, so no one parent holds them all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from treealign.align.converting.claims import roles_of
from treealign.align.converting.part_order import ATTENTION
from treealign.align.matching.scoring import Side

BESIDE = 2  # gate and up
MOST = 6  # leaves beside an attention


def across(side: Side, free: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The q, k and v of one attention, with one or two leaves of the same name in modules beside that attention.

    Parameters
    ----------
    side : Side
        Where the parts stand.
    free : sequence of int
        The unmatched patterns of it.

    """
    below: dict[tuple[tuple[str, ...], str], list[int]] = defaultdict(list)
    for at in free:
        segments = ("", *side.patterns[at].segments)
        below[segments[:-2], segments[-1]].append(at)
    for (holder, name), members in below.items():
        attention = [at for at in members if roles_of(side, at) & ATTENTION]
        beside = below.get((holder[:-1], name), [])[:MOST] if len(holder) > 1 else []
        found = [roles_of(side, at) & ATTENTION for at in attention]
        if len(found) == len(ATTENTION) and frozenset().union(*found) == ATTENTION and all(len(r) == 1 for r in found):
            for count in range(1, BESIDE + 1):
                yield from ((*attention, *more) for more in combinations(beside, count))
