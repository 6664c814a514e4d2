"""Which matches are asked about their rows together: q and k of an attention, and all that one code serves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from treealign.align.asking.rows import HeadLayout, is_join, order_of
from treealign.align.doubting.conventions import HEADS
from treealign.align.doubting.folded_space import FOLDS
from treealign.align.doubting.rotary import roles
from treealign.align.hints import Said
from treealign.align.links import Link, joining
from treealign.align.paths import module_path, without_indices
from treealign.align.patterns import Pattern
from treealign.align.words import vocabulary
from treealign.mapping.operations import Interleave
from treealign.tree.keytree import KeyTree

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_PARAMETER = re.compile(r"[_.]?(?:weight|bias|kernel)s?$")


def by_code(
    links: Sequence[Link], model: KeyTree, layouts: Callable[[Sequence[Link]], Sequence[HeadLayout]]
) -> Iterator[list[Link]]:
    """Links by the modules around them, and by what is doubted: by class where the model's are known, else by name.

    Parameters
    ----------
    links : sequence of Link
        Whose rows may stand otherwise than they are guessed.
    model : KeyTree
        With its classes.
    layouts : callable
        The heads in which the rows of all of these links may be arranged; what one class serves is asked about at once
        where they are the same.

    """
    groups: dict[tuple[object, str | None], list[Link]] = defaultdict(list)
    for link in links:
        doubt = _NUMBER.sub("", link.open["rows"].kind)
        groups[(_attention(link), doubt), _class_around([link], model)].append(link)
    alike: dict[object, list[Link]] = defaultdict(list)
    for (name, code), members in groups.items():
        reasons = frozenset((len(k.left), len(k.right), k.open["rows"].kind, bool(k.operations)) for k in members)
        kinds = frozenset(kind for link in members for kind in row_kinds(link))
        heads = () if kinds == {"folds"} else layouts(members)
        alike[(code, reasons, kinds, *heads) if code else (name, code)] += members
    yield from alike.values()


def _class_around(links: Sequence[Link], model: KeyTree) -> str | None:
    """The class of the modules around the model's leaves, if it is one and known."""
    leaves = (at for link in links for p in link.right for at in p.cells.values())
    classes = {model.modules.get(model.keys[at].rsplit(".", 2)[0]) for at in leaves}
    return classes.pop() if len(classes) == 1 else None


def module_of(p: Pattern) -> tuple[str, ...]:
    """The module of a leaf without indices; `in_proj` for `in_proj_weight` and `in_proj_bias`, which are one."""
    path = without_indices(module_path(p))
    return (*path[:-1], _PARAMETER.sub("", path[-1]) or path[-1]) if path else path


def _attention(link: Link) -> object:
    """What is asked about together: the modules around q and k, or around a fold, by names without the towers' own."""
    left, right = (module_of(side[0]) for side in (link.left, link.right))
    known = {"q", "k"} & {r for p in (*link.left, *link.right) for r in roles(p)}
    fused = len(link.left) + len(link.right) > 2
    if (known or link.open["rows"].kind in FOLDS) and not fused:
        return left[-2:-1], right[-2:-1]
    if fused:  # by the module around the parts: weights and biases may bear names of their own
        return (left[-2:-1], right[-2:]) if len(link.left) > 1 else (left[-2:], right[-2:-1]), fused
    return left[-2:], right[-2:], fused


def row_kinds(link: Link) -> Iterator[str]:
    """In which ways the rows of a link may stand: by heads, in rotary order, by turns, halves swapped, in folds."""
    if link.open["rows"].kind in FOLDS:
        yield "folds"
        return
    found = {r for p in (*link.left, *link.right) for r in roles(p)}
    gated = "gate up" in found or {"gate", "up"} <= found
    by_turns = any(isinstance(o, Interleave) or type(o).__name__ == "Deinterleave" for o in link.operations)
    if "qkv" in found or {"q", "k", "v"} <= found or link.open["rows"].kind == HEADS.kind or (by_turns and not gated):
        yield "heads"
    if {"q", "k", "qkv"} & found:
        yield "rotary"
    if gated or not ({"q", "k", "v", "qkv"} & found):
        yield "turns"
        yield "halves"


def other_orders(links: Sequence[Link]) -> Iterator[Said]:
    """The parts one after the other, in orders that libraries have whatever the name of the whole spells."""
    known = {about for link in links for about in (*link.open, *link.answered)}
    if "order" in known or not all(is_join(joining(link)) for link in links):
        return
    for orders in vocabulary().other_orders.values():
        for parts in orders:
            if all(order_of(joining(link), parts) is not None for link in links):
                yield Said("rows", "by part", parts=parts)
