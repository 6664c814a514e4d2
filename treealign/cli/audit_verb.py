"""The verb `treealign audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import plural, put_json, put_lines, put_text, say
from treealign.cli.guesses import AcceptGuesses, Hints, taken, write_mapping
from treealign.formats.legible import printable

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit

PERSON = "it takes a person"
GUESS = "its new name is a guess: answer by --hint, or take it by --accept-guesses"
Tree = "A tree JSON of `treealign snapshot`, or whatever `treealign show` takes."


def audit(
    old: Annotated[str, typer.Argument(metavar="OLD", help=f"The old version. {Tree}")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new version, likewise.")],
    scan: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Look for names of the old tree in these files and folders; repeatable."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="List the references that still match as well.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Print the repair of stale references as a unified diff.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the repair into the files.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write although the git tree is not clean.")] = False,
    shim: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Python that gives a model its old attributes back.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the mapping old -> new, as JSON.")
    ] = None,
    adapter: Annotated[
        str, typer.Option(metavar="FILE", help="Make that mapping one for this adapter, for `treealign convert`.")
    ] = "",
    hint: Hints = None,
    accept_guesses: AcceptGuesses = False,
    min_certainty: Annotated[
        float, typer.Option(metavar="0..1", min=0, max=1, help="How sure it must be that a text speaks of this tree.")
    ] = 0.7,
    json: Json = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print a SARIF log, for code scanning.")] = False,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub Actions.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Print the folded tree with the changes in it.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with both trees.")] = None,
) -> None:
    """Say what changed from OLD to NEW, which references that breaks, and repair them."""
    from treealign.changes.auditing import audit as find
    from treealign.cli.models import resolve_model
    from treealign.cli.render_audit import audit_lines

    if (fix or write or all_) and not scan:
        raise typer.BadParameter("--all, --fix and --write need --scan PATH: they are about what it finds")
    if json + sarif + github > 1:
        raise typer.BadParameter("--json, --sarif and --github each print to the same place: choose one")
    if adapter and output is None:
        raise typer.BadParameter("--adapter needs --output FILE: where to write its mapping")
    found = find(resolve_model(old), resolve_model(new), hints=hint)
    found = found.accept() if accept_guesses else found
    if scan:
        found = found.scan(scan, min_certainty)
    if json or sarif or github:
        _put_data(found, sarif, github, all_)
    elif tree:
        _put_tree(found)
    elif not fix:
        put_lines(audit_lines(found, (old, new), scanned=bool(scan), everything=all_))
    if html is not None:
        _write_page(found, (old, new), html)
    if shim is not None:
        _write_shim(found, shim)
    if output is not None:
        _write_mapping(found, output, adapter, accept_guesses)
    if fix or write:
        _repair(found, min_certainty, fix and not (json or sarif or github), write, force)
    raise typer.Exit(0 if found.ok else 1)


def _put_data(found: Audit, sarif: bool, github: bool, everything: bool) -> None:
    from treealign.cli.render_audit import audit_json, github_lines
    from treealign.cli.render_audit import sarif as sarif_log

    if github:
        put_text("\n".join(github_lines(found)))
    else:
        put_json(sarif_log(found) if sarif else audit_json(found, everything))


def _put_tree(found: Audit) -> None:
    from treealign.cli.paired_trees import paired_trees
    from treealign.cli.render_tree_diff import put_tree_diff

    put_tree_diff(paired_trees(found.suggestion.alignment))


def _write_page(found: Audit, labels: tuple[str, str], path: Path) -> None:
    from treealign.cli.page import write_page
    from treealign.cli.render_audit import audit_page

    write_page(path, audit_page(found, labels))


def _write_shim(found: Audit, path: Path) -> None:
    from treealign.changes.shims import shim_source

    source = shim_source(found.translation)
    if not source:
        say("no attribute is gone: no shim is needed")
        return
    path.write_text(source, encoding="utf-8")
    say(f"wrote {printable(str(path))}: call install(model) once the model is made")


def _write_mapping(found: Audit, path: Path, adapter: str, accept: bool) -> None:
    from treealign.changes.adapters import adapter_mapping
    from treealign.tree.reading import read_tree

    mapping = adapter_mapping(found.mapping, found.translation, read_tree(adapter)) if adapter else found.mapping
    write_mapping(taken(mapping, accept), path, f"old -> new{', for ' + adapter if adapter else ''}")


def _repair(found: Audit, min_certainty: float, printed: bool, write: bool, force: bool) -> None:
    from treealign.changes.repairing import repairs, write_repairs

    made = repairs(found.translation, found.references, min_certainty)
    if printed:
        put_text("\n".join(line for repair in made for line in repair.diff.splitlines()))
    repaired = {(one.file, one.line, one.old) for repair in made for one in repair.references}
    rest = [one for one in found.references if one.changed and (one.file, one.line, one.old) not in repaired]
    for one in rest:
        advice = "write its mapping with --adapter, then `treealign convert`" if one.reader == "adapter" else PERSON
        advice = GUESS if one.guess else advice
        say(f"not repaired: {one.file}:{one.line} {one.old}: {advice}")
    if write:
        left = write_repairs(made, force)
        say(f"wrote {plural(len(made) - len(left), 'file')}")
        for skipped in left:
            say(f"not written: {skipped.file}: {skipped.reason}")
