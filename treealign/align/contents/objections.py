"""What contents speak against: a leaf whose content another has, repeats that contents put in another order."""

from __future__ import annotations

from treealign.align.contents.anchors import Anchors, Places, modules_of, repeats_around
from treealign.align.links import Group
from treealign.align.state import State, Trees
from treealign.align.verdict import Alternatives, alone

ELSEWHERE = "contents differ, and another leaf has the same content"
MOVED = "contents put the repeats in another order"


def judge_contents(state: State) -> Alternatives:
    """Matches that contents speak against."""
    anchors = state.anchors
    if not any(anchors.places) and not any(anchors.elsewhere):
        return {}
    reasons = {
        link: next(filter(None, (_objection(group, anchors, state.given) for group in link.expand())), "")
        for link in state.links
        if link.certain
    }
    return {link: alone(link, reason) for link, reason in reasons.items() if reason}


def _objection(group: Group, anchors: Anchors, trees: Trees) -> str:
    for mine, theirs, known in (
        (group.left, group.right, anchors.elsewhere[0]),
        (group.right, group.left, anchors.elsewhere[1]),
    ):
        if any(at in known and not known[at] & set(theirs) for at in mine):
            return ELSEWHERE
    here, there = ([trees[n].keys[at] for at in ends] for n, ends in enumerate((group.left, group.right)))
    return MOVED if any(_is_moved(anchors.places, a, b) for a in here for b in there) else ""


def _is_moved(places: tuple[Places, Places], a: str, b: str) -> bool:
    """Whether the modules of two leaves, or the innermost repeats around them, lead elsewhere by content, both ways."""
    for mine, theirs in ((modules_of(a), modules_of(b)), (repeats_around(a), repeats_around(b))):
        here = next((p for p in mine if p in places[0]), None)
        there = next((p for p in theirs if p in places[1]), None)
        if here is None or there is None or places[0][here] & set(theirs) or places[1][there] & set(mine):
            continue
        return True
    return False
