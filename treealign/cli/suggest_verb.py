"""The verb `suggest`: find the mapping, ask a person where that is wanted, print what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from treealign.cli.arguments import Checkpoint, GraphFile, Json, Model, Trace
from treealign.cli.console import plural, put_json, put_lines, say
from treealign.cli.guesses import AcceptGuesses, Hints, taken, write_mapping

if TYPE_CHECKING:
    from treealign.suggestion import Suggestion

MOST_PROBES = 64
LONG = 20_000  # keys; fewer are matched before one wonders
Explain = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="Print the evidence for a key, or key pattern, of either side; may be repeated."),
]
Values = Annotated[
    bool, typer.Option("--values", help="Compare contents too: both sides must have weights, which are read once.")
]
Interactive = Annotated[
    bool, typer.Option("--interactive", help="Ask what is open, one question a screen, one key an answer.")
]
Batch = Annotated[
    Path | None, typer.Option(metavar="LIST", help="Do this for many: a file with CHECKPOINT MODEL on each line.")
]
Scheduler = Annotated[str, typer.Option(metavar="ADDRESS", help="A dask scheduler whose workers are to do --batch.")]


Original = Annotated[
    str,
    typer.Option(
        metavar="CODE",
        help="The checkpoint's own code, package.module:factory, or what `record` wrote of it: MODEL is run beside it.",
    ),
]
Run = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CODE", help="package.module:function that calls a module; given twice: for the original, for MODEL."
    ),
]
Reference = Annotated[
    str, typer.Option(metavar="FILE", help="Outputs of the original with this checkpoint: MODEL must give the same.")
]
Probe = Annotated[
    str,
    typer.Option(
        metavar="text|CODE",
        help="Score MODEL with this checkpoint: by its loss on a text, or by package.module:function. "
        f"It is asked {MOST_PROBES} times at most.",
    ),
]


class Runs(NamedTuple):
    """What is to be run, as it was written on the command line."""

    original: str
    run: list[str] | None
    reference: str
    probe: str

    @property
    def wanted(self) -> bool:
        """Whether anything is."""
        return bool(self.original or self.reference or self.probe)


class Sides(NamedTuple):
    """What is to be matched, as it was written on the command line."""

    checkpoint: str
    model: str
    values: bool
    trace: bool

    @property
    def labels(self) -> tuple[str, str]:
        """The names of both sides."""
        return self.checkpoint, self.model


def suggest(
    checkpoint: Checkpoint = "",
    model: Model = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the mapping, as JSON.")
    ] = None,
    hint: Hints = None,
    interactive: Interactive = False,
    accept_guesses: AcceptGuesses = False,
    explain: Explain = None,
    values: Values = False,
    trace: Trace = False,
    original: Original = "",
    run: Run = None,
    reference: Reference = "",
    probe: Probe = "",
    batch: Batch = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes for --batch; by default one a processor.", show_default=False)
    ] = 0,
    scheduler: Scheduler = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with both trees.")] = None,
    graph: GraphFile = None,
    json: Json = False,
) -> None:
    """Find the mapping, checkpoint -> model, prove it, and list what is open."""
    if batch is not None and (values or interactive):
        alone = "--values reads two sides" if values else "--interactive asks about two sides"
        raise typer.BadParameter(f"{alone}; it goes without --batch")
    if batch is not None:
        _suggest_batch(batch, workers, scheduler, json)
    if not (checkpoint and model):
        raise typer.BadParameter(f"Missing argument '{'MODEL' if checkpoint else 'CHECKPOINT'}'.")
    if interactive:
        from treealign.cli.interactive.terminal import require_terminal

        require_terminal()
    sides = Sides(checkpoint, model, values, trace)
    runs = Runs(original, run, reference, probe)
    found = _run(sides, hint, runs) if runs.wanted else _found(sides, hint)
    if interactive:
        found = _asked(found, sides, output)
    if output is not None:
        write_mapping(taken(found.mapping, accept_guesses), output, "checkpoint -> model")
    if html is not None:
        from treealign.cli.page import write_page
        from treealign.cli.render_suggestion import suggestion_page

        write_page(html, suggestion_page(found, sides.labels))
    if graph is not None:
        from treealign.cli.graph_file import put_graph

        put_graph(found.graph, graph)
    if explain:
        put_explanations(found, explain, json=json)
    else:
        _put(found, sides, accept_guesses, json)
    raise typer.Exit(0 if found.ok or (accept_guesses and _only_guesses(found)) else 1)


def _asked(found: Suggestion, sides: Sides, output: Path | None) -> Suggestion:
    """The suggestion that knows what a person answered; how to go on is said where that is needed."""
    from treealign.cli.interactive.terminal import ask, command_to_go_on

    dialogue = ask(found)
    answered: Suggestion = dialogue.suggestion
    if dialogue.answered and (answered.questions or output is None):
        asking = ["--interactive"] if answered.questions else []
        written = ["-o", str(output)] if output else []
        options = [f"--{name}" for name in ("values", "trace") if getattr(sides, name)]
        say("to go on from here:" if asking else "to have this again:")
        say(f"  {command_to_go_on([*sides.labels, *asking, *written, *options], answered.hints)}", whole=True)
    return answered


def _put(found: Suggestion, sides: Sides, accept_guesses: bool, json: bool) -> None:
    from treealign.cli.render_suggestion import prove, suggestion_json, suggestion_lines
    from treealign.mapping.mapping_json import mapping_to_data

    if json:
        data = suggestion_json(found, prove(found), sides.labels)
        put_json(data | {"mapping": mapping_to_data(taken(found.mapping, accept_guesses))})
    else:
        put_lines(suggestion_lines(found, found.alignment.checkpoint, found.alignment.model, sides.labels))


def _only_guesses(found: Suggestion) -> bool:
    """Whether all keys have a place, if only by a guess."""
    return not (found.missing_keys or found.unexpected_keys or found.mismatched_keys or found.findings)


def _found(sides: Sides, hint: list[str] | None) -> Suggestion:
    from treealign.cli.models import resolve_model, resolve_weights
    from treealign.suggestion import suggest as find

    if sides.values and sides.trace:
        raise typer.BadParameter("--values and --trace do not go together: contents settle more than a run does")
    if sides.values:
        say("reading the weights of both sides")
        return find(resolve_weights(sides.checkpoint), resolve_weights(sides.model), hints=hint, values=True)
    left, right = resolve_model(sides.checkpoint), resolve_model(sides.model, sides.trace)
    if len(left) + len(right) > LONG:
        say(f"matching {plural(len(left), 'checkpoint key')} with {plural(len(right), 'model key')}")
    return find(left, right, hints=hint)


def _run(sides: Sides, hint: list[str] | None, runs: Runs) -> Suggestion:
    """The suggestion that knows what running the model said."""
    from treealign.cli.models import resolve_live
    from treealign.run.importing import named_object
    from treealign.suggestion import suggest as find

    if sides.values or sides.trace:
        raise typer.BadParameter("--values and --trace go without --original, --reference and --probe")
    for name in {*(runs.run or ()), runs.probe} - {"", "text"}:
        named_object(name)  # before a large model is built in vain
    run = runs.run[0] if runs.run and len(runs.run) == 1 else tuple(runs.run or ()) or None
    model = resolve_live(sides.model)
    if runs.probe:
        say(f"asking the probe, {MOST_PROBES} times at most")
    if runs.original or runs.reference:
        say(f"running the model beside {runs.original or runs.reference}: some hundred runs at most")
    found = find(
        sides.checkpoint,
        model,
        hints=hint,
        probe=runs.probe or None,
        max_probes=MOST_PROBES,
        original=runs.original or None,
        run=run,
        reference=runs.reference or None,
    )
    if found.ran is not None:
        say(str(found.ran))
    return found


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
