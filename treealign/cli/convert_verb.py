"""`treealign convert`: read the arguments, convert, say what was done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import put_json, put_lines, say
from treealign.cli.guesses import AcceptGuesses, read_mapping
from treealign.cli.render_conversion import conversion_json, conversion_lines
from treealign.errors import TreealignError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
Source = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A file of safetensors, torch, GGUF, ONNX or others, an index of shards, or a folder.",
    ),
]
Target = Annotated[
    Path,
    typer.Argument(
        metavar="DEST",
        help="A folder; for a single file, also a name that ends in .safetensors. Left out with --in-place.",
    ),
]
Mapping = Annotated[
    Path | None, typer.Argument(metavar="MAPPING", help="A mapping JSON, checkpoint -> model.", show_default=False)
]

ShardSize = Annotated[
    str, typer.Option(metavar="SIZE", help="Cut into files of at most this size: 5GB, 500MB.", show_default=False)
]
WasConverted = Annotated[
    str,
    typer.Option(metavar="yes|no", help="Whether it was converted already, where nothing tells.", show_default=False),
]
Reference = Annotated[
    str, typer.Option(metavar="FILE", help="Outputs of the original: MODEL, loaded from DEST, must give the same.")
]
Runnable = Annotated[str, typer.Option(metavar="MODEL", help="What is run for --reference; see suggest.")]
Run = Annotated[str, typer.Option(metavar="CODE", help="package.module:function that calls MODEL.")]


def convert(
    checkpoint: Source,
    destination: Target,
    mapping: Mapping = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the model's names to the checkpoint's.")] = False,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Rename in the files themselves: only headers are written.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, and compare it with what it was made of.")
    ] = False,
    reference: Reference = "",
    model: Runnable = "",
    run: Run = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is at DEST.")] = False,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Cast floating-point numbers: bfloat16, float32, …", show_default=False)
    ] = "",
    max_shard_size: ShardSize = "",
    converted: WasConverted = "",
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Use conversions that need the originals, kept beside, to be undone.")
    ] = False,
    accept_guesses: AcceptGuesses = False,
    json: Json = False,
) -> None:
    """Write a checkpoint under the model's names, file to file, without a model."""
    from treealign.checkpoint.conversion.converting import convert_checkpoint
    from treealign.cli.progress import progress_bar

    target, rules = sort_out(destination, mapping, in_place=in_place)
    live = runnable(reference, model)  # before anything is written in vain
    with progress_bar("converting") as progress:
        result = convert_checkpoint(
            checkpoint,
            target,
            read_mapping(rules, accept_guesses) if accept_guesses else rules,
            reverse,
            in_place=in_place,
            force=force,
            dtype=dtype or None,
            max_shard_size=parse_size(max_shard_size),
            converted=parse_answer(converted),
            allow_lossy=allow_lossy,
            verify=verify,
            progress=progress,
        )
    if result.files and not result.renamed and not result.computed:
        say("no tensor has changed: names and shapes are the wanted ones already")
    proof = None
    if live is not None:
        from treealign.proof import verify as run_beside

        proof = run_beside(live, reference, result.destination, rules if reverse else None, run or None)
    if json:
        put_json(conversion_json(result, proof))
    else:
        put_lines(conversion_lines(result, proof, reverse=reverse, in_place=in_place))
    raise typer.Exit(1 if result.rounded or (proof is not None and not proof.proved) else 0)


def runnable(reference: str, model: str) -> Any:
    """The model to run beside a reference; None where there is none.

    Raises
    ------
    TreealignError
        It cannot be built.
    """
    if bool(reference) != bool(model):
        raise typer.BadParameter("--reference FILE and --model MODEL go together: the model is run")
    if not reference:
        return None
    from treealign.cli.models import resolve_live

    return resolve_live(model)


def sort_out(destination: Path, mapping: Path | None, *, in_place: bool) -> tuple[Path | None, Path]:
    """Destination and mapping; in place the mapping stands where the destination would.

    Raises
    ------
    TreealignError
        One is absent, or one too many is there.
    """
    if in_place and mapping is None:
        return None, destination
    if mapping is None:
        hint = "treealign convert CHECKPOINT DEST MAPPING, or with --in-place CHECKPOINT MAPPING"
        raise TreealignError("there is no mapping", hint=hint)
    return destination, mapping


def parse_size(text: str) -> int | None:
    """Bytes; None for no text.

    >>> parse_size("5GB"), parse_size("1.5 GiB"), parse_size("300"), parse_size("")
    (5000000000, 1610612736, 300, None)

    Raises
    ------
    TreealignError
        It is no size.
    """
    if not text:
        return None
    found = _SIZE.fullmatch(text.strip())
    count = 0
    if found:
        unit = (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")
        count = int(float(found[1]) * unit)
    if not count:
        raise TreealignError(f"{text!r} is no size of a file", hint="for example 5GB, 500MB or 2GiB")
    return count


def parse_answer(text: str) -> bool | None:
    """Yes or no; None for no text.

    Raises
    ------
    TreealignError
        It is neither.
    """
    if text not in ("", "yes", "no"):
        raise TreealignError(f"--converted is {text!r}", hint="it is yes or no")
    return None if not text else text == "yes"
