"""vLLM: a `WeightsMapper`, which renames in four passes: regular expressions, substrings, prefixes, suffixes.

Within a pass the entries apply one after the other, in order, and each sees what the one before made; None drops the
weight. Regular expressions replace all that they match, the others the first occurrence (a suffix the last). That is
what `vllm.model_executor.models.utils.WeightsMapper` does; `map_name` here does the same, on names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from treealign.dialects.given import Given, given
from treealign.dialects.regex_reading import Reading, read_all
from treealign.dialects.renaming_only import differences, heading, refuse, renamings
from treealign.dialects.substitutions import Substitution, substitutions
from treealign.errors import TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.grammar import is_literal

PASSES = ("regex", "substr", "prefix", "suffix")
_MODULE = "vllm.model_executor.models.utils"


class Entry(NamedTuple):
    """One entry of a `WeightsMapper`: in which of its passes, from what, to what; None drops the weight."""

    kind: str
    old: str
    new: str | None


def map_name(entries: Sequence[Entry], key: str) -> str | None:
    """What vLLM makes of a name; None where it drops the weight."""
    for entry in sorted(entries, key=lambda entry: PASSES.index(entry.kind)):
        found = _found(entry, key)
        if found and entry.new is None:
            return None
        if found and entry.new is not None:
            key = _replaced(entry.kind, entry.old, entry.new, key)
    return key


def _found(entry: Entry, key: str) -> bool:
    if entry.kind == "regex":
        return re.search(entry.old, key) is not None
    return {"substr": key.__contains__, "prefix": key.startswith, "suffix": key.endswith}[entry.kind](entry.old)


def _replaced(kind: str, old: str, new: str, key: str) -> str:
    if kind == "regex":
        return re.sub(old, new, key)
    return new.join(key.rsplit(old, 1)) if kind == "suffix" else key.replace(old, new, 1)


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


# -- in ----------------------------------------------------------------------------------------------------------------


def read_mapper(source: Any, keys: Iterable[str] | None = None) -> Reading:
    """A `WeightsMapper`, or a dict of its fields (``orig_to_new_prefix`` and so on), as a conversion mapping.

    Raises
    ------
    TreealignError
        It is neither.
    """
    fields = source if isinstance(source, Mapping) else {f"orig_to_new_{kind}": None for kind in PASSES}
    entries: list[Entry] = []
    for kind in PASSES:
        field = f"orig_to_new_{kind}"
        held = fields.get(field) if source is fields else getattr(source, field, None)
        entries += [Entry(kind, getattr(old, "pattern", old), new) for old, new in (held or {}).items()]
    unknown = [field for field in fields if field.removeprefix("orig_to_new_") not in PASSES]
    if unknown or (not entries and source is not fields and not hasattr(source, "orig_to_new_prefix")):
        raise TreealignError("no WeightsMapper, nor a dict of its fields", facts=unknown or [repr(source)])
    return read_all(entries, [(_as_pair(entry), _why(entry)) for entry in entries], _runner(entries), keys)


def _why(entry: Entry) -> str:
    return "it drops the weights that it matches, which no renaming does" if entry.new is None else ""


def _as_pair(entry: Entry) -> Substitution:
    """The same as one substitution."""
    old, new = entry.old, (entry.new or "")
    if entry.kind == "regex":
        return Substitution(old, new)
    literal, text = re.escape(old).replace("\\-", "-"), new.replace("\\", r"\\")
    return Substitution({"substr": literal, "prefix": f"^{literal}", "suffix": f"{literal}$"}[entry.kind], text)


def _runner(entries: Sequence[Entry]) -> Any:
    def run(key: str) -> str | None:
        return map_name(entries, key)

    return run
