"""A member of a stack that is left over: what bears its very name, in a layout that nothing makes, claims it.

Where the members of a list are torn, some converted and some not, no stack can be made of them. That a member fits
another place by its shape alone says little while the stack that is called as it is has none of its parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import Alternatives, alone

if TYPE_CHECKING:
    from treealign.align.state import State

CLAIMED = Reason("names", "a stack that is left over bears the name of what it would be a part of")
Path = tuple[str, ...]
Shape = tuple[int, ...]


def judge_left_stacks(state: State) -> Alternatives:
    """Matches of one leaf, of a numbered module, of which the stack by its own name is left over; linear in both."""
    used = {p for link in state.known for side in (link.left, link.right) for p in side}
    stacks = tuple(_stacks([p for p in patterns if p not in used]) for patterns in state.patterns)
    if not any(stacks):
        return {}
    return {link: alone(link, CLAIMED) for link in state.known if link.certain and _is_claimed(link, stacks)}


def _stacks(left: Sequence[Pattern]) -> dict[Path, set[Shape]]:
    """The shapes of one member of each leaf that may be a stack, by the name of what holds it, and its own."""
    found: dict[Path, set[Shape]] = defaultdict(set)
    for p in left:
        for shape in p.shapes.values():
            if shape is not None and len(shape) > 1:
                found[_name(p.segments)] |= {shape[1:], shape[1:][::-1]}
    return dict(found)


def _name(segments: Path) -> Path:
    """The last two names, numbers and the parameter's own left out."""
    named = [s for s in segments if s != "{}" and not s.isdecimal() and s not in ("weight", "bias")]
    return (*named[-2:], segments[-1] if segments[-1] == "bias" else "weight")


def _is_claimed(link: Link, stacks: Sequence[dict[Path, set[Shape]]]) -> bool:
    if (
        link.operations
        or len(link.left) + len(link.right) > 2
        or _name(link.left[0].segments) == _name(link.right[0].segments)
    ):
        return False
    return any(shape in stacks[1 - side].get(name, ()) for side, name, shape in _members(link))


def _members(link: Link) -> Iterator[tuple[int, Path, Shape | None]]:
    for side, (p,) in enumerate((link.left, link.right)):
        if any(s == "{}" or s.isdecimal() for s in p.segments):
            yield from ((side, _name(p.segments), shape) for shape in set(p.shapes.values()))
