"""Choices about changes that shapes cannot show: the order of parts, rows that take turns, rotary row order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

from treealign.align.asking.alternatives import Choice, HeadLayout, Layouts, Option, with_turns, without_indices
from treealign.align.doubting.conventions import HEADS, ROTARY, rotated_parts, without_guess
from treealign.align.doubting.gates import FUSED
from treealign.align.links import Group, Link
from treealign.align.patterns import Pattern
from treealign.mapping.operations import (
    Concat,
    Interleave,
    Operation,
    Reorder,
    RotaryPermute,
    RotaryUnpermute,
    Split,
    Stack,
    invert,
)
from treealign.mapping.operations.base import as_ints

PLAIN = {"weight", "bias"}
Order = tuple[int, ...]
KeyOf = Callable[[Link], str]  # a key of the model that a link fills


def part_choices(links: Sequence[Link], layout_of: Layouts, key_of: KeyOf) -> list[Choice]:
    """In which order the parts of a whole stand in it, and whether their rows take turns.

    Weight and bias of one module go together, and all layers.
    """
    groups: dict[Any, list[Link]] = defaultdict(list)
    for link in links:
        if not link.certain and _is_join(joining := _joining(link)):
            names = tuple(_module(p) for p in joining.left)
            groups[names, _module(joining.right[0]), len(link.left) > 1].append(link)
    found = []
    for members in groups.values():
        options = _guess_first(members, list(_part_options(members, layout_of, key_of)))
        if len(options) > 1:
            found.append(Choice(tuple(members), options))
    return found


def _guess_first(members: Sequence[Link], options: list[Option]) -> tuple[Option, ...]:
    """The options, the one that does what the links do now in front; what is known of the model outdoes a guess."""
    here = [link.operations for link in members]

    def is_guess(option: Option) -> bool:
        bases = option.links or [without_guess(link) for link in members]
        made = [with_turns(base, option.turned) for base in bases]
        return [link.operations for link in made] == here and all(
            list(map(id, a.left + a.right)) == list(map(id, b.left + b.right))
            for a, b in zip(made, members, strict=True)
        )

    return tuple(sorted(options, key=lambda option: not is_guess(option)))


def _joining(link: Link) -> Link:
    """The link as one that joins parts; a split is turned around."""
    if len(link.left) > 1 or len(link.right) == 1:
        return link
    groups = tuple(Group(g.right, g.left) for g in link.groups)
    return replace(link, left=link.right, right=link.left, operations=invert(link.operations), groups=groups)


def _is_join(link: Link) -> bool:
    """Parts that become one tensor by one concat, behind nothing but operations that treat all parts alike."""
    joins = [o for o in link.operations if isinstance(o, Concat)]
    return len(link.left) > 1 and len(link.right) == 1 and len(joins) == 1 and len(joins[0].sizes) == len(link.left)


def _module(p: Pattern) -> tuple[str, ...]:
    return without_indices(p.segments[:-1] if p.segments[-1] in PLAIN else p.segments)


def _part_options(members: Sequence[Link], layout_of: Layouts, key_of: KeyOf) -> Iterator[Option]:
    parts = _joining(members[0]).left
    names = [_module(p)[-1] for p in parts]
    orders = sorted(permutations(range(len(parts))), key=lambda order: (_moved(order), order))
    for order in orders:
        text = ", ".join(names[n] for n in order)
        yield Option(f"{text}, one after the other", _arranged(members, order, None))
        for text_of_turns, blocks in _turns(members, order, layout_of, key_of):
            links = _arranged(members, order, blocks)
            if links:
                yield Option(f"{text}, {text_of_turns}", links)


def _moved(order: Order) -> int:
    return sum(at != n for at, n in enumerate(order))


def _arranged(members: Sequence[Link], order: Order, blocks: Order | None) -> tuple[Link, ...]:
    """All links with their parts in another order, and their rows by turns where blocks are given."""
    made = []
    for link in members:
        joining = _joining(link)
        at = next(n for n, o in enumerate(joining.operations) if isinstance(o, Concat))
        concat = joining.operations[at]
        sizes = tuple(concat.sizes[n] for n in order)
        turns = _turns_of(joining.operations[at + 1 :], concat, sizes, blocks)
        operations = (*joining.operations[:at], Concat(concat.dim, sizes), *turns)
        groups = tuple(Group(_in_order(g.left, order), g.right) for g in joining.groups)
        left = tuple(joining.left[n] for n in order)
        made.append(_as_before(link, replace(joining, left=left, operations=operations, groups=groups)))
    return tuple(made)


def _turns_of(rest: Sequence[Operation], concat: Concat, sizes: Sequence[Any], blocks: Order | None) -> tuple[Any, ...]:
    """What follows the concat: turns as asked for, then whatever stood there besides turns."""
    kept = tuple(o for o in rest if not isinstance(o, Interleave))
    return kept if blocks is None else (Interleave(concat.dim, blocks), *kept)


def _in_order(positions: tuple[int, ...], order: Order) -> tuple[int, ...]:
    run = len(positions) // len(order)
    return tuple(at for n in order for at in positions[n * run : (n + 1) * run])


def _as_before(link: Link, joining: Link) -> Link:
    if len(link.left) > 1:
        return joining
    groups = tuple(Group(g.right, g.left) for g in joining.groups)
    return replace(
        joining, left=joining.right, right=joining.left, operations=invert(joining.operations), groups=groups
    )


def _turns(
    members: Sequence[Link], order: Order, layout_of: Layouts, key_of: KeyOf
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """In which blocks rows may take turns: one by one where all parts are alike; by heads where these are known."""
    concats = [o for link in members for o in _joining(link).operations if isinstance(o, Concat)]
    sizes = {tuple(concat.sizes[n] for n in order) for concat in concats}
    rows = as_ints(next(iter(sizes)))
    if len(sizes) != 1:
        return
    if len(rows) == 2 and rows[0] == rows[1]:
        yield "row by row in turns", (1, 1)
    for layout in layout_of(key_of(members[0])) if len(rows) == 3 else ():
        blocks = _head_blocks(rows, layout.head_dim)
        if blocks:
            yield f"head by head of {layout.head_dim} rows", blocks


def _head_blocks(rows: Sequence[int], head_dim: int) -> tuple[int, ...] | None:
    """The rows of each part in one turn: as many heads as there are to each of the part that has fewest."""
    if any(size % head_dim for size in rows):
        return None
    turns = min(rows) // head_dim
    return None if any(size % turns for size in rows) else tuple(size // turns for size in rows)


def fused_choices(links: Sequence[Link], reasons: Mapping[int, str]) -> list[Choice]:
    """How gate and up stand in a tensor that holds both on either side: alike, by turns on one side, or swapped."""
    found = []
    groups: dict[Any, list[Link]] = defaultdict(list)
    for link in links:
        if reasons.get(id(link)) == FUSED:
            groups[_module(link.left[0]), _module(link.right[0])].append(link)
    for members in groups.values():
        name = _module(members[0].right[0])[-1]
        options = [Option(f"{name} as stored")]
        for dim in range(max(len(_shape(link)) for link in members)):
            options += _fused_options(members, dim, name)
        found.append(Choice(tuple(members), _guess_first(members, options)))
    return found


def head_choices(links: Sequence[Link], reasons: Mapping[int, str]) -> list[Choice]:
    """A fused qkv on both sides: its heads and their rows may stand in more ways than can be listed here."""
    found = []
    for link in links:
        if reasons.get(id(link)) == HEADS:
            name = _module(link.right[0])[-1]
            turned = {id(link.right[0]): link.operations} if link.operations else {}
            options = (Option(f"{name} as guessed", turned=turned), Option(f"{name} as stored"))
            found.append(Choice((link,), options, complete=False))
    return found


def _fused_options(members: Sequence[Link], dim: int, name: str) -> Iterator[Option]:
    last = {id(link): max(len(_shape(link)) - 1, 0) for link in members}
    dims = {id(link): min(dim, last[id(link)]) for link in members}
    sizes = [_shape(link)[dims[id(link)]] for link in members]
    if any(size % 2 for size in sizes):
        return
    halves = [(size // 2, size // 2) for size in sizes]
    ways: dict[str, list[tuple[Operation, ...]]] = {
        "rows by turns in the model": [(Interleave(dims[id(link)], (1, 1)),) for link in members],
        "rows by turns in the checkpoint": [(Interleave(dims[id(link)], (1, 1)).inverse,) for link in members],
        "halves swapped": [
            (Split(dims[id(link)], half), Reorder((1, 0)), Concat(dims[id(link)], half))
            for link, half in zip(members, halves, strict=True)
        ],
    }
    for text, operations in ways.items():
        turned = {id(link.right[0]): way for link, way in zip(members, operations, strict=True)}
        yield Option(f"{name}, dimension {dim}: {text}", turned=turned)


def _shape(link: Link) -> tuple[int, ...]:
    return next(iter(link.right[0].shapes.values())) or ()


def rotary_choices(
    links: Sequence[Link], reasons: Mapping[int, str], layout_of: Layouts, key_of: KeyOf
) -> list[Choice]:
    """Whether rows of q, of k or of both are in another rotary order on the other side, and in which direction."""
    groups: dict[Any, list[Link]] = defaultdict(list)
    for link in links:
        if reasons.get(id(link)) == ROTARY and not any(isinstance(o, Stack) for o in link.operations):
            groups[_module(link.left[0])[:-1], _module(link.right[0])[:-1]].append(link)
    found = []
    for members in groups.values():
        options = _guess_first(members, list(_rotary_options(members, layout_of, key_of)))
        if len(options) > 1:
            found.append(Choice(tuple(members), options))
    return found


def _rotary_options(members: Sequence[Link], layout_of: Layouts, key_of: KeyOf) -> tuple[Option, ...]:
    parts = [p for link in members for p in rotated_parts(link)]
    names = list(dict.fromkeys(_module(p)[-1] for p in parts))
    options = [Option(f"{' and '.join(names)} as stored")]
    chosen = [names, *([[name] for name in names] if len(names) > 1 else [])]
    for layout in dict.fromkeys(lay for link in members for lay in layout_of(key_of(link))):
        for some in chosen:
            turned = [p for p in parts if _module(p)[-1] in some]
            for kind, order in ((RotaryPermute, "half-split"), (RotaryUnpermute, "interleaved")):
                operations = {id(p): operation for p in turned if (operation := _rotated(p, kind, layout))}
                if len(operations) == len(turned):
                    text = f"rows of {' and '.join(some)} brought to {order} order, heads of {layout.head_dim}"
                    options.append(Option(text, turned=operations))
    return tuple(options)


def _rotated(
    p: Pattern, kind: type[RotaryPermute | RotaryUnpermute], layout: HeadLayout
) -> tuple[Operation, ...] | None:
    """The operation for a pattern; None where its rows are no whole number of heads."""
    rows = {(shape or (0,))[0] for shape in p.shapes.values()}
    if len(rows) != 1 or not min(rows) or min(rows) % layout.head_dim:
        return None
    return (kind(min(rows) // layout.head_dim, *layout),)
