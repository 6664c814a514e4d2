"""Where words go: data on stdout, talk on stderr, both fit for 80 columns."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from treealign.cli.progress import stop_waiting, talk
from treealign.formats.legible import printable

NARROW = 20  # columns; a terminal with fewer is written to as if it had these
_WIDEST = 100
HINT = "--hint "
_BREAKS = ".|,/:_"  # where a line that is too long may be cut, after the character


def keep_stdout() -> None:
    """Keep stdout, which carries data, to what Python writes: what native code prints in this program goes to stderr.

    HiGHS in scipy 1.17 prints lines of debugging from C++ whatever its options say. The process is the command line's
    own here; within the programs of others no descriptor is touched.
    """
    try:
        data = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of them is closed: nothing to protect, or nowhere to turn to
        return
    buffering = 1 if os.isatty(data) else -1
    sys.stdout = os.fdopen(data, "w", buffering, encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def width() -> int:
    """Columns to fill: the terminal's, but no more than a person reads easily; 80 where there is no terminal."""
    return max(NARROW, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))


def terminal() -> int:
    """Columns of the terminal; 80 where there is none."""
    return max(NARROW, shutil.get_terminal_size((80, 24)).columns)


def say(text: str, *, whole: bool = False) -> None:
    """Talk, on stderr; while a bar is shown, above it. A command to paste is left `whole`, however long its lines."""
    is_cut = sys.stderr.isatty() and not whole
    talk(printable("\n".join(fitted(text.split("\n"))) if is_cut else text, keep="\n"))


def report_error(text: str) -> None:
    """An error as DESIGN has it: what and where, the facts, a hint; lines of prose are wrapped, facts are not."""
    first, _, rest = text.partition("\n")
    stop_waiting()
    if not sys.stderr.isatty():  # in a log, what a line says stands in one line
        say(f"error: {text}")
        return
    body = fold_line(f"error: {first}")
    for line in rest.split("\n") if rest else ():
        body += fold_line(line) if line.startswith("hint:") else [line]
    say("\n".join(body))


def fold_line(text: str, indent: str = "  ") -> list[str]:
    """Prose as lines that fit; a long word (a key, a path) stays whole, and a line end within it is spelled out."""
    wrapped = textwrap.TextWrapper(
        width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return wrapped.wrap(printable(text))


def fitted(lines: Iterable[str], room: int | None = None) -> list[str]:
    """Lines that are no wider than the terminal: a longer one goes on below, further in. In a file they stay whole.

    A hint is there to be pasted: it is cut at its own spaces only, where white space says nothing.

    >>> fitted(["    a.b.c.d.e", "  --hint a.b=c.d"], room=10)
    ['    a.b.c.', '     d.e', '  --hint a.b=c.d']
    """
    if room is None:
        known = sys.stdout.isatty() or sys.stderr.isatty() or "COLUMNS" in os.environ
        room = terminal() if known else 0
    return [part for line in lines for part in _cut(line, room)] if room else list(lines)


def _cut(line: str, room: int) -> Iterator[str]:
    margin = " " * min(len(line) - len(line.lstrip()) + 4, room // 2)
    is_hint = line.lstrip().startswith(HINT)
    while len(line) > room:
        start = len(line) - len(line.lstrip()) + len(HINT) * line.lstrip().startswith(HINT)
        # between words; a word that does not fit into a line by itself, where its parts meet
        at = 1 + line.rfind(" ", start + 1, room + 1)
        if is_hint and not line[start:at].strip():
            at = 1 + line.find(" ", start + 1)
            if at == 0:
                break
        elif not line[start:at].strip():
            at = 1 + max(line.rfind(mark, start + 1, room) for mark in _BREAKS)
        at = at if at > start + 1 else room
        yield line[:at].rstrip()
        line = margin + line[at:].lstrip()
    yield line


def put_lines(lines: Iterable[str]) -> None:
    """Data for a person, on stdout, no wider than the terminal."""
    put_text("\n".join(fitted(printable(line) for line in lines)))


def put_text(text: str) -> None:
    """Data on stdout as it stands: a diff, source text, lines that a program reads."""
    stop_waiting()
    sys.stdout.write(f"{text}\n" if text else "")


def put_json(value: Any) -> None:
    """Data for a program, on stdout."""
    stop_waiting()
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    sys.stdout.write("".join(f"{line if line.isprintable() else _as_json(line)}\n" for line in lines))


def _as_json(line: str) -> str:
    """What is not printable as JSON may spell it: within texts, where alone it can stand."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def number(count: int) -> str:
    """A large count, short: 7.06 B.

    >>> number(999), number(7_063_427_072), number(151_000)
    ('999', '7.06 B', '151 K')
    """
    return _short(count, 1000, ("", " K", " M", " B", " T"))


def size(count: int) -> str:
    """Bytes, short: 13.2 GiB.

    >>> size(512), size(14_126_854_144)
    ('512 B', '13.2 GiB')
    """
    return _short(count, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def _short(count: int, base: int, units: tuple[str, ...]) -> str:
    value, at = float(count), 0
    while value >= base and at + 1 < len(units):
        value, at = value / base, at + 1
    return f"{count}{units[0]}" if at == 0 else f"{value:.3g}{units[at]}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: ``1 key``, ``2 keys``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
