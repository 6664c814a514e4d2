"""Leaves of another tower: of a part of the checkpoint of which nothing else is used."""

from __future__ import annotations

from collections import Counter, defaultdict

from treealign.align.links import Link
from treealign.align.patterns import Digest, Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives

OTHER_TOWER = Reason(
    "names", "all else comes from another part of the checkpoint, which has a leaf of the same sizes left"
)
ENOUGH = 3  # times as many leaves of the one part as of the other


def judge_other_tower(state: State) -> Alternatives:
    """Matches that come from a part of the checkpoint of which nothing else is used.

    Where the model is fed from one part of the checkpoint, a leaf of another part is not certain while the first part
    has one of the same sizes left: the last norm of the text tower, where only the vision tower is wanted.
    """
    used: Counter[str] = Counter()
    links = state.links
    for link in links:
        used[link.left[0].segments[0]] += len(link.left[0])
    home, count = used.most_common(1)[0] if used else ("", 0)
    mine = [link for link in links if link.left[0].segments[0] == home]
    fed = {link.right[0].segments[0] for link in mine}
    has_root = len(fed) == 1 and all(map(_is_as_deep, mine))  # the model has a level for this part
    spare: dict[Digest, list[Pattern]] = defaultdict(list)
    taken = {p for link in links if link.certain for p in link.left}
    for p in state.patterns[0]:
        if p not in taken and p.segments[0] == home:
            spare[p.signature].append(p)
    found: dict[Link, Alternative] = {}
    for link in links:
        p, q = link.left[0], link.right[0]
        # beside the one part on both sides: a head beside the body, or a part of one name
        beside = q.segments[0] not in fed and (has_root or p.segments[0] == q.segments[0])
        alike = p.template == q.template or beside
        strange = p.segments[0] != home and count >= ENOUGH * used[p.segments[0]] and not alike
        if strange and link.certain and not link.operations and spare[p.signature]:
            found[link] = Alternative(OTHER_TOWER, ((p, *spare[p.signature]), link.right))
    return found


def _is_as_deep(link: Link) -> bool:
    return len(link.left[0].segments) <= len(link.right[0].segments)
