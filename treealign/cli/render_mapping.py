"""A conversion mapping as people read it: one numbered transform a line, the direction said once above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from json import dumps

from treealign.cli.console import fold_line, plural, width
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.mapping_json import mapping_to_data
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename

MARGIN = 15  # what stands in front of a transform: its number and how many keys it touches


def mapping_lines(transforms: Iterable[Transform], touched: Sequence[int]) -> list[str]:
    """The transforms in order, each with how many keys it touches."""
    lines = [f"{'':4}{'keys':>9}"]
    for at, (transform, keys) in enumerate(zip(transforms, touched, strict=True)):
        first, *others = transform_lines(transform)
        lines += [f"{at + 1:>4}{keys:>9,}  {first}", *(f"{'':{MARGIN}}{line}" for line in others)]
    return lines


def transform_lines(transform: Transform) -> Iterator[str]:
    """One transform: what it does, under what, and when it does not."""
    under = f"  under {transform.under}" if transform.under else ""
    if isinstance(transform, PrefixChange):
        yield f"{'add   ' if transform.add is not None else 'remove'}  {transform.add or transform.remove}{under}"
    elif isinstance(transform, Rename):
        yield from _rename_lines(transform, under)
    elif isinstance(transform, Convert):
        yield from _convert_lines(transform, under)
    if transform.before or transform.after:
        yield from fold_line(
            f"        unless converted already: before {_list(transform.before)}, after {_list(transform.after)}",
            " " * 10,
        )


def _rename_lines(rename: Rename, under: str) -> Iterator[str]:
    for at, (source, target) in enumerate(rename.pairs):
        head = "rename  " if at == 0 else "   and  "
        line = f"{head}{source} -> {target}{under if at == 0 else ''}"
        if len(line) <= width() - MARGIN:
            yield line
            continue
        yield from _wrapped(head, source)
        yield from _wrapped("     -> ", target)
        if under and at == 0:
            yield from _wrapped("  under ", rename.under)


def _convert_lines(convert: Convert, under: str) -> Iterator[str]:
    yield from _wrapped("convert ", f"{convert.sources[0]}{under}")
    for source in convert.sources[1:]:
        yield from _wrapped("   and  ", source)
    for at, target in enumerate(convert.targets):
        yield from _wrapped("     -> " if at == 0 else "   and  ", target)
    for operation in convert.operations:
        yield from _wrapped("     by ", str(operation))


def _wrapped(head: str, pattern: str) -> Iterator[str]:
    """A long pattern over several lines, broken between segments or choices."""
    room = width() - MARGIN - len(head)
    while len(pattern) > room:
        cut = 1 + max(pattern.rfind(mark, 0, room) for mark in ".|, ")
        cut = cut or room
        yield head + pattern[:cut].rstrip()
        head, pattern = " " * len(head), pattern[cut:].lstrip()
    yield head + pattern


def _list(patterns: Iterable[str]) -> str:
    return ", ".join(patterns) or "(nothing)"


def plain_lines(mapping: ConversionMapping) -> Iterator[str]:
    """The transforms alone, for a mapping that nothing was run on."""
    if not len(mapping):
        yield "no transform, checkpoint -> model: names and tensors stay as they are"
        return
    yield f"{plural(len(mapping), 'transform')}, checkpoint -> model:"
    for at, transform in enumerate(mapping, 1):
        first, *others = transform_lines(transform)
        yield f"{at:>4}  {first}"
        yield from (f"{'':6}{line}" for line in others)


def rule_rows(mapping: ConversionMapping) -> tuple[str, ...]:
    """The lines for a page, numbered."""
    numbered = ((at, list(transform_lines(transform))) for at, transform in enumerate(mapping, 1))
    return tuple(f"{at if n == 0 else '':>3}  {line}" for at, lines in numbered for n, line in enumerate(lines))


def mapping_text(mapping: ConversionMapping) -> str:
    """The JSON for a page, to be copied; empty where there is no transform."""
    return dumps(mapping_to_data(mapping), indent=2, ensure_ascii=False) if len(mapping) else ""
