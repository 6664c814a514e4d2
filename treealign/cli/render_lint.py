"""A lint as it is printed, as a page and as SARIF: findings by kind, worst first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from treealign import __version__
from treealign.cli.console import fold_line, plural
from treealign.cli.page import Note, Page, Section, Verdict
from treealign.dialects.lint_checks.results import KINDS, EntryReport, Finding, Lint
from treealign.dialects.transformers.installed import REGISTRY

_MOST_FACTS = 3


def lint_lines(found: Lint, notes: bool = False) -> Iterator[str]:
    """The lint for a person; findings that are notes only where they are wanted."""
    yield ": ".join(_totals(found))
    rules = {report.entry: report.rules for report in found.entries}
    for kind, (level, says) in KINDS.items():
        shown = list(found.of_kind(kind)) if notes or level != "note" else []
        if shown:
            yield ""
            yield from fold_line(f"{level}: {kind}: {says}")
            yield from _kind_lines(shown, rules)
    yield from _unchecked_lines(found)
    unlisted = 0 if notes else _levels(found)["note"]
    if unlisted:
        yield ""
        yield f"{plural(unlisted, 'note')} not listed: --notes"


def _totals(found: Lint) -> tuple[str, str]:
    """What was checked, and how many findings there are of each level."""
    levels, models = _levels(found), sum(len(report.models) for report in found.entries)
    checked = f"transformers {found.version}: {_entries(len(found.entries))}, {plural(models, 'model')}"
    return checked, ", ".join(plural(levels[level], level) for level in ("error", "warning", "note"))


def _levels(found: Lint) -> Counter[str]:
    return Counter(finding.level for finding in found.findings)


def _clean(found: Lint) -> int:
    """How many entries were checked and have no finding."""
    return sum(bool(report.models) and not report.findings for report in found.entries)


def _unchecked(found: Lint) -> list[EntryReport]:
    return [report for report in found.entries if report.unchecked and not report.models]


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _kind_lines(findings: list[Finding], rules: dict[str, tuple[str, ...]]) -> Iterator[str]:
    grouped: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        text = "" if one.rule is None else rules[one.entry][one.rule]
        grouped.setdefault((text, one.says, *one.facts), []).append(one)
    said = ""
    for (text, says, *facts), alike in grouped.items():
        where = ", ".join(_place(one) for one in alike)
        yield from fold_line(f"  {where}", "    ")
        if text:
            yield f"      {text}"
        # a kind whose findings all say the same says it in its heading
        if says != said:
            yield from fold_line(f"      {says}", "      ")
        said = says
        yield from (f"        {fact}" for fact in facts[:_MOST_FACTS])


def _place(finding: Finding) -> str:
    return finding.entry if finding.rule is None else f"{finding.entry}[{finding.rule}]"


def _unchecked_lines(found: Lint) -> Iterator[str]:
    unchecked = _unchecked(found)
    if unchecked:
        yield ""
        yield f"not checked, for no model could be built: {_entries(len(unchecked))}"
    for report in unchecked:
        yield from fold_line(f"  {report.entry}: {report.unchecked[0][1]}", "    ")


# -- the page ----------------------------------------------------------------------------------------------------------


def lint_page(found: Lint, title: str) -> Page:
    """All findings, notes included, and what could not be checked."""
    facts = (*_totals(found), f"{_entries(_clean(found))} without a finding")
    return Page(title, facts=facts, sections=(*_sections(found), *_unchecked_section(found)), verdict=_verdict(found))


def _sections(found: Lint) -> Iterator[Section]:
    rules = {report.entry: report.rules for report in found.entries}
    for kind, (_, says) in KINDS.items():
        notes = tuple(_note(finding, rules[finding.entry]) for finding in found.of_kind(kind))
        if notes:
            yield Section(f"{kind}: {says}", notes)


def _note(finding: Finding, rules: tuple[str, ...]) -> Note:
    rule = "" if finding.rule is None else f"  {rules[finding.rule]}"
    models = f"\nin {', '.join(finding.models)}" if finding.models else ""
    return Note(finding.level, f"{_place(finding)}{rule}", finding.says + models, keys=finding.facts)


def _unchecked_section(found: Lint) -> Iterator[Section]:
    left = _unchecked(found)
    if left:
        notes = (Note("note", report.entry, "\n".join(f"{k}: {why}" for k, why in report.unchecked)) for report in left)
        yield Section("not checked: no model could be built", tuple(notes))


def _verdict(found: Lint) -> Verdict:
    """What a registry comes to."""
    levels = _levels(found)
    holds = (f"{_clean(found)} of {len(found.entries)} entries have no finding",)
    if found.ok:
        return Verdict("ok", "No error and no warning", holds)
    left = tuple(plural(levels[level], level) for level in ("error", "warning") if levels[level])
    todo = ("each finding below names its entry, its rule and the keys; errors first",)
    return Verdict("broken" if levels["error"] else "open", ", ".join(left), holds, left, todo)


# -- SARIF -------------------------------------------------------------------------------------------------------------


_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FILE = "src/transformers/conversion_mapping.py"


def sarif(found: Lint) -> dict[str, Any]:
    """The log, with one run."""
    lines = Path(str(import_module(REGISTRY).__file__)).read_text(encoding="utf-8").splitlines()
    kinds = [
        {"id": kind, "shortDescription": {"text": says}, "defaultConfiguration": {"level": level}}
        for kind, (level, says) in KINDS.items()
    ]
    rules = {report.entry: report.rules for report in found.entries}
    run = {
        "tool": {"driver": {"name": "treealign lint", "version": __version__, "rules": kinds}},
        "properties": {"transformers": found.version},
        "results": [_result(one, rules[one.entry], lines) for one in found.findings],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, rules: Sequence[str], lines: Sequence[str]) -> dict[str, Any]:
    rule = "" if finding.rule is None else f" {rules[finding.rule]}"
    text = "\n".join([f"{finding.entry}{rule}: {finding.says}", *finding.facts])
    # code hosts take no result without a file; some entries are made by code, and have no line of their own
    file: dict[str, Any] = {"artifactLocation": {"uri": _FILE, "uriBaseId": "%SRCROOT%"}}
    line = _line(finding.entry, lines)
    file |= {"region": {"startLine": line}} if line else {}
    where = {"physicalLocation": file, "logicalLocations": [{"fullyQualifiedName": _place(finding)}]}
    return {
        "ruleId": finding.kind,
        "ruleIndex": list(KINDS).index(finding.kind),
        "level": finding.level,
        "message": {"text": text},
        "locations": [where],
    }


def _line(entry: str, lines: Sequence[str]) -> int:
    """Where an entry stands in the source, counted from 1; 0 where that is not seen."""
    start = re.compile(rf"\s*(\"{re.escape(entry)}\":|mapping\[\"{re.escape(entry)}\"\])")
    return next((number for number, line in enumerate(lines, start=1) if start.match(line)), 0)
