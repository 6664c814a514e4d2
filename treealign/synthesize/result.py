"""What a synthesis takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import Operation
from treealign.tree.fold import fold_names

_MOST_NAMED = 12


@dataclass(frozen=True)
class Conversion:
    """Keys whose tensors change on the way.

    Attributes
    ----------
    checkpoint, model : tuple of str
        The keys of the two sides, in the order in which the operations take and give their tensors.
    operations : tuple of Operation
        Applied left to right; their sizes are plain ints.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Synthesis:
    """The conversion mapping of an alignment.

    Attributes
    ----------
    mapping : ConversionMapping
        The transforms in order; it does what the matches say, in both directions.
    optimal : bool
        Whether no shorter list can be made of the candidate rules.
    bound : int
        No list made of them has fewer transforms.
    findings : tuple of str
        What could not be done as it should be; empty for a good mapping.
    lost : tuple of str
        Checkpoint keys whose matches no transform makes: they are no matches.
    """

    mapping: ConversionMapping
    optimal: bool
    bound: int
    findings: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def lacking(self, keys: Sequence[str]) -> Synthesis:
        """The same with a finding that names checkpoint keys whose matches no transform makes."""
        if not keys:
            return self
        names = ", ".join(fold_names(list(keys), _MOST_NAMED))
        text = f"no transforms were found for the matches of these checkpoint keys, which stay as they are: {names}"
        return replace(self, optimal=False, findings=(*self.findings, text), lost=(*self.lost, *keys))
