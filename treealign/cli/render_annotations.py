"""An audit for machines that show findings beside the lines they are about: SARIF 2.1.0, and GitHub's annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from treealign.cli.render_audit import severity_text

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit, Change, Reference

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
    level = {"error": "error", "warning": "warning", "notice": "note"}[_level(one)]
    return {
        "ruleId": "change",
        "level": level,
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
    return "error" if one.severity.breaks else "warning" if "no" in one.severity.as_dict().values() else "notice"


def github_lines(audit: Audit) -> Iterator[str]:
    """The same as workflow commands of GitHub Actions, which it shows beside the lines."""
    for one in audit.changes:
        yield f"::{_level(one)} title={_property(one.kind)}::{_message(f'{one.summary}: {severity_text(one)}')}"
    for ref in audit.references:
        if ref.changed:
            where = f"file={_property(ref.file)},line={max(ref.line, 1)},col={ref.column + 1}"
            yield f"::error {where},title={_property('stale name')}::{_message(_said(ref))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
