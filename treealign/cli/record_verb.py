"""The verb `record`: what the original computes, written where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import put_json, say
from treealign.formats.legible import printable


def record(
    original: Annotated[str, typer.Argument(metavar="CODE", help="package.module:factory, with its weights in it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the recording.")],
    run: Annotated[str, typer.Option(metavar="CODE", help="package.module:function, which calls the module.")] = "",
    json: Json = False,
) -> None:
    """Write inputs, outputs and what is computed between, for `suggest --original FILE` or `--reference FILE`."""
    from treealign.proof import record as write

    say(f"importing {original.partition(':')[0]} and running it: this is your code, it can do anything")
    write(original, run or None, output)
    if json:
        put_json({"original": original, "run": run, "output": str(output)})
    else:
        say(f"wrote {printable(str(output))}: copies run with their own weights, and with random ones")
