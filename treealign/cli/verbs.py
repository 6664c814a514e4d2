"""The verbs of `treealign`: read the arguments, call one public function, hand its result to a renderer."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from treealign import __version__
from treealign.cli.arguments import Checkpoint, GraphFile, Json, Model, Source, Trace
from treealign.cli.audit_verb import audit
from treealign.cli.console import plural, put_json, put_lines, put_text, say, terminal
from treealign.cli.convert_verb import convert
from treealign.cli.emit_verb import emit
from treealign.cli.guesses import AcceptGuesses, guess_lines, guesses_json, read_mapping
from treealign.cli.lint_verb import lint
from treealign.cli.lock_verb import lock
from treealign.cli.record_verb import record
from treealign.cli.suggest_verb import suggest
from treealign.formats.legible import printable

app = typer.Typer(
    no_args_is_help=True,
    # click itself writes no help into fewer than 50 columns
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": min(80, terminal()) - 2},
    # plain help: importing rich costs as much as reading a header
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 clean, 1 findings, 2 bad arguments or input. Data on stdout, talk on stderr. "
    "`treealign VERB -h` has an example of each.",
)


def _version(wanted: bool) -> None:
    if wanted:
        put_text(f"treealign {__version__}")
        raise typer.Exit


@app.callback()
def treealign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make weights load under any names, and go back as they came.

    Checkpoint -> model is forward (load), model -> checkpoint is reverse (save).
    """


def show(source: Source, graph: GraphFile = None, json: Json = False) -> None:
    """Print the folded tree of names, shapes and counts."""
    from treealign.cli.models import absent_shards, resolve_model
    from treealign.cli.render_tree import tree_json, tree_lines

    tree = resolve_model(source)
    if graph is not None:
        from treealign.cli.graph_file import put_graph

        put_graph(tree.graph, graph)
    if json:
        put_json(tree_json(tree, source))
    else:
        put_lines(tree_lines(tree, source))
    absent = absent_shards(source)
    if absent:
        say(f"names only: the {plural(len(absent), 'shard')} of the index are not there: {', '.join(absent[:3])}")
        raise typer.Exit(1)


def snapshot(
    model: Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the tree JSON.")],
    trace: Trace = False,
    json: Json = False,
) -> None:
    """Write the tree of a model or checkpoint as JSON, to be used in its place."""
    from treealign.cli.models import resolve_model
    from treealign.formats.tree_json import installed_libraries

    tree = resolve_model(model, trace)
    # what was built here carries the versions of the libraries that define it
    tree.to_json(output, libraries=installed_libraries() if tree.modules else None)
    if json:
        put_json({"source": model, "output": str(output), "keys": len(tree), "patterns": len(tree.folds)})
    else:
        say(f"wrote {printable(str(output))}: {plural(len(tree), 'key')} in {plural(len(tree.folds), 'pattern')}")


def check(
    checkpoint: Checkpoint,
    model: Model,
    mapping: Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping JSON, checkpoint -> model.")],
    accept_guesses: AcceptGuesses = False,
    json: Json = False,
) -> None:
    """Run a mapping on both trees and say which laws hold, and what in it is a guess."""
    from treealign.cli.models import resolve_model
    from treealign.cli.render_laws import can_run, law_lines, laws_json
    from treealign.cli.render_suggestion import side_lines
    from treealign.mapping.laws import check_laws, faults

    transforms = read_mapping(mapping, accept_guesses)
    left, right = resolve_model(checkpoint), resolve_model(model)
    findings, runs = check_laws(transforms, left, right), can_run(transforms, left)
    if json:
        told = {"checkpoint": checkpoint, "model": model, "mapping": str(mapping), "laws": laws_json(findings, runs)}
        put_json(told | guesses_json(transforms))
    else:
        put_lines(side_lines(left, right, (checkpoint, model)))
        put_lines([f"mapping     {mapping}  {plural(len(transforms), 'transform')}, checkpoint -> model", ""])
        put_lines(law_lines(findings, left, right, runs))
        put_lines(guess_lines(transforms))
    raise typer.Exit(1 if faults(findings) or transforms.questions else 0)


PORT = "data.port.original"
TINY, NORMS = "data/llava-tiny", "data/two-norms"
_SUGGEST = f"treealign suggest {TINY} transformers:{TINY} -o m.json"
# each verb with commands that run from the root of the project, one after the other
EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    show: (f"treealign show {TINY}/model.safetensors",),
    suggest: (_SUGGEST, f"treealign suggest {NORMS}/checkpoint.json {NORMS}/model.json"),
    check: (_SUGGEST, f"treealign check {TINY} transformers:{TINY} m.json"),
    convert: (
        "treealign convert data/llava-tiny converted data/llava-1.5-7b/mapping.json",
        "treealign show converted",
    ),
    audit: (f"treealign audit {NORMS}/checkpoint.json {NORMS}/model.json",),
    emit: ("treealign emit data/llava-1.5-7b/mapping.json --to vllm",),
    snapshot: (f"treealign snapshot transformers:{TINY} -o tree.json",),
    lock: (f"treealign lock {TINY}", "treealign lock --check"),
    record: (f"treealign record {PORT}:build --run {PORT}:call -o run.pt",),
    lint: ("treealign lint transformers:dinov3_vit",),
}


def _add(verb: Callable[..., None], examples: Iterable[str]) -> None:
    short = inspect.getdoc(verb) or ""
    # what stands below a \b is not wrapped
    lines = (line for example in examples for line in _in_lines(example))
    epilog = "\n".join(["\b", "Examples, from the root of a clone:", *lines])
    app.command(short_help=short.partition("\n\n")[0], epilog=epilog)(verb)


def _in_lines(example: str) -> Iterator[str]:
    """A command of the help, on more lines where one is too short, as a shell takes it."""
    room = min(80, terminal()) - 8
    first, *rest = textwrap.wrap(example, room, break_long_words=False, break_on_hyphens=False)
    lines = [f"  {first}", *(f"      {line}" for line in rest)]
    yield from (f"{line} \\" for line in lines[:-1])
    yield lines[-1]


for _verb, _examples in EXAMPLES.items():
    _add(_verb, _examples)
