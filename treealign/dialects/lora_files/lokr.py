"""Kronecker products of LyCORIS (LoKr) as PEFT's: which rank, and which way to factorise, gives parts of these shapes.

Both libraries make the parts from the sizes of a module: factors of its outputs and inputs, each part as a matrix or as
a product of two of the rank's width. PEFT has one factor and one choice for all modules of an adapter. A product of two
whole matrices is not scaled, whatever its alpha.

Sources: LyCORIS `lycoris/modules/lokr.py`, `functional/general.py` (``factorization``); peft `tuners/lokr/layer.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt, prod
from typing import Any, NamedTuple

PARTS = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
Shape = tuple[int, ...]


class Product(NamedTuple):
    """One module: sizes of the first factor and of the second, which of them are products, rank, and the kernel.

    `rank` is None where both are whole: then nothing depends on it.
    """

    first: Shape
    second: Shape
    parted: tuple[bool, bool]
    rank: int | None
    tucker: bool


def product_of(parts: Mapping[str, Any], base: Shape) -> Product | str:
    """What the parts of a module are, or why they are none of PEFT's."""
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    parted = "lokr_w1_a" in shapes, "lokr_w2_a" in shapes
    needed = [f"lokr_w{at}{end}" for at, one in enumerate(parted, 1) for end in (("_a", "_b") if one else ("",))]
    if any(name not in shapes for name in needed):
        return f"it lacks {', '.join(name for name in needed if name not in shapes)}"
    tucker = "lokr_t2" in shapes
    first = (shapes["lokr_w1_a"][0], shapes["lokr_w1_b"][1]) if parted[0] else shapes["lokr_w1"]
    second = base[0] // max(1, first[0]), base[1] // max(1, first[1])
    if (first[0] * second[0], first[1] * second[1]) != tuple(base[:2]):
        return f"a first factor of {first} does not divide {base[:2]}"
    ranks = {shapes[name][0] for name in ("lokr_w1_b", "lokr_w2_b") if name in shapes}
    if len(ranks) > 1:
        return f"its factors have ranks {sorted(ranks)}, PEFT's have one"
    held = prod(shapes["lokr_w2"]) if not parted[1] else shapes["lokr_w2_a"][tucker] * prod(shapes["lokr_w2_b"][1:])
    if held != prod(second) * (1 if tucker else prod(base[2:])):
        return f"a second factor that does not fit {second} and a kernel of {base[2:]}"
    return Product(first, second, parted, next(iter(ranks), None), tucker)


Settings = tuple[dict[str, int], dict[str, Any]]


def settings_of(products: Mapping[str, Product], bases: Mapping[str, Shape]) -> Settings | str:
    """The rank of each module and PEFT's settings for all of them, or why there are none."""
    both = any(one.parted[0] for one in products.values())
    ranks = {name: _rank(one) for name, one in products.items()}
    wrong = [name for name, one in products.items() if _parted(one, ranks[name], both) != one.parted]
    if wrong:
        return f"{wrong[0]}: PEFT parts its factors otherwise at rank {ranks[wrong[0]]}"
    factor = next((one for one in _candidates(products) if _fits(products, bases, one)), None)
    if factor is None:
        return "no factor gives the sizes of all modules, and PEFT has one for all"
    tucker = any(one.tucker for one in products.values())
    return ranks, {"decompose_both": both, "decompose_factor": factor, "use_effective_conv2d": tucker}


def _rank(one: Product) -> int:
    """The rank; of two whole factors, one at which PEFT leaves both whole."""
    return -(-max(*one.first, *one.second) // 2) if one.rank is None else one.rank


def _parted(one: Product, rank: int, both: bool) -> tuple[bool, bool]:
    return both and rank < max(one.first) / 2, rank < max(one.second) / 2


def _candidates(products: Mapping[str, Product]) -> Iterator[int]:
    yield -1
    yield from range(1, max((max(one.first) for one in products.values()), default=0) + 1)


def _fits(products: Mapping[str, Product], bases: Mapping[str, Shape], factor: int) -> bool:
    return all(
        (factorised(bases[name][0], factor)[0], factorised(bases[name][1], factor)[0]) == one.first
        for name, one in products.items()
    )


def factorised(size: int, factor: int) -> tuple[int, int]:
    """A size as a product of two, the first as near to a factor as can be; near its root where that is -1.

    >>> factorised(256, -1), factorised(128, -1), factorised(127, -1), factorised(128, 4)
    ((16, 16), (8, 16), (1, 127), (4, 32))
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    most = isqrt(size) if factor < 0 else min(factor, isqrt(size))
    first = next(one for one in range(max(1, most), 0, -1) if size % one == 0)
    return first, size // first
