"""Gate and up in one tensor: known by its name, or by its shape beside the projection that takes half of its rows.

A fused gate and up has twice as many outputs as the next projection has inputs. Which half is the gate, or whether the
rows take turns, is a habit of the library, which neither shapes nor plain names show (`w1`, `net.0.proj`, `fc1`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from treealign.align.doubting.layouts import is_table
from treealign.align.doubting.rotary import attention_name, roles
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.mapping.operations import Permute, Stack, Unstack

FUSED = Reason(
    "rows",
    "gate and up are fused and called otherwise on one side: shapes cannot show which half comes first, or whether the "
    "rows take turns",
)
OTHERS = frozenset({"q", "k", "v", "qkv", "kv", "qk"})  # what is fused in an attention
POINTWISE = 3  # dimensions of the kernel of a convolution over a sequence
FAR = 3  # levels up to the module that holds both projections
Path = tuple[str, ...]
Shape = tuple[int, ...]


class Gates(NamedTuple):
    """The matrices of a model, for what their shapes tell of each other.

    Attributes
    ----------
    inside : dict
        For each module how many matrices of each shape are below it.
    weights : dict
        For each module the shape of the one matrix that is its own.
    """

    inside: dict[Path, Counter[Shape]]
    weights: dict[Path, Shape]

    @classmethod
    def of(cls, model: Sequence[Pattern]) -> Gates:
        """Read the shapes of all patterns; linear in their number times their depth."""
        inside: dict[Path, Counter[Shape]] = defaultdict(Counter)
        weights: dict[Path, Shape] = {}
        for p in model:
            if len(shape := _shape(p)) > 1:
                weights[p.segments[:-1]] = shape
                for depth in range(1, len(p.segments)):
                    inside[p.segments[:depth]][shape] += 1
        return cls(inside, weights)

    def may_hide(self, link: Link) -> bool:
        """Whether a match of fused tensors that are called otherwise may hide another order of gate and up.

        Tensors of one expert each that are stacked, or unstacked, are no other for that, and none is that is turned.
        """
        if len(link.left) != 1 or len(link.right) != 1:
            return False
        if any(not isinstance(o, Stack | Unstack | Permute) for o in link.operations):
            return False
        if attention_name(link.left[0])[-1:] == attention_name(link.right[0])[-1:]:
            return False
        named = roles(link.left[0]) | roles(link.right[0])
        if "gate up" in named:
            return True
        return not named & OTHERS and not is_table(link.right[0]) and self._is_gated(link.right[0])

    def _is_gated(self, p: Pattern) -> bool:
        """Whether a sibling takes half as many inputs as it has outputs, and gives as many as it takes.

        Where a sibling takes all of them, that is the projection which follows, and what takes half is another's: a
        block that holds gate, up and down of twice its width beside the square matrices of an attention.
        """
        own = _shape(p)
        shape = own if len(own) > 1 else self.weights.get(p.segments[:-1], ())
        if len(shape) < 2 or not all(shape) or shape[-2] % 2 or (len(own) < 2 and shape[-2:-1] != own[-1:]):
            return False
        *many, rows, columns = shape
        for depth in range(len(p.segments) - 2, max(len(p.segments) - 2 - FAR, 0), -1):
            near = self.inside.get(p.segments[:depth])
            if near is not None and near.total() > 1:  # the nearest module that holds another matrix
                return not near[*many, columns, rows] and near[*many, columns, rows // 2] > 0
        return False


def _shape(p: Pattern) -> Shape:
    """The shape, that of a linear for a convolution over one point of a sequence."""
    shape = next(iter(p.shapes.values())) or ()
    return shape[:-1] if len(shape) == POINTWISE and shape[-1] == 1 else shape
