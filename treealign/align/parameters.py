"""What a parameter is of its module, whatever the library calls it, and whether it holds numbers to be trained."""

from __future__ import annotations

from treealign.align.words import PARAMETER_ROLES

STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})  # of a batch norm, beside its parameters
PARAMETER_NAMES = {"kernel": "weight", "scale": "weight", "gamma": "weight", "beta": "bias", **PARAMETER_ROLES}


def parameter_of(segments: tuple[str, ...]) -> str:
    """Weight or bias, where a path is that of a parameter of the module before its name; else nothing.

    >>> parameter_of(("norm", "scale")), parameter_of(("norm", "beta")), parameter_of(("fc", "{}", "weight"))
    ('weight', 'bias', 'weight')

    What is a block's own, as ConvNeXt's `blocks.0.gamma`, belongs to no module of its own.

    >>> parameter_of(("blocks", "{}", "gamma")), parameter_of(("cls_token",))
    ('', '')
    """
    name = segments[-1]
    plain = name in PARAMETER_ROLES or (len(segments) > 1 and segments[-2] != "{}" and not segments[-2].isdecimal())
    return PARAMETER_NAMES.get(name, "") if plain else ""


def hold_whole(dtypes: set[str | None]) -> bool:
    """Whether all are dtypes of whole numbers: indices, masks, counters, packed weights."""
    return all(dtype is not None and dtype.startswith(("int", "uint", "bool")) for dtype in dtypes)
