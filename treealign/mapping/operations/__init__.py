"""What a `Convert` does to tensors, as values of plain ints: no tensor and no model config at hand.

A sequence of operations works left to right on one flat list of tensors. Each consumes consecutive runs of as many
tensors as it takes and puts what it gives in their place. A `Convert` lists its tensors pattern by pattern and, within
a pattern, by the captures that only its side has, in the order in which they stand in the pattern, the last one
fastest: gate 0 … gate 15, up 0 … up 15. So

    Stack(0, 16), Concat(1, (n, n))

stacks the gates, stacks the ups (two runs of 16), and joins the two stacks along dimension 1. Two captures on one side
only, ``{i}`` and ``{j}``, stack the faster one first: ``Stack(0, count_j), Stack(0, count_i)`` gives (i, j, …) and
``Stack(0, count_j), Stack(1, count_i)`` gives (j, i, …).

Where repeats differ in size, a size is a `SizeTable` keyed by the captures; `resolve` puts plain ints in its place.

>>> from treealign.mapping import operations
>>> experts = (operations.Stack(0, 16), operations.Concat(1, (8, 8)))
>>> operations.output_shapes(experts, [(8, 4)] * 32)
((16, 16, 4),)
>>> operations.invert(experts)
(Split(1, (8, 8)), Unstack(0, 16))
"""

from treealign.mapping.operations.base import Operation, Shape, from_json
from treealign.mapping.operations.blocks import BlockDiagonal, DiagonalBlocks, Once, Repeat, filled_blocks
from treealign.mapping.operations.grouping import Concat, Join, Select, Split, Stack, Unstack, offsets
from treealign.mapping.operations.layout import Deinterleave, Interleave, Permute, Reshape
from treealign.mapping.operations.lists import Keep, Parallel, Reorder
from treealign.mapping.operations.lossy import (
    FoldWeightNorm,
    MinusOne,
    NegativeExp,
    NegativeLog,
    Pad,
    PlusOne,
    Trim,
    UnfoldWeightNorm,
)
from treealign.mapping.operations.rotary import RotaryPermute, RotaryUnpermute, head_layout
from treealign.mapping.operations.sequence import (
    invert,
    is_lossy,
    output_count,
    output_shapes,
    resolve,
    sequence_from_json,
    sequence_to_json,
)
from treealign.mapping.operations.sizes import Captures, Size, SizeTable

__all__ = [
    "BlockDiagonal",
    "Captures",
    "Concat",
    "Deinterleave",
    "DiagonalBlocks",
    "FoldWeightNorm",
    "Interleave",
    "Join",
    "Keep",
    "MinusOne",
    "NegativeExp",
    "NegativeLog",
    "Once",
    "Operation",
    "Pad",
    "Parallel",
    "Permute",
    "PlusOne",
    "Reorder",
    "Repeat",
    "Reshape",
    "RotaryPermute",
    "RotaryUnpermute",
    "Select",
    "Shape",
    "Size",
    "SizeTable",
    "Split",
    "Stack",
    "Trim",
    "UnfoldWeightNorm",
    "Unstack",
    "filled_blocks",
    "from_json",
    "head_layout",
    "invert",
    "is_lossy",
    "offsets",
    "output_count",
    "output_shapes",
    "resolve",
    "sequence_from_json",
    "sequence_to_json",
]
