"""Arguments that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A file of safetensors or torch, an index of shards, a folder or a tree JSON; GGUF, ONNX, HDF5, msgpack, "
        "npz too; or the URL of one: hf://org/name. FILE#NAME is one of several in it.",
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="What CHECKPOINT may be, or transformers:<model type or config folder>[:Class], or package.module:factory "
        "(runs your code).",
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A file of safetensors or torch, an index of shards, a folder or a tree JSON; GGUF, ONNX, HDF5, msgpack, "
        "npz too; or the URL of one: hf://org/name; transformers:<model type or config folder>[:Class]; or "
        "package.module:factory (runs your code).",
    ),
]
Trace = Annotated[
    bool,
    typer.Option("--trace", help="Run MODEL once on the meta device, with its `dummy_inputs`, to see what feeds what."),
]
GraphFile = Annotated[
    Path | None,
    typer.Option(
        "--graph", metavar="FILE", help="Write the graph here: FILE ends in .graphml, or in .dot for Graphviz."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print data for a program.")]
