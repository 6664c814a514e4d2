"""`print` of a result, and its HTML in a notebook: what the command line prints for it, within 100 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from treealign.cli.console import fitted, fold_line, plural
from treealign.cli.render_mapping import plain_lines
from treealign.formats.legible import printable
from treealign.tree.fold import fold_names

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit
    from treealign.checkpoint.conversion.converting import ConversionResult
    from treealign.checkpoint.loading import LoadResult
    from treealign.checkpoint.saving import SaveResult
    from treealign.dialects.lint_checks.results import Lint
    from treealign.dialects.regex_reading import Reading
    from treealign.run.results import Proof
    from treealign.suggestion import Suggestion

COLUMNS = 100
_STYLE = "white-space:pre-wrap;font-size:13px;line-height:1.4;max-width:100ch"


def text(value: Any) -> str:
    """A result as lines of at most 100 columns."""
    return "\n".join(fitted(map(printable, _lines(value)), COLUMNS))


def html(value: Any) -> str:
    """The same for a notebook: the verdict, and below it all lines."""
    ok = getattr(value, "ok", None)
    verdict = "" if ok is None else f"<strong>{'nothing is open' if ok else 'something is open'}</strong>"
    return f'<div>{verdict}<pre style="{_STYLE}">{escape(text(value))}</pre></div>'


def _lines(value: Any) -> Iterable[str]:
    kinds: dict[str, Callable[[Any], Iterable[str]]] = {
        "Suggestion": _suggestion,
        "ConversionMapping": plain_lines,
        "LoadResult": _load,
        "SaveResult": _save,
        "ConversionResult": _conversion,
        "Audit": _audit,
        "Proof": _proof,
        "Lint": _lint,
        "Reading": _reading,
    }
    render = next((kinds[kind.__name__] for kind in type(value).__mro__ if kind.__name__ in kinds), None)
    return [repr(value)] if render is None else render(value)


def _suggestion(found: Suggestion) -> Iterator[str]:
    from treealign.cli.render_suggestion import suggestion_lines

    left, right = found.alignment.checkpoint, found.alignment.model
    return suggestion_lines(found, left, right, (left.source or "in memory", right.source or "in memory"))


def _load(result: LoadResult) -> Iterator[str]:
    filled = {key for step in result.record.steps for key in step.targets}
    by = {"mapping": "the mapping given", "record": "the record beside the files"}.get(result.decided_by)
    yield f"loaded      {plural(len(filled), 'key')} of the model, by {by or 'a suggestion'}"
    yield from plain_lines(result.mapping)
    lists = (
        ("missing", "keys of the model that were not filled", result.missing_keys),
        ("unexpected", "keys of the checkpoint that were not used", result.unexpected_keys),
        ("recomputed", "keys for buffers that the model computes itself", result.recomputed_keys),
        ("uninitialised", "buffers without values yet", result.uninitialised_keys),
    )
    for name, what, keys in lists:
        if keys:
            yield f"{name:<12}{plural(len(keys), 'key')}: {what}"
            yield from (f"    {line}" for line in fold_names(keys))
    for mismatch in result.mismatched_keys:
        yield f"mismatched  {mismatch}"
    for other in result.other_settings:
        yield f"settings    the adapter computes otherwise: {other}"
    if result.ambiguous:
        yield f"ambiguous   {plural(len(result.ambiguous), 'question')} left open: suggest lists them"
    if result.casts:
        yield f"cast        {plural(len(result.casts), 'key')}, from {', '.join(sorted(set(result.casts.values())))}"


def _save(result: SaveResult) -> Iterator[str]:
    yield from fold_line(f"saved       {plural(len(result.keys), 'key')} in {', '.join(result.files)}", " " * 12)
    for key, (now, before) in result.uncast.items():
        yield f"uncast      {key}: saved as {now}, loaded from {before}"
    if result.approximate:
        yield f"approximate {plural(len(result.approximate), 'key')} behind a conversion that cannot be undone exactly"


def _conversion(result: ConversionResult) -> Iterable[str]:
    from treealign.cli.render_conversion import conversion_lines

    return conversion_lines(result, reverse=False, in_place=False)


def _audit(found: Audit) -> Iterable[str]:
    from treealign.cli.render_audit import audit_lines

    labels = found.old.source or "in memory", found.new.source or "in memory"
    return audit_lines(found, labels, scanned=bool(found.references or found.skipped), everything=False)


def _proof(proof: Proof) -> Iterator[str]:
    """The verdict, and the keys of which the run says nothing, by the reason."""
    yield from fold_line(proof.summary, " " * 4)
    reasons: dict[str, list[str]] = {}
    for key, why in proof.unproved.items():
        reasons.setdefault(why, []).append(key)
    for why, keys in reasons.items():
        yield from fold_line(f"unproved    {plural(len(keys), 'key')}: {why}", " " * 12)
        yield from (f"    {line}" for line in fold_names(keys))


def _lint(found: Lint) -> Iterable[str]:
    from treealign.cli.render_lint import lint_lines

    return lint_lines(found, notes=True)


def _reading(read: Reading) -> Iterator[str]:
    """The mapping that was read, and the rules that could not be said."""
    yield from plain_lines(read.mapping)
    for rule, why in read.unread:
        yield from fold_line(f"unread      {rule}: {why}", " " * 12)
