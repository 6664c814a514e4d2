"""What known layouts settle: the order of parts, and how rows stand, where both sides are recognised.

A settler answers what is open about a match and changes nothing else. It speaks only where all entries that hold for a
leaf agree, and where each was checked by running the library's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from treealign.align.asking.arranging import arranged
from treealign.align.asking.rows import in_order, order_of, with_operations
from treealign.align.doubting.habits import Habits
from treealign.align.doubting.squares import ALONE, EITHER
from treealign.align.doubting.torn import released
from treealign.align.hints import Said
from treealign.align.knowledge.apart import joined_apart, taken_apart
from treealign.align.knowledge.entries import Layout, Run
from treealign.align.knowledge.saying import Saying, agreed, entries_of
from treealign.align.links import Link, joining
from treealign.align.patterns import Pattern, Shape
from treealign.align.reasons import NAMED, About
from treealign.align.verdict import settled, settled_if_answered
from treealign.mapping.operations import Permute, invert

Pair = tuple[Pattern, Pattern]
NOTHING: Mapping[Pair, str] = MappingProxyType({})
WAYS_ROUND = (ALONE, EITHER)
MATRIX = 2
KERNEL = "window inputs outputs"  # as Flax and Keras have it
CONVOLUTION = "outputs inputs window"  # as torch.nn has it, transposed ones aside
CLASSES = {"Linear": "outputs", "Conv1D": "inputs", **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), CONVOLUTION)}


def settled_by_layouts(
    links: Sequence[Link], modules: Mapping[str, str], habits: Habits, read: Mapping[Pair, str] = NOTHING
) -> list[Link]:
    """The links, those settled in what known layouts speak of.

    Parameters
    ----------
    links : sequence of Link
        As they are judged without.
    modules : mapping
        Classes of the model's modules by path, where these are known.
    habits : Habits
        What the leaves of the two sides show of the size of a head.
    read : mapping
        Patterns of the two sides that read as one path, with what they read as: these are no members of a list that
        may run the other way.

    """
    linear = {_numbered(path): CLASSES[name] for path, name in modules.items() if name in CLASSES}
    named = settled_as_read(links, read)
    return released([link if link.certain else _settled(link, linear, habits) for link in named])


def settled_as_read(links: Iterable[Link], read: Mapping[Pair, str]) -> list[Link]:
    """The links, those of two paths that read as one settled in what is asked of names."""
    return [_as_read(link, read) for link in links]


def _as_read(link: Link, read: Mapping[Pair, str]) -> Link:
    text = read.get((link.left[0], link.right[0])) if len(link.left) == len(link.right) == 1 else None
    if text is None or link.certain:
        return link
    about: tuple[About, ...] = tuple(aspect for aspect in link.open if aspect in NAMED)
    return _known(link, about, [f"{known.name}: read as {text}" for known in link.left[0].library[:1] if about])


def _settled(link: Link, linear: Mapping[str, str], habits: Habits) -> Link:
    apart = _taken_apart(link, linear)
    if apart is not None:
        return apart
    if {"order", "rows"} & link.open.keys():
        saying = Saying(link, habits)
        link = _answered(link, saying.said(), ("order", "rows"), saying.evidence())
    if "axes" in link.open:
        said, evidence = _axes(link, linear)
        link = _answered(link, said, ("axes",), evidence)
    return _stands(link, linear) if link.reason in WAYS_ROUND else link


def _stands(link: Link, linear: Mapping[str, str]) -> Link:
    """The link, settled where it was doubted only for how it stands and stands as both libraries say."""
    said, evidence = _axes(link, linear) if len(link.left) == len(link.right) == 1 else (None, [])
    turned = link.operations == (Permute((1, 0)),)
    if said is None or link.beneath or not (turned or not link.operations) or turned != (said.kind == "transposed"):
        return link
    return settled(replace(link, evidence=(*link.evidence, *evidence)))


def _answered(link: Link, said: Said | None, about: tuple[About, ...], evidence: Iterable[str]) -> Link:
    made = None if said is None else arranged(link, said)
    return link if made is None else _known(made, about, evidence)


def _known(made: Link, about: tuple[About, ...], evidence: Iterable[str]) -> Link:
    """The link with these aspects settled."""
    return settled_if_answered(replace(made, answered=(*made.answered, *about), evidence=(*made.evidence, *evidence)))


def _taken_apart(link: Link, linear: Mapping[str, str]) -> Link | None:
    """The link with rows and axes as the side says of itself whose heads have a dimension of their own."""
    if not {"rows", "axes"} & link.open.keys():
        return None
    if len(link.left) == len(link.right) == 1:
        return _one_apart(link, linear)
    return _parts_apart(link, linear)


def _one_apart(link: Link, linear: Mapping[str, str]) -> Link | None:
    """One leaf on either side, the heads of one of them apart."""
    (left,), (right,) = link.left, link.right
    for whole, split, forward in ((left, right, True), (right, left, False)):
        dims, evidence = _dimensions(split)
        saying = Saying(link, None)
        if dims is None or ("out" not in dims and saying.is_turned() and not saying.turn_alike()):
            continue
        first, used = _first(whole, {} if forward else linear)
        shapes = [pair if forward else pair[::-1] for pair in _shape_pairs(link)]
        found = {taken_apart(before, after, dims, first or "") for before, after in shapes}
        operations = found.pop() if len(found) == 1 else None
        if operations is None:
            continue
        made = with_operations(link, operations if forward else invert(operations))
        return _known(made, ("rows", "axes"), (*evidence, *used, *saying.evidence()))
    return None


def _parts_apart(link: Link, linear: Mapping[str, str]) -> Link | None:
    """Parts whose heads are apart, and the whole that they make."""
    saying, whole = Saying(link, None), joining(link).right[0]
    made, (first, used) = saying.fused(whole), _first(whole, linear if len(link.left) > 1 else {})
    order = None if made is None else order_of(joining(link), made.parts)
    if made is None or order is None or not saying.turn_alike():
        return None
    link = in_order(link, order)
    told = [_dimensions(p) for p in joining(link).left]
    operations = joined_apart(joining(link), [dims or () for dims, _ in told], first or "", made)
    if operations is None:
        return None
    done = replace(link, operations=operations if len(link.left) > 1 else invert(operations))
    evidence = dict.fromkeys(e for _, said in told for e in said)
    return _known(done, ("order", "rows", "axes"), (*evidence, *used, *saying.evidence()))


def _dimensions(p: Pattern) -> tuple[Run | None, list[str]]:
    """What the dimensions are of a leaf whose heads are apart, and the entries that say so."""
    said = {e: dims for e, depth in entries_of(p) if (dims := e.dimensions(p.segments[depth:]))}
    return agreed(said), [f"layout {e.name}: {' '.join(dims)} ({e.checked})" for e, dims in said.items() if e.run]


def _shape_pairs(link: Link) -> set[tuple[Shape, Shape]]:
    here = {at: link.left[0].shapes[key] for key, at in link.left[0].cells.items()}
    there = {at: link.right[0].shapes[key] for key, at in link.right[0].cells.items()}
    return {(here[g.left[0]], there[g.right[0]]) for g in link.expand()}


def _axes(link: Link, linear: Mapping[str, str]) -> tuple[Said | None, list[str]]:
    """Which way round a matrix stands on either side, and by which entries."""
    (left, used), (right, more) = _first(link.left[0], {}), _first(link.right[0], linear)
    ranks = {len(shape or ()) for p in (link.left[0], link.right[0]) for shape in p.shapes.values()}
    if left is None or right is None or len(ranks) > 1:
        return None, []
    return _between(left, right, ranks.pop()), [*used, *more]


def _between(left: str, right: str, rank: int) -> Said:
    """Which of the checkpoint's dimensions each of the model's is."""
    if rank == MATRIX:
        return Said("axes", "as stored" if left == right else "transposed")
    if left == right:
        return Said("axes", "as stored")
    window = tuple(range(rank))[:-2] if left == KERNEL else tuple(range(rank))[2:]
    ends = (rank - 1, rank - 2)
    return Said("axes", "permuted", 0, "", (*ends, *window) if left == KERNEL else (*window, 1, 0))


def _first(p: Pattern, classes: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Which dimension of a matrix is first, and the entries that say so."""
    rank = len(next(iter(p.shapes.values())) or ())
    told = {e: _of_rank(first, rank) for e, depth in entries_of(p) if (first := e.first(p.segments[depth:]))}
    said: dict[Layout, str] = {e: first for e, first in told.items() if first}
    used = [f"layout {e.name}: {first} first ({e.checked})" for e, first in said.items() if e.run]
    known = classes.get(_numbered(".".join(p.segments[:-1])), "") if p.segments[-1] == "weight" else ""
    known = _of_rank(known, rank)
    return (known if known and not said else agreed(said)), used


def _of_rank(text: str, rank: int) -> str:
    """What is said of a leaf of so many dimensions: of a matrix which one is first, of more what all are."""
    if rank > MATRIX:
        return text if text in (KERNEL, CONVOLUTION) else ""
    return "outputs" if text.startswith("outputs") else "inputs" if text else ""


def _numbered(path: str) -> str:
    return ".".join("{}" if segment.isdigit() else segment for segment in path.split("."))
