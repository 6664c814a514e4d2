"""A lint as SARIF 2.1.0, which code hosts show beside the lines of ``conversion_mapping.py``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from treealign import __version__
from treealign.dialects.lint_checks.results import KINDS, Finding, Lint
from treealign.dialects.transformers.installed import REGISTRY

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
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
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, rules: Sequence[str], lines: Sequence[str]) -> dict[str, Any]:
    rule = "" if finding.rule is None else f" {rules[finding.rule]}"
    text = "\n".join([f"{finding.entry}{rule}: {finding.says}", *finding.facts])
    where = finding.entry if finding.rule is None else f"{finding.entry}[{finding.rule}]"
    # code hosts take no result without a file; some entries are made by code, and have no line of their own
    file: dict[str, Any] = {"artifactLocation": {"uri": _FILE, "uriBaseId": "%SRCROOT%"}}
    line = _line(finding.entry, lines)
    file |= {"region": {"startLine": line}} if line else {}
    place = {"physicalLocation": file, "logicalLocations": [{"fullyQualifiedName": where}]}
    return {
        "ruleId": finding.kind,
        "ruleIndex": list(KINDS).index(finding.kind),
        "level": finding.level,
        "message": {"text": text},
        "locations": [place],
    }


def _line(entry: str, lines: Sequence[str]) -> int:
    """Where an entry stands in the source, counted from 1; 0 where that is not seen."""
    start = re.compile(rf"\s*(\"{re.escape(entry)}\":|mapping\[\"{re.escape(entry)}\"\])")
    return next((number for number, line in enumerate(lines, start=1) if start.match(line)), 0)
