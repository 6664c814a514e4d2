"""A member of a list is one decision: where its number is doubted for some of its leaves, it is for all of them.

Norms of a block stand right below its number, and a projection of its attention a level deeper; whether block 0 may be
block 1 is no question of a leaf.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from treealign.align.doubting.transposition import block
from treealign.align.links import Link
from treealign.align.matching.agreement import NUMBERS
from treealign.align.verdict import Alternatives, alone

if TYPE_CHECKING:
    from treealign.align.state import State

Path = tuple[str, ...]


def judge_members(state: State) -> Alternatives:
    """Matches between two members of lists whose numbers differ, where other leaves of the two doubt it."""
    between: dict[tuple[Path, Path], list[Link]] = defaultdict(list)
    for link in state.known:
        between[block(link.left[0]), block(link.right[0])].append(link)
    return {
        link: alone(link, NUMBERS)
        for (here, there), some in between.items()
        if here and there and any(NUMBERS in (link.reason, *link.beneath) for link in some if not link.certain)
        for link in some
        if not link.placed
    }
