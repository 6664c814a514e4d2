"""`--html`: one page with everything in it, from data that is finished; the page loads nothing and sends nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from os import PathLike
from typing import TYPE_CHECKING, Any

from treealign.cli.console import plural
from treealign.cli.page_parts import Note, Page, Section
from treealign.cli.page_verdicts import asks, audit_verdict, suggestion_verdict
from treealign.cli.paired_trees import paired_trees
from treealign.cli.render_mapping import transform_lines
from treealign.errors import TreealignError, install_hint
from treealign.formats.atomic import written_whole
from treealign.formats.legible import printable
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.mapping_json import mapping_to_data

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit
    from treealign.suggestion import Suggestion

_MOST_NOTES = 500


def write_page(path: str | PathLike[str], page: Page) -> None:
    """Write a page, whole or not at all.

    Raises
    ------
    TreealignError
        jinja2 is not installed, or the file cannot be written.
    """
    with written_whole(path) as file:
        file.write(page_text(page).encode("utf-8"))


def page_text(page: Page) -> str:
    """The HTML of a page. Raises `TreealignError` where jinja2 is not installed."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        hint = install_hint("html")
        raise TreealignError("a report as HTML needs jinja2, which is not installed", hint=hint) from error
    folder = files("treealign.cli") / "report"
    parts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js", "html")}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_printable)
    template = environment.from_string(parts["html"])
    data = page.trees.as_dict() if page.trees is not None else None
    return template.render(page=page, css=parts["css"], js=parts["js"], data=_safe(data))


def _printable(value: Any) -> Any:
    """What a page shows of a name that holds controls or marks of direction; its markup is left alone."""
    return printable(value, keep="\n\t") if type(value) is str else value


def _safe(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever the names hold."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def suggestion_page(suggestion: Suggestion, labels: tuple[str, str]) -> Page:
    """The page of `treealign suggest`."""
    left, right = suggestion.alignment.checkpoint, suggestion.alignment.model
    open_ends = Section("Open", tuple(_open_notes(suggestion)))
    return Page(
        f"suggest: {labels[0]} → {labels[1]}",
        (f"checkpoint  {labels[0]}", f"model  {labels[1]}"),
        (
            f"{plural(len(left), 'checkpoint key')}, {plural(len(right), 'model key')}",
            f"{plural(len(suggestion.mapping), 'transform')}, checkpoint → model",
        ),
        (open_ends,) if open_ends.notes else (),
        paired_trees(suggestion.alignment),
        suggestion_verdict(suggestion, labels),
        asks(suggestion),
        _rules(suggestion.mapping),
        _mapping_text(suggestion.mapping),
        "checkpoint → model",
    )


def _open_notes(suggestion: Suggestion) -> Iterator[Note]:
    from treealign.changes.leaves import whole_modules

    sides = suggestion.alignment.checkpoint, suggestion.alignment.model
    listed = ("unexpected", sides[0], suggestion.unexpected_keys), ("missing", sides[1], suggestion.missing_keys)
    for title, tree, keys in listed:
        for name, members in whole_modules(tree, keys)[:_MOST_NOTES]:
            yield Note("error", f"{title}: {plural(len(members), 'key')}", show=name)
    yield from (Note("error", "mismatched", text) for text in dict.fromkeys(map(str, suggestion.mismatched_keys)))
    yield from (Note("note", "finding", text) for text in suggestion.findings)


def audit_page(audit: Audit, labels: tuple[str, str]) -> Page:
    """The page of `treealign audit`."""
    sections = Section("Changes", tuple(_change_notes(audit))), Section("References", tuple(_reference_notes(audit)))
    return Page(
        f"audit: {labels[0]} → {labels[1]}",
        (f"old  {labels[0]}", f"new  {labels[1]}"),
        (
            f"{plural(len(audit.old), 'old key')}, {plural(len(audit.new), 'new key')}",
            f"{plural(len(audit.changes), 'change')}, old → new",
        ),
        tuple(section for section in sections if section.notes),
        paired_trees(audit.suggestion.alignment),
        audit_verdict(audit, labels),
        asks(audit.suggestion),
        _rules(audit.mapping),
        _mapping_text(audit.mapping),
        "old → new",
    )


def _change_notes(audit: Audit) -> Iterator[Note]:
    from treealign.cli.render_audit import severity_text

    for one in audit.changes:
        answers = one.severity.as_dict().values()
        level = "error" if one.severity.breaks else "warning" if "no" in answers else "note"
        first = one.pairs[0] if one.pairs else ("", "")
        doubt = "" if one.certain else " (a guess: not certain)"
        yield Note(
            level, f"{one.summary}{doubt}", f"{plural(one.keys, 'key')}; {severity_text(one)}", first[0] or first[1]
        )


def _reference_notes(audit: Audit) -> Iterator[Note]:
    for one in audit.references:
        if one.changed:
            yield Note("error", f"{one.file}:{one.line} {one.status}", f"{one.old}: {one.advice}")


def _rules(mapping: ConversionMapping) -> tuple[str, ...]:
    numbered = ((at, list(transform_lines(transform))) for at, transform in enumerate(mapping, 1))
    return tuple(f"{at if n == 0 else '':>3}  {line}" for at, lines in numbered for n, line in enumerate(lines))


def _mapping_text(mapping: ConversionMapping) -> str:
    return json.dumps(mapping_to_data(mapping), indent=2, ensure_ascii=False) if len(mapping) else ""
