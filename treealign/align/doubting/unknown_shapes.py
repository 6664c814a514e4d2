"""Without shapes only one and the same path is certain."""

from __future__ import annotations

from treealign.align.state import State
from treealign.align.verdict import Alternatives, alone

UNKNOWN = "the shapes are unknown"


def judge_without_shapes(state: State) -> Alternatives:
    """Matches of which nothing but names is known, where these differ."""
    return {link: alone(link, UNKNOWN) for link in state.links if link.left[0].template != link.right[0].template}
