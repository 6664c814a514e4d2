"""What `treealign lint` prints: findings by kind, worst first; what several entries share is said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from treealign.cli.console import fold_line, plural

if TYPE_CHECKING:
    from treealign.dialects.lint_checks.results import Finding, Lint

_MOST_FACTS = 3


def lint_lines(found: Lint, notes: bool = False) -> Iterator[str]:
    """The lint for a person; findings that are notes only where they are wanted."""
    from treealign.dialects.lint_checks.results import KINDS

    levels = Counter(finding.level for finding in found.findings)
    models = sum(len(report.models) for report in found.entries)
    counts = ", ".join(plural(levels[level], level) for level in ("error", "warning", "note"))
    yield f"transformers {found.version}: {count_entries(len(found.entries))}, {plural(models, 'model')}: {counts}"
    rules = {report.entry: report.rules for report in found.entries}
    for kind, (level, says) in KINDS.items():
        shown = list(found.of_kind(kind)) if notes or level != "note" else []
        if shown:
            yield ""
            yield from fold_line(f"{level}: {kind}: {says}")
            yield from _kind_lines(shown, rules)
    yield from _unchecked_lines(found)
    if levels["note"] and not notes:
        yield ""
        yield f"{plural(levels['note'], 'note')} not listed: --notes"


def count_entries(count: int) -> str:
    """How many entries, in words."""
    return "1 entry" if count == 1 else f"{count:,} entries"


def _kind_lines(findings: list[Finding], rules: dict[str, tuple[str, ...]]) -> Iterator[str]:
    grouped: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        text = "" if one.rule is None else rules[one.entry][one.rule]
        grouped.setdefault((text, one.says, *one.facts), []).append(one)
    said = ""
    for (text, says, *facts), alike in grouped.items():
        where = ", ".join(place(one) for one in alike)
        yield from fold_line(f"  {where}", "    ")
        if text:
            yield f"      {text}"
        # a kind whose findings all say the same says it in its heading
        if says != said:
            yield from fold_line(f"      {says}", "      ")
        said = says
        yield from (f"        {fact}" for fact in facts[:_MOST_FACTS])


def place(finding: Finding) -> str:
    """The entry, and the number of its rule if it is about one."""
    return finding.entry if finding.rule is None else f"{finding.entry}[{finding.rule}]"


def _unchecked_lines(found: Lint) -> Iterator[str]:
    unchecked = [report for report in found.entries if report.unchecked and not report.models]
    if unchecked:
        yield ""
        yield f"not checked, for no model could be built: {count_entries(len(unchecked))}"
    for report in unchecked:
        yield from fold_line(f"  {report.entry}: {report.unchecked[0][1]}", "    ")
