"""The laws and whether they hold: what `treealign check` prints, and the proof below a suggestion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from treealign.cli.console import fold_line, plural
from treealign.cli.listing import key_lines
from treealign.cli.render_mapping import transform_lines
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.laws import LAWS, Finding, faults
from treealign.tree.keytree import KeyTree

MEANING = {
    "complete": "every model key is filled, every checkpoint key is used",
    "injective": "no two checkpoint keys reach one model key",
    "exact": "shapes agree after the operations",
    "reversible": "back again gives exactly the keys",
    "idempotent": "the model's own names pass unchanged",
    "minimal": "no transform can be dropped, none is dead or shadowed",
}
ASKED_OF_MAPPINGS = tuple(law for law in LAWS if law in MEANING)  # the seventh is asked of matches


def can_run(mapping: ConversionMapping, checkpoint: KeyTree) -> bool:
    """Whether the mapping runs on the checkpoint at all; where it does not, most laws cannot be asked."""
    try:
        mapping.map_keys(checkpoint)
    except MappingError:
        return False
    return True


def law_lines(findings: Sequence[Finding], checkpoint: KeyTree, model: KeyTree, runs: bool) -> Iterator[str]:
    """One line a law, then what breaks it or is to be known about it."""
    for law in ASKED_OF_MAPPINGS:
        here = [finding for finding in findings if finding.law == law]
        state = "BROKEN" if faults(here) else "holds" if runs else "unknown"
        yield f"{law:<12}{state:<9}{MEANING[law] if runs or faults(here) else 'the mapping cannot be run'}"
        for finding in here:
            yield from _finding(finding, checkpoint, model)


def _finding(finding: Finding, checkpoint: KeyTree, model: KeyTree) -> Iterator[str]:
    count = f" ({plural(len(finding.keys), 'key')})" if finding.keys else ""
    yield from fold_line(f"    {'' if finding.fault else 'note: '}{finding.text}{count}", "    ")
    if finding.transform is not None:
        first, *others = transform_lines(finding.transform)
        yield f"      by  {first}"
        yield from (f"          {line}" for line in others)
    tree = next((t for t in (checkpoint, model) if finding.keys and finding.keys[0] in t), checkpoint)
    if len(finding.keys) < len(tree):
        yield from (f"      {line}" for line in key_lines(tree, finding.keys, 10))


def proof_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The verdict on a suggestion's mapping in one line, and the laws that do not hold."""
    broken = faults(findings)
    names = dict.fromkeys(finding.law for finding in broken)
    kept = ", ".join(law for law in ASKED_OF_MAPPINGS if law not in names)
    yield from fold_line(f"laws        {kept}: hold, checked by running the mapping", " " * 12)
    for finding in broken:
        yield from fold_line(
            f"            BROKEN {finding.law}: {finding.text} ({plural(len(finding.keys), 'key')})", " " * 14
        )
    for finding in findings:
        if not finding.fault and finding.law == "exact":
            yield f"dtypes      {finding.text}, {plural(len(finding.keys), 'key')}"


def laws_json(findings: Sequence[Finding], runs: bool = True) -> dict[str, Any]:
    """Law by law: whether it holds (null where it could not be asked), and the findings."""
    laws = {}
    for law in ASKED_OF_MAPPINGS:
        here = [finding for finding in findings if finding.law == law]
        holds = False if faults(here) else True if runs else None
        laws[law] = {"holds": holds, "findings": [_finding_json(finding) for finding in here]}
    return laws


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "text": finding.text,
        "fault": finding.fault,
        "keys": list(finding.keys),
        "transform": None if finding.transform is None else repr(finding.transform),
    }
