"""`treealign suggest --batch`: many checkpoints and their models on an executor, one line each."""

from __future__ import annotations

import io
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from treealign.cli.console import fold_line, width
from treealign.errors import TreealignError, install_hint

_HEAD = ("state", "matched", "certain", "open", "transforms", "checkpoint", "model")


@dataclass(frozen=True)
class Row:
    """What a suggestion came to; counts are of keys, `seconds` of reading and matching, `error` of what stopped it."""

    checkpoint: str
    model: str
    state: str
    keys: int = 0
    matched: int = 0
    certain: int = 0
    ambiguous: int = 0
    missing: int = 0
    unexpected: int = 0
    mismatched: int = 0
    transforms: int = 0
    findings: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str = ""

    @property
    def open(self) -> int:
        """What is left for a person."""
        return self.ambiguous + self.missing + self.unexpected + self.mismatched


def read_batch(path: Path) -> list[tuple[str, str]]:
    """The pairs in a list: CHECKPOINT MODEL on each line, quoted as in a shell; ``#`` begins a comment.

    Raises
    ------
    TreealignError
        With each line that is no such pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "a list has CHECKPOINT MODEL on each line, as data/batch.txt of a clone"
        raise TreealignError(f"the list cannot be read: {reason}", where=str(path), hint=hint) from error
    pairs, faults = [], []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
            continue
        if len(words) == 2:
            pairs.append((words[0], words[1]))
        elif words:
            faults.append(f"line {number}: {line.strip()[:100]}")
    if faults or not pairs:
        hint = "a line names a checkpoint and a model, with a space between them"
        raise TreealignError("not a list of checkpoints and models", where=str(path), facts=faults, hint=hint)
    return pairs


def suggest_each(pairs: Sequence[tuple[str, str]], executor: Executor) -> list[Row]:
    """A suggestion for each pair, in their order.

    Raises
    ------
    TreealignError
        The workers of the executor die.
    """
    from treealign.checkpoint.executors import Call, gather

    return gather(executor, [Call(f"{one} {other}", suggest_one, (one, other)) for one, other in pairs])


def suggest_one(checkpoint: str, model: str) -> Row:
    """The suggestion for one pair; whatever goes wrong is in the row, for the other pairs know nothing of it."""
    from treealign.cli.models import resolve_model
    from treealign.suggestion import suggest

    begin = time.perf_counter()
    try:
        with redirect_stderr(io.StringIO()):
            found = suggest(resolve_model(checkpoint), resolve_model(model))
    except TreealignError as error:
        return Row(checkpoint, model, "error", error=str(error))
    except Exception as error:
        return Row(checkpoint, model, "error", error=f"{type(error).__name__}: {error}")
    matched = {key for match in found.matches for key in match.checkpoint}
    return Row(
        checkpoint,
        model,
        state="ok" if found.ok else "open",
        keys=len(found.alignment.checkpoint),
        matched=len(matched),
        certain=sum(len(match.checkpoint) for match in found.matches if match.certain),
        ambiguous=len(found.ambiguous),
        missing=len(found.missing_keys),
        unexpected=len(found.unexpected_keys),
        mismatched=len(found.mismatched_keys),
        transforms=len(found.mapping),
        findings=found.findings,
        seconds=round(time.perf_counter() - begin, 3),
    )


def workers(count: int, scheduler: str, pairs: int) -> AbstractContextManager[Executor]:
    """An executor: the workers of a dask scheduler, or processes of this machine, no more than there is work for.

    Raises
    ------
    TreealignError
        dask is not installed, or no scheduler answers.
    """
    from concurrent.futures import ProcessPoolExecutor

    if scheduler:
        return _dask(scheduler)
    wanted = min(count or os.cpu_count() or 1, pairs)
    # forked, a process would have the threads' locks of this one
    return ProcessPoolExecutor(wanted, mp_context=get_context("spawn"))


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    try:
        distributed: Any = import_module("distributed")
    except ImportError as error:
        raise TreealignError("dask is not installed", where=scheduler, hint=install_hint("dask")) from error
    try:
        client = distributed.Client(scheduler, timeout=20)
    except (OSError, ValueError) as error:
        raise TreealignError("no dask scheduler answers", where=scheduler, facts=[str(error)]) from error
    with client:
        yield client.get_executor()


def batch_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each row, below a heading; then what stopped those that could not be read, and the sum."""
    table = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(cells[at]) for cells in table) for at in range(len(_HEAD))]
    room = (width() - sum(size + 2 for size in widths[:-2]) - 2) // 2
    widths[-2] = min(widths[-2], room)
    for cells in table:
        cut = [*cells[:-2], *(_cut(name, room) for name in cells[-2:])]
        yield "  ".join(cell.ljust(size) for cell, size in zip(cut, widths, strict=True)).rstrip()
    for row in rows:
        if row.error:
            yield from ["", *(part for line in row.error.splitlines() for part in fold_line(line))]
    yield ""
    yield ", ".join(f"{sum(row.state == state for row in rows)} {state}" for state in ("ok", "open", "error"))


def _cells(row: Row) -> tuple[str, ...]:
    if row.state == "error":
        return row.state, "", "", "", "", row.checkpoint, row.model
    counts = f"{row.matched:,} of {row.keys:,}", f"{row.certain:,}", f"{row.open:,}", str(row.transforms)
    return row.state, *counts, row.checkpoint, row.model


def _cut(name: str, room: int) -> str:
    """A name from its end, which tells more than its beginning."""
    return name if len(name) <= room else f"…{name[len(name) - room + 1 :]}"


def batch_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same as data."""
    return [{**asdict(row), "findings": list(row.findings)} for row in rows]


def exit_status(rows: Sequence[Row]) -> int:
    """2 where something could not be read, 1 where something is open."""
    states = {row.state for row in rows}
    return 2 if "error" in states else int("open" in states)
