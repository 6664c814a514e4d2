"""One tensor to one tensor of another layout: what conversions leave over, transposed or with dimensions merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from treealign.align import verdict
from treealign.align.converting.rivals import RIVALS, has_rival
from treealign.align.converting.shape_algebra import Sizes, axis_orders, headed, rearranged, squeezed
from treealign.align.knowledge.weights import MARGIN, MIN_SCORE
from treealign.align.links import Group, Link
from treealign.align.matching.agreement import ELSEWHERE, Agreement
from treealign.align.matching.certainty import RIVALLED
from treealign.align.matching.orientation import inputs_first, stored_alike
from treealign.align.matching.scoring import Floats, Side
from treealign.align.patterns import Indices, Pattern, Shape, as_numbers
from treealign.align.reasons import Reason
from treealign.mapping.operations import Operation, Permute, Reshape

IN_HEADS = Reason("rows", "taken apart into heads and turned: shapes do not show which rows make a head")
TURNS = Reason("axes", "equal sizes leave several orders of the dimensions")


def rearrangements(
    left: Side,
    right: Side,
    free: tuple[Sequence[int], Sequence[int]],
    taken: tuple[set[int], set[int]],
    scores: Floats,
    total: Floats,
    agreement: Agreement,
) -> list[Link]:
    """One tensor to one tensor of another layout: transposed, or dimensions merged or split."""
    options = {}
    ways = inputs_first(left.patterns), inputs_first(right.patterns)
    for i in free[0]:
        for j in free[1]:
            if i not in taken[0] and j not in taken[1] and scores[i, j] >= MIN_SCORE and not stored_alike(ways, i, j):
                operations = layout_changes(left.patterns[i], right.patterns[j])
                if operations:
                    options[i, j] = operations
    links = []
    objections = {pair: agreement.objection(*pair) for pair in options}

    def rank(pair: tuple[int, int]) -> tuple[bool, bool, float, tuple[int, int]]:
        elsewhere = objections[pair] == ELSEWHERE  # its place is known, and it is not there
        return not agreement.of_one_module(*pair), elsewhere, -float(scores[pair]), pair

    for i, j in sorted(options, key=rank):
        if i in taken[0] or j in taken[1]:
            continue
        taken[0].add(i)
        taken[1].add(j)
        rivals = [pair for pair in options if pair != (i, j) and (pair[0] == i or pair[1] == j)]
        own = agreement.of_one_module(i, j)
        near = [pair for pair in rivals if agreement.of_one_module(*pair)] if own else rivals
        doubted = [pair for pair in near if total[pair] >= total[i, j] - MARGIN]
        made = _rearranged(left, right, (i, j), options[i, j], doubted)
        objection = objections[i, j] or ("" if own or agreement.same_role(i, j) else RIVALLED)
        objection = objection or ("" if own or not has_rival(right, left, j, [i]) else RIVALS)
        several = _permuted(options[i, j]) and len(_orders(left.patterns[i], right.patterns[j])) > 1
        several = several or _hides_turn(left.patterns[i], right.patterns[j])
        heads = any(len(operations) > 1 and not squeezes(operations) for operations in options[i, j])
        hidden = [*([TURNS] if several else []), *([IN_HEADS] if heads else [])]
        links += [_doubted(link, objection, hidden) for link in made]
    return links


def _doubted(link: Link, objection: str, hidden: Sequence[Reason]) -> Link:
    """The link with all that is open about it: names do not tell which dimension is which."""
    first = objection or link.reason
    if not first and not hidden:
        return link
    return verdict.doubted(link, first or hidden[0], beneath=hidden if first else hidden[1:])


def _permuted(options: Mapping[tuple[Operation, ...], Sequence[Indices]]) -> bool:
    return any(len(operations) == 1 and isinstance(operations[0], Permute) for operations in options)


def _hides_turn(a: Pattern, b: Pattern) -> bool:
    """Whether a square kernel of one point, with its channels last on either side, is a matrix that may be turned."""
    for x, y in {(a.shapes[k], b.shapes[k]) for k in a.cells}:
        long, short = sorted((x or (), y or ()), key=len)[::-1]
        if len(short) == 2 < len(long) and short[0] == short[1] > 1 and long[0] == 1:
            return True
    return False


def _rearranged(
    left: Side,
    right: Side,
    pair: tuple[int, int],
    operations: Mapping[tuple[Operation, ...], Sequence[Indices]],
    doubted: Sequence[tuple[int, int]],
) -> list[Link]:
    """One link for each operation: repeats of different sizes are told apart."""
    a, b = left.patterns[pair[0]], right.patterns[pair[1]]
    rivals = (
        tuple(left.patterns[i] for i in sorted({pair[0]} | {i for i, _ in doubted})),
        tuple(right.patterns[j] for j in sorted({pair[1]} | {j for _, j in doubted})),
    )
    links = []
    for made, cells in operations.items():
        groups = tuple(Group((a.cells[k],), (b.cells[k],)) for k in cells)
        evidence = (f"shapes: {', '.join(map(str, made))}",)
        link = Link((a,), (b,), made, groups, evidence=evidence, rivals=rivals)
        links.append(verdict.doubted(link, RIVALLED) if doubted else link)
    return links


def _orders(a: Pattern, b: Pattern) -> tuple[Sizes, ...]:
    """The orders of dimensions that fit all cells."""
    pairs = {(a.shapes[k], b.shapes[k]) for k in a.cells}
    known = frozenset((x, y) for x, y in pairs if x is not None and y is not None)
    return axis_orders(known) if len(known) == len(pairs) else ()


def _in_two(before: Shape, after: Shape) -> tuple[Operation, ...] | None:
    return squeezed(before, after) or headed(before, after)


def squeezes(operations: tuple[Operation, ...]) -> bool:
    """Whether a reshape of several only leaves out dimensions of one element, or adds such."""
    return all(
        [n for n in o.before if n != 1] == [n for n in o.after if n != 1] for o in operations if isinstance(o, Reshape)
    )


def layout_changes(a: Pattern, b: Pattern) -> dict[tuple[Operation, ...], list[Indices]]:
    """The cells by the operations that turn one shape into the other; nothing unless these are of one kind for all."""
    if a.cells.keys() != b.cells.keys() or a.nature != b.nature:
        return {}
    if orders := _orders(a, b):
        return (
            {}
            if orders[0] == tuple(range(len(orders[0])))
            else {(Permute(orders[0]),): sorted(a.cells, key=as_numbers)}
        )
    found: dict[tuple[Operation, ...], list[Indices]] = defaultdict(list)
    for k in sorted(a.cells, key=as_numbers):
        operation = rearranged(a.shapes[k], b.shapes[k])
        operations = (operation,) if operation else _in_two(a.shapes[k], b.shapes[k])
        if operations is None:
            return {}
        found[operations].append(k)
    return found if len(found) == 1 or all(isinstance(o, Reshape) for o, *_ in found) else {}
