"""mmengine: `load_checkpoint(revise_keys=[(pattern, replacement), …])`, where each pair is one `re.sub` on every key.

The pairs apply in order, each to what the one before made, and replace everything that they match.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from treealign.dialects.given import differences, given, heading, refuse, renamings
from treealign.dialects.regex_reading import Reading, read_all
from treealign.dialects.substitutions import Substitution, renamed, substitutions
from treealign.errors import TreealignError
from treealign.formats.legible import raw_literal
from treealign.mapping.conversion_mapping import ConversionMapping


def write_live(mapping: ConversionMapping, checkpoint: Any, model: Any) -> list[Substitution]:
    """The pairs, checkpoint -> model; see `treealign.emit`.

    Raises
    ------
    MappingError
        The mapping converts tensors, or pairs cannot do what it does.
    """
    return _pairs(mapping, checkpoint, model)[0]


def write_source(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """The pairs as source; `name` is that of the variable.

    Raises
    ------
    MappingError
        As `write_live`.
    """
    pairs, head = _pairs(mapping, checkpoint, model)
    lines = [f"# {head}: checkpoint -> model. mmengine renames and does not undo it.", f"{name or 'revise_keys'} = ["]
    return "\n".join([*lines, *(f"    ({raw_literal(old)}, {raw_literal(new)})," for old, new in pairs), "]"]) + "\n"


def _pairs(mapping: ConversionMapping, checkpoint: Any, model: Any) -> tuple[list[Substitution], str]:
    held = given(mapping, checkpoint, model)
    used = renamings(mapping, held, "mmengine's revise_keys")
    names, pairs = held.keys, list[Substitution]()
    for transform in used:
        pairs += substitutions(transform, () if held.sampled else names)
        names = tuple((transform.map_key(key) or (key,))[0] for key in names)
    refuse("mmengine's revise_keys", differences(held, lambda key: renamed(pairs, key)), used)
    return pairs, heading(held)


def read_pairs(source: Any, keys: Iterable[str] | None = None) -> Reading:
    """Pairs, or a dict of pattern to replacement, as a conversion mapping.

    Raises
    ------
    TreealignError
        They are no pairs of text.
    """
    given_pairs = list(source.items() if hasattr(source, "items") else source)
    odd = [repr(pair) for pair in given_pairs if len(pair) != 2 or not all(isinstance(side, str) for side in pair)]
    if odd:
        raise TreealignError("revise_keys are pairs of pattern and replacement", facts=odd)
    pairs = [Substitution(*pair) for pair in given_pairs]
    return read_all(pairs, [(pair, "") for pair in pairs], lambda key: renamed(pairs, key), keys)
