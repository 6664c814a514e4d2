"""A conversion mapping as a person reads it: one numbered transform a line, the direction said once above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from treealign.cli.console import fold_line, plural, width
from treealign.mapping.convert import Convert
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename


def mapping_lines(transforms: Iterable[Transform], touched: Sequence[int] = ()) -> list[str]:
    """The transforms in order; with how many keys each touches, where that is known."""
    lines: list[str] = []
    for at, transform in enumerate(transforms):
        body = list(transform_lines(transform))
        if len(touched) > at:
            body[0] = _with_count(body[0], plural(touched[at], "key"))
        lines += [f"{at + 1:>4}  {body[0]}", *(f"      {line}" for line in body[1:])]
    return lines


def _with_count(line: str, count: str) -> str:
    """The count at the right edge, where there is room for it."""
    room = width() - 6 - len(count)
    return f"{line:<{room}}{count}" if len(line) + 2 <= room else f"{line}  {count}"


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
        yield fold_line(
            f"        unless converted already: before {_list(transform.before)}, after {_list(transform.after)}",
            " " * 10,
        )


def _rename_lines(rename: Rename, under: str) -> Iterator[str]:
    first, *others = (_arrow(source, target) for source, target in rename.pairs)
    yield f"rename  {first[0]}{under if len(first) == 1 else ''}"
    if len(first) > 1:
        yield f"     {first[1]}{under}"
    for pair in others:
        yield f"   and  {pair[0]}"
        yield from (f"     {line}" for line in pair[1:])


def _arrow(source: str, target: str) -> list[str]:
    """Both sides on one line, or the second below the first."""
    line = f"{source} -> {target}"
    return [line] if len(line) <= width() - 24 else [source, f"-> {target}"]


def _convert_lines(convert: Convert, under: str) -> Iterator[str]:
    yield f"convert {convert.sources[0]}{under}"
    yield from (f"    and {source}" for source in convert.sources[1:])
    yield from (f"    {'->' if at == 0 else '  '}  {target}" for at, target in enumerate(convert.targets))
    yield from (f"    by  {operation}" for operation in convert.operations)


def _list(patterns: Iterable[str]) -> str:
    return ", ".join(patterns) or "(nothing)"
