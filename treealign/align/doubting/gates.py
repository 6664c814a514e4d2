"""Gate and up in one tensor: known by its name, or by its shape beside the projection that takes half of its rows.

A fused gate and up has twice as many outputs as the next projection has inputs. Which half is the gate, or whether the
rows take turns, is a habit of the library, which neither shapes nor plain names show (`w1`, `net.0.proj`, `fc1`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from treealign.align.doubting.rotary import attention_name, roles
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason

FUSED = Reason(
    "rows",
    "gate and up are fused and called otherwise on one side: shapes cannot show which half comes first, or whether the "
    "rows take turns",
)
OTHERS = frozenset({"q", "k", "v", "qkv", "kv", "qk"})  # what is fused in an attention
FAR = 3  # levels up to the module that holds both projections
Path = tuple[str, ...]
Shape = tuple[int, ...]


def hides_gate(link: Link, model: Sequence[Pattern]) -> bool:
    """Whether a plain match of two fused tensors that are called otherwise may hide another order of gate and up.

    Parameters
    ----------
    link : Link
        The match.
    model : sequence of Pattern
        All patterns of the model.

    """
    if link.operations or len(link.left) != 1 or len(link.right) != 1:
        return False
    if attention_name(link.left[0])[-1:] == attention_name(link.right[0])[-1:]:
        return False
    named = roles(link.left[0]) | roles(link.right[0])
    return "gate up" in named or (not named & OTHERS and _is_gated(link.right[0], model))


def _is_gated(p: Pattern, model: Sequence[Pattern]) -> bool:
    """Whether a sibling takes half as many inputs as it has outputs, and gives as many as it takes."""
    weight = p if len(_shape(p)) > 1 else _weight_beside(p, model)
    if weight is None or (weight is not p and _shape(weight)[-2:-1] != _shape(p)[-1:]):
        return False
    shape = _shape(weight)
    if not all(shape) or shape[-2] % 2:
        return False
    *many, rows, columns = shape
    fitting = (*many, columns, rows // 2)
    return any(_shape(q) == fitting for q in _near(weight, model)) and rows != 2 * columns


def _near(p: Pattern, model: Sequence[Pattern]) -> Iterator[Pattern]:
    """The other leaves of the nearest module that holds another matrix."""
    for up in range(1, FAR + 1):
        above = p.segments[: -1 - up]
        found = [q for q in model if q is not p and q.segments[: len(above)] == above and len(_shape(q)) > 1]
        if found and above:
            yield from found
            return


def _weight_beside(p: Pattern, model: Sequence[Pattern]) -> Pattern | None:
    return next((q for q in model if q is not p and q.segments[:-1] == p.segments[:-1] and len(_shape(q)) > 1), None)


def _shape(p: Pattern) -> Shape:
    return next(iter(p.shapes.values())) or ()
