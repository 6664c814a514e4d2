"""A suggestion as plain data, for `treealign suggest --json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from treealign.cli.render_laws import laws_json
from treealign.mapping.laws import Finding
from treealign.mapping.mapping_json import mapping_to_data
from treealign.mapping.operations import sequence_to_json

if TYPE_CHECKING:
    from treealign.suggestion import Match, Suggestion


def suggestion_json(suggestion: Suggestion, laws: Sequence[Finding], labels: tuple[str, str]) -> dict[str, Any]:
    """Everything a `Suggestion` says; keys are written out, nothing is folded."""
    return {
        "checkpoint": labels[0],
        "model": labels[1],
        "direction": "checkpoint -> model",
        "ok": suggestion.ok,
        "mapping": mapping_to_data(suggestion.mapping),
        "laws": laws_json(laws),
        "fewest": {"proved": suggestion.synthesis.optimal, "bound": suggestion.synthesis.bound},
        "matches": [_match(match) for match in suggestion.matches],
        "ambiguous": [
            {"checkpoint": list(one.checkpoint), "model": list(one.model), "settled_by": one.settled_by}
            for one in suggestion.ambiguous
        ],
        "missing_keys": list(suggestion.missing_keys),
        "unexpected_keys": list(suggestion.unexpected_keys),
        "mismatched_keys": [list(one) for one in suggestion.mismatched_keys],
        "tied": dict(suggestion.tied),
        "findings": [str(finding) for finding in suggestion.findings],
    }


def _match(match: Match) -> dict[str, Any]:
    return {
        "checkpoint": list(match.checkpoint),
        "model": list(match.model),
        "operations": sequence_to_json(match.operations),
        "certain": match.certain,
        "evidence": list(match.evidence),
    }
