"""The verb `lint`: the registry of the installed transformers, or one entry of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import put_json, put_lines, say
from treealign.formats.legible import printable

if TYPE_CHECKING:
    pass

_WORKERS = 2
_OFTEN = 25


def lint(
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="transformers, or transformers:<model type or class name>.")
    ],
    checkpoint: Annotated[str, typer.Option(metavar="CHECKPOINT", help="Check the entry against these keys.")] = "",
    notes: Annotated[bool, typer.Option("--notes", help="List what is worth a note only, too.")] = False,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes, for the whole registry.")] = _WORKERS,
    sarif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write SARIF 2.1.0, for code hosts and editors.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with all findings.")] = None,
    json: Json = False,
) -> None:
    """Check transformers' conversion entries against the models they are for."""
    from treealign.cli.render_lint import lint_lines
    from treealign.dialects.linting import lint as check

    library, _, entry = registry.partition(":")
    if library != "transformers":
        raise typer.BadParameter("the registry is transformers, or transformers:<model type or class name>")
    if checkpoint and not entry:
        raise typer.BadParameter("--checkpoint is for one entry: transformers:<model type or class name>")
    found = check(entry or None, checkpoint or None, workers=workers, progress=None if entry else _progress())
    if sarif is not None:
        from treealign.cli.render_lint import sarif as as_sarif

        _write(sarif, as_sarif(found))
    if html is not None:
        from treealign.cli.page import write_page
        from treealign.cli.render_lint import lint_page

        write_page(html, lint_page(found, f"lint: transformers{f':{entry}' if entry else ''}"))
    if json:
        put_json(found.as_dict())
    else:
        put_lines(lint_lines(found, notes))
    raise typer.Exit(0 if found.ok else 1)


def _progress() -> Callable[[object], None]:
    done = count(1)

    def told(_: object) -> None:
        number = next(done)
        if number % _OFTEN == 0:
            say(f"{number} entries")

    return told


def _write(path: Path, data: object) -> None:
    path.write_text(dumps(data, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {printable(str(path))}")
