"""The page of `treealign lint`: findings by kind, worst first, each with its entry, its rule and its keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from treealign.cli.console import plural
from treealign.cli.page_parts import Note, Page, Section
from treealign.cli.page_verdicts import lint_verdict
from treealign.cli.render_lint import count_entries, place

if TYPE_CHECKING:
    from treealign.dialects.lint_checks.results import EntryReport, Finding, Lint


def lint_page(found: Lint, title: str) -> Page:
    """All findings, notes included, and what could not be checked."""
    levels = Counter(finding.level for finding in found.findings)
    models = sum(len(report.models) for report in found.entries)
    clean = [report for report in found.entries if report.models and not report.findings]
    return Page(
        title,
        facts=(
            f"transformers {found.version}: {count_entries(len(found.entries))}, {plural(models, 'model')}",
            ", ".join(plural(levels[level], level) for level in ("error", "warning", "note")),
            f"{count_entries(len(clean))} without a finding",
        ),
        sections=(*_sections(found), *_unchecked(found.entries)),
        verdict=lint_verdict(found),
    )


def _sections(found: Lint) -> Iterator[Section]:
    from treealign.dialects.lint_checks.results import KINDS

    rules = {report.entry: report.rules for report in found.entries}
    for kind, (_, says) in KINDS.items():
        notes = tuple(_note(finding, rules[finding.entry]) for finding in found.of_kind(kind))
        if notes:
            yield Section(f"{kind}: {says}", notes)


def _note(finding: Finding, rules: tuple[str, ...]) -> Note:
    rule = "" if finding.rule is None else f"  {rules[finding.rule]}"
    models = f"\nin {', '.join(finding.models)}" if finding.models else ""
    return Note(finding.level, f"{place(finding)}{rule}", finding.says + models, keys=finding.facts)


def _unchecked(entries: tuple[EntryReport, ...]) -> Iterator[Section]:
    left = [report for report in entries if report.unchecked and not report.models]
    if left:
        notes = (Note("note", report.entry, "\n".join(f"{k}: {why}" for k, why in report.unchecked)) for report in left)
        yield Section("not checked: no model could be built", tuple(notes))
