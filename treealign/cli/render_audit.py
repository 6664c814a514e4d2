"""An audit as it is printed, as a page, and as SARIF or GitHub's annotations: changes, whom they break, references."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from treealign.cli.console import fold_line, plural, width
from treealign.cli.page import Note, Page, Section, Verdict
from treealign.cli.paired_trees import paired_trees
from treealign.cli.render_mapping import mapping_text, rule_rows
from treealign.cli.render_suggestion import asks

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit, Change, Reference

_LOADS = {"yes": "loads", "mapped": "loads through the mapping", "no": "does not load whole"}
_SAVES = {"yes": "can be saved", "mapped": "can be saved through the mapping", "no": "cannot be saved"}
_RESOLVES = {"yes": "old attribute paths hold", "no": "old attribute paths are gone"}
_INDENT = " " * 9
_MOST_PAIRS = 4


def audit_json(audit: Audit, everything: bool) -> dict[str, Any]:
    """The audit as data; only the references whose meaning changed, unless `everything` is wanted."""
    data = audit.as_dict()
    listed = [one for one in audit.references if everything or one.changed]
    return {"changes": data["changes"], "references": [one.as_dict() for one in listed]}


def audit_lines(audit: Audit, labels: tuple[str, str], *, scanned: bool, everything: bool) -> Iterator[str]:
    """The audit for a person."""
    for role, label, tree in (("old", labels[0], audit.old), ("new", labels[1], audit.new)):
        yield f"{role}  {label}  {plural(len(tree), 'key')}"
    yield ""
    yield from change_lines(audit.changes)
    if scanned:
        yield ""
        yield from _reference_lines(audit, everything)


def change_lines(changes: tuple[Change, ...]) -> Iterator[str]:
    """The changes, each with its names and whom it breaks."""
    if not changes:
        yield "no change: both trees have the same names, shapes, dtypes, classes and ties"
        return
    yield f"{plural(len(changes), 'change')}, old -> new:"
    yield "    keys"
    for change in changes:
        yield from fold_line(f"{change.keys:>8,} {change.summary}{_doubt(change)}", _INDENT)
        yield from _pair_lines(change)
        yield from fold_line(f"{_INDENT}{severity_text(change)}", _INDENT)


def _doubt(change: Change) -> str:
    return "" if change.certain else " (a guess: not certain)"


def _pair_lines(change: Change) -> Iterator[str]:
    pairs = [(old, new) for old, new in change.pairs if old and new and old != new]
    for old, new in pairs[:_MOST_PAIRS]:
        line = f"{_INDENT}{old} -> {new}"
        yield from [line] if len(line) <= width() else [f"{_INDENT}{old}", f"{_INDENT}-> {new}"]
    if len(pairs) > _MOST_PAIRS:
        yield f"{_INDENT}… and {len(pairs) - _MOST_PAIRS} more"


def severity_text(change: Change) -> str:
    """Whom a change breaks, in words."""
    severity = change.severity
    if (severity.loads, severity.saves, severity.resolves) == ("yes", "yes", "yes"):
        return "breaks neither checkpoints nor attribute paths"
    old = f"an old checkpoint {_LOADS[severity.loads]}"
    return f"{old}; a new one {_SAVES[severity.saves]} for old readers; {_RESOLVES[severity.resolves]}"


def _reference_lines(audit: Audit, everything: bool) -> Iterator[str]:
    listed = [one for one in audit.references if everything or one.changed]
    counts = Counter(one.status for one in audit.references)
    yield ", ".join(f"{plural(n, 'reference')} {_verb(status, n)}" for status, n in sorted(counts.items())) or (
        "no reference to the old tree"
    )
    for one in listed:
        yield from _reference(one)
    if audit.skipped:
        yield ""
        yield f"not read: {plural(len(audit.skipped), 'file')}"
        for skipped in audit.skipped[:20]:
            yield f"    {skipped.file}: {skipped.reason}"
        if len(audit.skipped) > 20:
            yield f"    … and {len(audit.skipped) - 20} more"


def _verb(status: str, count: int) -> str:
    return status if count == 1 else status.replace("matches", "match")


def _reference(one: Reference) -> Iterator[str]:
    where = f"{one.file}:{one.line}" if one.line else one.file
    yield f"  {where}  {one.status}"
    yield f"      {one.old}"
    if one.changed:
        new = one.new if one.new is not None else "(no spelling means the same)"
        yield f"   -> {new}{'  (a guess)' if one.guess else ''}"


# -- the page ----------------------------------------------------------------------------------------------------------


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
        _verdict(audit, labels),
        asks(audit.suggestion),
        rule_rows(audit.mapping),
        mapping_text(audit.mapping),
        "old → new",
    )


def _change_notes(audit: Audit) -> Iterator[Note]:
    for one in audit.changes:
        first = one.pairs[0] if one.pairs else ("", "")
        text = f"{plural(one.keys, 'key')}; {severity_text(one)}"
        yield Note(_level(one), f"{one.summary}{_doubt(one)}", text, first[0] or first[1])


def _reference_notes(audit: Audit) -> Iterator[Note]:
    for one in audit.references:
        if one.changed:
            yield Note("error", f"{one.file}:{one.line} {one.status}", f"{one.old}: {one.advice}")


def _verdict(found: Audit, labels: tuple[str, str]) -> Verdict:
    """What an update comes to."""
    broken = [change for change in found.changes if change.severity.breaks]
    stale = [reference for reference in found.references if reference.changed]
    paths = [change for change in found.changes if change.severity.resolves == "no"]
    words = " ".join(shlex.quote(label) for label in labels)
    if not found.changes and not stale:
        return Verdict("ok", "Nothing changed", ("old checkpoints, adapters and attribute paths work as they are",))
    holds = () if broken else ("old checkpoints load, as they are or through the mapping",)
    left = (
        *((f"{plural(len(broken), 'change')} that no mapping repairs",) if broken else ()),
        *((f"{plural(len(paths), 'change')} by which old attribute paths are gone",) if paths else ()),
        *((f"{plural(len(stale), 'reference')} to old names that no longer mean what they did",) if stale else ()),
    )
    places = sorted({str(Path(reference.file).parent) for reference in stale})
    scan = f" --scan {' --scan '.join(map(shlex.quote, places))}"
    todo = (
        *((f"treealign audit {words}{scan} --fix",) if stale else ()),
        *((f"treealign audit {words} -o mapping.json",) if found.changes else ()),
        *((f"treealign audit {words} --shim old_names.py",) if paths else ()),
    )
    title = plural(len(found.changes), "change") + (f", {plural(len(stale), 'stale reference')}" if stale else "")
    return Verdict("broken" if broken or stale else "open", title, holds, left, todo)


# -- beside the lines of code ------------------------------------------------------------------------------------------


_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = {
    "reference": "A name of the old tree that no longer means what it meant",
    "change": "A change of the module tree",
}


def sarif(audit: Audit) -> dict[str, Any]:
    """The changes, and the references whose meaning changed, as a SARIF log."""
    from treealign.formats.tree_json import installed_libraries

    results = [_change_result(one) for one in audit.changes]
    results += [_reference_result(one) for one in audit.references if one.changed]
    rules = [{"id": key, "shortDescription": {"text": text}} for key, text in _RULES.items()]
    driver = {"name": "treealign", "version": installed_libraries().get("treealign", "0"), "rules": rules}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _change_result(one: Change) -> dict[str, Any]:
    names = [{"fullyQualifiedName": old or new, "kind": "member"} for old, new in one.pairs]
    text = f"{one.summary} ({one.keys:,} keys): {severity_text(one)}"
    return {
        "ruleId": "change",
        "level": _level(one),
        "message": {"text": text},
        "locations": [{"logicalLocations": names}] if names else [],
    }


def _reference_result(one: Reference) -> dict[str, Any]:
    region = {"startLine": max(one.line, 1), "startColumn": one.column + 1}
    where = {"artifactLocation": {"uri": quote(one.file)}, "region": region}
    return {
        "ruleId": "reference",
        "level": "error",
        "message": {"text": _said(one)},
        "locations": [{"physicalLocation": where}],
    }


def _said(one: Reference) -> str:
    return f"`{one.old}` {one.status}: {one.advice}"


def _level(one: Change) -> str:
    return "error" if one.severity.breaks else "warning" if "no" in one.severity.as_dict().values() else "note"


def github_lines(audit: Audit) -> Iterator[str]:
    """The same as workflow commands of GitHub Actions, which it shows beside the lines."""
    for one in audit.changes:
        level = _level(one).replace("note", "notice")
        yield f"::{level} title={_property(one.kind)}::{_message(f'{one.summary}: {severity_text(one)}')}"
    for ref in audit.references:
        if ref.changed:
            where = f"file={_property(ref.file)},line={max(ref.line, 1)},col={ref.column + 1}"
            yield f"::error {where},title={_property('stale name')}::{_message(_said(ref))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
