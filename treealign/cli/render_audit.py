"""What `treealign audit` prints: the changes, whom they break, the references, what was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from treealign.cli.console import fold_line, plural, width

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
        doubt = "" if change.certain else " (a guess: not certain)"
        yield from fold_line(f"{change.keys:>8,} {change.summary}{doubt}", _INDENT)
        yield from _pair_lines(change)
        yield from fold_line(f"{_INDENT}{severity_text(change)}", _INDENT)


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
