"""The verb `emit`: a mapping in the words of another loader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import put_json, put_text
from treealign.cli.guesses import AcceptGuesses, read_mapping

_DIALECTS = "transformers, key_mapping, vllm, mmengine, torchtitan, timm, python or json."


def emit(
    mapping: Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping JSON, checkpoint -> model.")],
    to: Annotated[str, typer.Option("--to", metavar="DIALECT", help=_DIALECTS)] = "transformers",
    model: Annotated[str, typer.Option(metavar="MODEL", help="The model it is for; see suggest.")] = "",
    checkpoint: Annotated[str, typer.Option(metavar="CHECKPOINT", help="The checkpoint it is for.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Class name or model type to register under.")] = "",
    tests: Annotated[bool, typer.Option("--tests", help="Write a pytest file for it instead.")] = False,
    reference: Annotated[
        str, typer.Option(metavar="FILE", help="With --tests: what `record` wrote, to keep the proof by.")
    ] = "",
    accept_guesses: AcceptGuesses = False,
    json: Json = False,
) -> None:
    """Write the mapping for another loader, run and checked by that loader's own code."""
    from treealign.cli.models import resolve_model, resolve_module
    from treealign.dialects.emitting import emit as write

    left = resolve_model(checkpoint) if checkpoint else None
    right = resolve_module(model) if model else None
    rules = read_mapping(mapping, accept_guesses) if accept_guesses else mapping  # a path is named in what is refused
    made = write(rules, to, model=right, checkpoint=left, name=name or None, tests=tests, reference=reference or None)
    if json:
        put_json({"mapping": str(mapping), "dialect": to, "emitted": made})
    elif isinstance(made, str):
        put_text(made.rstrip("\n"))
    else:
        put_json(made)
