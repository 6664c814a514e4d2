"""vLLM: a `WeightsMapper`, which renames in passes: regular expressions, substrings, prefixes, suffixes.

Within a pass the entries apply one after the other, in order, and each sees what the one before made; None drops the
weight. Regular expressions replace all that they match, the others the first occurrence (a suffix the last). Before
them come renamings of transformers, and after the substrings those that also say into which shard of a parameter the
weight goes. That is what `vllm.model_executor.models.utils.WeightsMapper` does (0.33); `map_name` here does the same,
on names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from treealign.dialects.given import Given, given
from treealign.dialects.renaming_only import differences, heading, refuse, renamings
from treealign.dialects.substitutions import Substitution, substitutions
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.grammar import is_literal

PASSES = ("renaming", "regex", "substr", "stacked", "prefix", "suffix")
_MODULE = "vllm.model_executor.models.utils"


class Entry(NamedTuple):
    """One entry of a `WeightsMapper`.

    Attributes
    ----------
    kind : str
        In which of the passes.
    old, new : str
        From what, to what; None drops the weight.
    held : optional
        Of a regular expression its compiled form, of a renaming the rule of transformers, of a stacked weight the
        shard that it becomes.
    """

    kind: str
    old: str
    new: str | None
    held: Any = None


def map_name(entries: Sequence[Entry], key: str) -> str | None:
    """What vLLM makes of a name; None where it drops the weight."""
    name: str | None = key
    for entry in sorted(entries, key=lambda entry: PASSES.index(entry.kind)):
        name = None if name is None else map_by(entry, name)
    return name


def map_by(entry: Entry, key: str) -> str | None:
    """What one entry makes of a name."""
    if entry.kind == "renaming":
        renamed: str = entry.held.rename_source_key(key)[0]
        return renamed
    if not _found(entry, key) or entry.new is None:
        return None if _found(entry, key) else key
    if entry.kind == "regex":
        made: str = _pattern(entry).sub(entry.new, key)
        return made
    if entry.kind == "suffix":
        return entry.new.join(key.rsplit(entry.old, 1))
    return key.replace(entry.old, entry.new, 1)


def _found(entry: Entry, key: str) -> bool:
    if entry.kind == "regex":
        return _pattern(entry).search(key) is not None
    asked = {"prefix": key.startswith, "suffix": key.endswith}
    return asked.get(entry.kind, key.__contains__)(entry.old)


def _pattern(entry: Entry) -> Any:
    """Of `re`, or of the module of other makers that vLLM uses."""
    return re.compile(entry.old) if entry.held is None else entry.held


# -- out ---------------------------------------------------------------------------------------------------------------


def write_mapper(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Source with the mapper, checkpoint -> model; see `treealign.emit`. `name` is that of the variable.

    Raises
    ------
    MappingError
        The mapping converts tensors, or the four passes cannot do what it does.
    """
    held = given(mapping, checkpoint, model)
    used = renamings(mapping, held, "vLLM's WeightsMapper")
    names, pairs = held.keys, list[list[Substitution]]()
    for transform in used:
        pairs.append(substitutions(transform, () if held.sampled else names))
        names = tuple((transform.map_key(key) or (key,))[0] for key in names)
    wrong: list[str] = []
    for entries in _candidates(used, pairs, held.sampled):
        wrong = _wrong(entries, held)
        if not wrong:
            return _source(entries, name or "hf_to_vllm_mapper", heading(held))
    refuse("vLLM's WeightsMapper", wrong, used)
    raise AssertionError


def _wrong(entries: Sequence[Entry], held: Given) -> list[str]:
    if len({entry[:2] for entry in entries}) < len(entries):
        return ["a pattern would stand in it twice"]
    return differences(held, lambda key: map_name(entries, key))


def _candidates(
    used: Sequence[Transform], pairs: Sequence[Sequence[Substitution]], sampled: bool
) -> Iterable[list[Entry]]:
    """As plain as the order of the passes allows; then all as regular expressions.

    On made up keys only what is exact is taken: fixed text of a renaming misses a key that ends with it.
    """
    plain: list[list[Entry]] = []
    bound = len(PASSES)
    for transform, regexes in zip(reversed(used), reversed(pairs), strict=True):
        entry = None if sampled and isinstance(transform, Rename) else _plain(transform)
        if entry is None or PASSES.index(entry.kind) > bound:
            bound = 0
            plain.insert(0, [Entry("regex", *pair) for pair in regexes])
        else:
            bound = PASSES.index(entry.kind)
            plain.insert(0, [entry])
    yield [entry for entries in plain for entry in entries]
    yield [Entry("regex", *pair) for regexes in pairs for pair in regexes]


def _plain(transform: Transform) -> Entry | None:
    """A prefix, substring or suffix, where the transform is about fixed text."""
    if transform.under and not all(map(is_literal, transform.under.split("."))):
        return None
    above = f"{transform.under}." if transform.under else ""
    if isinstance(transform, PrefixChange):
        levels = f"{'.'.join(transform.levels)}."
        return Entry("prefix", above + levels * (transform.add is None), above + levels * (transform.add is not None))
    return _fixed_text(transform, above) if isinstance(transform, Rename) and len(transform.pairs) == 1 else None


def _fixed_text(rename: Rename, above: str) -> Entry | None:
    old, new = (side.removeprefix("**.").removesuffix("$") for side in rename.pairs[0])
    anywhere, at_end = rename.source.startswith("**."), rename.source.endswith("$")
    fixed = all(is_literal(segment) for side in (old, new) for segment in side.split("."))
    if not fixed or (at_end if not anywhere else above):
        return None
    if not anywhere:
        return Entry("prefix", f"{above}{old}.", f"{above}{new}.")
    return Entry("suffix", f".{old}", f".{new}") if at_end else Entry("substr", f".{old}.", f".{new}.")


def _source(entries: Sequence[Entry], name: str, head: str) -> str:
    lines = [f'"""{head}: checkpoint -> model. vLLM renames and does not undo it."""', ""]
    lines += ["import re", ""] if any(entry.kind == "regex" for entry in entries) else []
    lines += [f"from {_MODULE} import WeightsMapper", "", f"{name} = WeightsMapper("]
    for kind in PASSES:
        held = [entry for entry in entries if entry.kind == kind]
        if held:
            lines += [f"    orig_to_new_{kind}={{", *(f"        {_text(entry)}," for entry in held), "    },"]
    return "\n".join([*lines, ")"]) + "\n"


def _text(entry: Entry) -> str:
    if entry.kind == "regex":
        return f"re.compile({_raw(entry.old)}): {_raw(entry.new or '')}"
    return f"{_raw(entry.old)}: {_raw(entry.new or '')}"


def _raw(text: str) -> str:
    return f'r"{text}"' if "\\" in text and '"' not in text else repr(text).replace("'", '"')
