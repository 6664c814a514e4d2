"""The verb `treealign lock`, and what it shares with the plugin for pytest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treealign.cli.arguments import Json
from treealign.cli.console import fold_line, plural, put_json, put_lines, say
from treealign.cli.guesses import AcceptGuesses, taken, write_mapping
from treealign.formats.legible import printable

if TYPE_CHECKING:
    from treealign.changes.locking import LockCheck


def lock(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL…", help="As for `treealign show`; by default all that are locked already."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The lock.")] = Path("treealign.lock"),
    check: Annotated[bool, typer.Option("--check", help="Say what changed since; write nothing.")] = False,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: write the mapping old -> new of the model that changed."),
    ] = None,
    accept_guesses: AcceptGuesses = False,
    json: Json = False,
) -> None:
    """Write the trees of models into a lock, beside those it holds, or check that they are as locked."""
    if mapping is not None and not check:
        raise typer.BadParameter("--mapping needs --check: it is about what changed")
    if not check:
        _write(models or [], output, json)
        return
    found = list(checks(output, models))
    if json:
        put_json({"lock": str(output), "models": [check_json(one) for one in found]})
    else:
        put_lines(line for one in found for line in check_lines(one, output))
    if mapping is not None:
        _write_mapping(found, mapping, accept_guesses)
    raise typer.Exit(0 if all(one.ok for one in found) else 1)


def _write(models: list[str], output: Path, json: bool) -> None:
    from treealign.changes.locking import read_lock, write_lock
    from treealign.cli.models import resolve_model

    if not models and not output.exists():
        raise typer.BadParameter("Missing argument 'MODEL…'.")
    locked = read_lock(output) if output.exists() else {}
    trees = {model: resolve_model(model) for model in models or locked}
    write_lock(output, {**locked, **trees})
    if json:
        put_json({"lock": str(output), "models": {name: len(tree) for name, tree in trees.items()}})
    for name, tree in trees.items():
        say(f"locked {name}: {plural(len(tree), 'key')} in {plural(len(tree.folds), 'pattern')}")
    say(f"wrote {printable(str(output))}: commit it; `treealign lock --check` compares")


def checks(lock: Path, models: Iterable[str] | None = None) -> Iterator[LockCheck]:
    """Check models of a lock, all of them unless some are named.

    Raises
    ------
    TreealignError
        There is no lock, a model is not in it, or cannot be built.
    """
    from treealign.changes.locking import check_lock, read_lock
    from treealign.cli.models import resolve_model
    from treealign.errors import TreealignError

    trees = read_lock(lock)
    unknown = [model for model in models or () if model not in trees]
    if unknown:
        hint = f"locked are {', '.join(trees)}"
        raise TreealignError("not in the lock", where=str(lock), facts=unknown, hint=hint)
    for name in models or trees:
        yield check_lock(lock, name, trees[name], resolve_model(name))


def check_lines(one: LockCheck, lock: Path) -> Iterator[str]:
    """What a check found, for a person."""
    from treealign.changes.locking import MAPPINGS
    from treealign.cli.render_audit import change_lines

    if one.changes is None:
        yield f"{one.model}: as locked"
        return
    if one.covered_by:
        yield f"{one.model}: changed, and {one.covered_by} leads from the lock to it"
        return
    yield f"{one.model}: not as locked in {lock}"
    yield from change_lines(one.changes.changes)
    where = lock.parent / MAPPINGS
    yield ""
    yield from fold_line(
        f"hint: if this is meant, renew the lock (treealign lock {one.model} -o {lock}); or, to promise that old "
        f"checkpoints still load, commit the mapping old -> new as {where} beside it (treealign lock --check "
        "--mapping writes it)"
    )


def check_json(one: LockCheck) -> dict[str, object]:
    """The same as data."""
    changes = one.changes.as_dict()["changes"] if one.changes is not None else []
    return {"model": one.model, "ok": one.ok, "covered_by": one.covered_by or None, "changes": changes}


def _write_mapping(found: list[LockCheck], path: Path, accept: bool) -> None:
    changed = [one for one in found if one.changes is not None]
    if len(changed) != 1:
        say(f"no mapping written: {plural(len(changed), 'model')} changed; name one")
        return
    assert changed[0].changes is not None
    write_mapping(taken(changed[0].changes.mapping, accept), path, "old -> new")
