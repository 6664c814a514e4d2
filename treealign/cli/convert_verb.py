"""`treealign convert`: read the arguments, convert, say what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from treealign.cli.console import put_json, put_lines, say
from treealign.cli.guesses import AcceptGuesses, read_mapping

Source = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="A .safetensors, .pt or .bin file, an index of shards, or a folder."),
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
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is at DEST.")] = False,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Cast floating-point numbers: bfloat16, float32, …", show_default=False)
    ] = "",
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Cut into files of at most this size: 5GB, 500MB.", show_default=False)
    ] = "",
    converted: Annotated[
        str,
        typer.Option(
            metavar="yes|no", help="Whether it was converted already, where nothing tells.", show_default=False
        ),
    ] = "",
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="Use conversions that need the originals, kept beside, to be undone.")
    ] = False,
    accept_guesses: AcceptGuesses = False,
    json: Annotated[bool, typer.Option("--json", help="Print data for a program.")] = False,
) -> None:
    """Write a checkpoint under the model's names, file to file, without a model."""
    from treealign.checkpoint.conversion.converting import convert_checkpoint
    from treealign.cli.progress import progress_bar
    from treealign.cli.render_conversion import conversion_json, conversion_lines, parse_answer, parse_size, sort_out

    target, rules = sort_out(destination, mapping, in_place=in_place)
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
        say("no tensor has changed: the checkpoint was converted already")
    if json:
        put_json(conversion_json(result))
    else:
        put_lines(conversion_lines(result, reverse=reverse, in_place=in_place))
    raise typer.Exit(1 if result.rounded else 0)
