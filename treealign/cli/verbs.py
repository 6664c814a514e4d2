"""The verbs of `treealign`: read the arguments, call one public function, hand its result to a renderer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from treealign.cli.audit_verb import audit
from treealign.cli.console import plural, put_json, put_lines, say
from treealign.cli.convert_verb import convert
from treealign.cli.emit_verb import emit
from treealign.cli.lint_verb import lint
from treealign.cli.lock_verb import lock

if TYPE_CHECKING:
    from treealign.suggestion import Suggestion
    from treealign.tree.keytree import KeyTree

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # plain help: importing rich costs as much as reading a header
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Make weights load under any names, and go back as they came. "
    "Checkpoint -> model is forward (load), model -> checkpoint is reverse (save).",
    epilog="Exit status: 0 clean, 1 findings, 2 bad arguments or input. Data on stdout, talk on stderr.",
)

Checkpoint = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A .safetensors, .pt or .bin file, an index, a folder, a tree JSON; or the URL of one: hf://org/name.",
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
LONG = 20_000  # keys; fewer are matched before one wonders
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


@app.command()
def show(source: Model, graph: GraphFile = None, json: Json = False) -> None:
    """Print the folded tree of names, shapes and counts."""
    from treealign.cli.models import resolve_model
    from treealign.cli.render_tree import tree_json, tree_lines

    tree = resolve_model(source)
    if graph is not None:
        _write_graph(graph, tree)
    if json:
        put_json(tree_json(tree, source))
    else:
        put_lines(tree_lines(tree, source))


@app.command()
def snapshot(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the tree JSON.")],
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
        say(f"wrote {output}: {plural(len(tree), 'key')} in {plural(len(tree.folds), 'pattern')}")


@app.command()
def suggest(
    checkpoint: Checkpoint = "",
    model: Model = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the mapping here, as JSON.")] = None,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A=B",
            help="Names that correspond, checkpoint=model, or a whole and its parts in their order, "
            "qkv=q_proj,k_proj,v_proj or w1,w3=gate_up; may be repeated.",
        ),
    ] = None,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="Print the evidence for a key, or key pattern, of either side; may be repeated."
        ),
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Compare contents too: both sides must have weights, which are read once.")
    ] = False,
    trace: Trace = False,
    batch: Annotated[
        Path | None, typer.Option(metavar="LIST", help="Do this for many: a file with CHECKPOINT MODEL on each line.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes for --batch; by default one a processor.")] = 0,
    scheduler: Annotated[
        str, typer.Option(metavar="ADDRESS", help="A dask scheduler whose workers are to do --batch.")
    ] = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with both trees.")] = None,
    graph: GraphFile = None,
    json: Json = False,
) -> None:
    """Find the mapping, checkpoint -> model, prove it, and list what is open."""
    if batch is not None and values:
        raise typer.BadParameter("--values reads two sides; it goes without --batch")
    if batch is not None:
        _suggest_batch(batch, workers, scheduler, json)
    if not (checkpoint and model):
        raise typer.BadParameter(f"Missing argument '{'MODEL' if checkpoint else 'CHECKPOINT'}'.")
    from treealign.cli.render_suggestion import prove, suggestion_lines
    from treealign.cli.suggestion_json import suggestion_json

    found = _found(checkpoint, model, hint, values, trace)
    left, right = found.alignment.checkpoint, found.alignment.model
    if output is not None:
        found.mapping.to_json(output)
        say(f"wrote {output}: {plural(len(found.mapping), 'transform')}, checkpoint -> model")
    if html is not None:
        from treealign.cli.report_page import suggestion_page, write_page

        write_page(html, suggestion_page(found, (checkpoint, model)))
        say(f"wrote {html}: open it in a browser")
    if graph is not None:
        _write_graph(graph, found)
    if explain:
        put_explanations(found, explain, json=json)
    elif json:
        put_json(suggestion_json(found, prove(found), (checkpoint, model)))
    else:
        put_lines(suggestion_lines(found, left, right, (checkpoint, model)))
    raise typer.Exit(0 if found.ok else 1)


def _write_graph(path: Path, of: KeyTree | Suggestion) -> None:
    from treealign.cli.graph_file import write_graph

    write_graph(of.graph, path)
    say(f"wrote {path}: {plural(of.graph.number_of_nodes(), 'node')}, {plural(of.graph.number_of_edges(), 'edge')}")


def _found(checkpoint: str, model: str, hint: list[str] | None, values: bool, trace: bool) -> Suggestion:
    from treealign.cli.models import resolve_model, resolve_weights
    from treealign.suggestion import suggest as find

    if values and trace:
        raise typer.BadParameter("--values and --trace do not go together: contents settle more than a run does")
    if values:
        say("reading the weights of both sides")
        return find(resolve_weights(checkpoint), resolve_weights(model), hints=hint, values=True)
    left, right = resolve_model(checkpoint), resolve_model(model, trace)
    if len(left) + len(right) > LONG:
        say(f"matching {plural(len(left), 'checkpoint key')} with {plural(len(right), 'model key')}")
    return find(left, right, hints=hint)


def _suggest_batch(batch: Path, count: int, scheduler: str, json: bool) -> NoReturn:
    from treealign.cli.batch import batch_json, batch_lines, exit_status, read_batch, suggest_each, workers

    pairs = read_batch(batch)
    say(f"matching {plural(len(pairs), 'pair')}")
    with workers(count, scheduler, len(pairs)) as executor:
        rows = suggest_each(pairs, executor)
    if json:
        put_json(batch_json(rows))
    else:
        put_lines(batch_lines(rows))
    raise typer.Exit(exit_status(rows))


def put_explanations(found: Suggestion, wanted: list[str], *, json: bool) -> None:
    """Print what is known about some keys."""
    from treealign.align.asking.explaining import explain
    from treealign.cli.render_explanation import asked_keys, explanation_lines, explanations_json

    alignment = found.alignment
    sides = alignment.checkpoint, alignment.model
    asked = [one for text in wanted for one in explain(alignment, asked_keys(text, *sides))]
    explanations = list({(one.checkpoint, one.model): one for one in asked}.values())
    if json:
        put_json(explanations_json(explanations, found))
    else:
        put_lines(explanation_lines(explanations, found))


@app.command()
def check(
    checkpoint: Checkpoint,
    model: Model,
    mapping: Annotated[Path, typer.Argument(metavar="MAPPING", help="A mapping JSON, checkpoint -> model.")],
    json: Json = False,
) -> None:
    """Run a mapping on both trees and say which laws hold."""
    from treealign.cli.models import resolve_model
    from treealign.cli.render_laws import can_run, law_lines, laws_json
    from treealign.cli.render_suggestion import side_lines
    from treealign.mapping.conversion_mapping import ConversionMapping
    from treealign.mapping.laws import check_laws, faults

    transforms = ConversionMapping.from_json(mapping)
    left, right = resolve_model(checkpoint), resolve_model(model)
    findings, runs = check_laws(transforms, left, right), can_run(transforms, left)
    if json:
        put_json({"checkpoint": checkpoint, "model": model, "mapping": str(mapping), "laws": laws_json(findings, runs)})
    else:
        put_lines(side_lines(left, right, (checkpoint, model)))
        put_lines([f"mapping     {mapping}  {plural(len(transforms), 'transform')}, checkpoint -> model", ""])
        put_lines(law_lines(findings, left, right, runs))
    raise typer.Exit(1 if faults(findings) else 0)


app.command()(audit)
app.command()(convert)
app.command()(emit)
app.command()(lock)
app.command()(lint)
