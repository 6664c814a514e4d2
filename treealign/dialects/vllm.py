"""vLLM: a `WeightsMapper` as a conversion mapping, and source of one, as plain as the order of the passes allows.

Each entry is read as it is written where it is a key pattern, in the order in which vLLM applies them. What drops
weights, matches inside segments, or takes weights apart is reported with the reason, and is still run. What is written
joins tensors along their first dimension, as vLLM stacks them, and converts nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from treealign.dialects.given import given, heading, refuse
from treealign.dialects.regex_reading import GAP, Reading, read_or_why
from treealign.dialects.substitutions import Substitution, substitutions
from treealign.dialects.transformers.sides import Sides
from treealign.dialects.vllm_entries import PASSES, Entry, map_by, map_name
from treealign.dialects.vllm_stacks import Shards, conversions, module_of, packed, stacked_entries, wrong_shards
from treealign.errors import PatternError, TreealignError
from treealign.formats.legible import raw_literal
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert, PrefixChange, Rename
from treealign.tree.grammar import is_literal
from treealign.tree.keytree import KeyTree

_FIELD = "orig_to_new_"
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}
_DROPS = "it drops the weights that it matches, which no renaming does"
_SHAPES = "it makes one weight of several: pass the checkpoint, whose shapes say how"


def read_mapper(source: Any, keys: Iterable[str] | None = None) -> Reading:
    """A `WeightsMapper`, or a dict of its fields (``orig_to_new_prefix`` and so on), as a conversion mapping.

    Parameters
    ----------
    source
        The mapper.
    keys : iterable of str, or KeyTree
        Keys of the checkpoint. Of a tree the shapes are used too: what vLLM stacks is read as a conversion then.

    Raises
    ------
    TreealignError
        It is neither, or has fields that this version does not know.
    """
    entries = _entries(source)
    names = None if keys is None else list(keys)
    transforms, unread = list[Transform](), list[tuple[Any, str]]()
    for entry in entries:
        read, why = _read(entry, names)
        if read is not None:
            transforms.append(read)
        elif entry.kind != "stacked":
            unread.append((entry, why))
        if names is not None:
            names = [made for name in names if (made := name if entry.kind == "stacked" else map_by(entry, name))]
    stacked = [entry for entry in entries if entry.kind == "stacked"]
    if stacked:
        conversions, left = _stacked(entries, transforms, keys)
        transforms += conversions
        unread += left
    return Reading(ConversionMapping(transforms), tuple(unread), tuple(entries), partial(map_name, entries))


def _entries(source: Any) -> list[Entry]:
    fields = source if isinstance(source, Mapping) else _fields(source)
    unknown = [field for field in fields if field.removeprefix(_FIELD) not in PASSES and fields[field]]
    if unknown or not all(str(field).startswith(_FIELD) for field in fields):
        raise TreealignError("no WeightsMapper, nor a dict of its fields", facts=unknown or [repr(source)])
    return [entry for kind in PASSES for entry in _of(kind, fields.get(_FIELD + kind) or {})]


def _fields(source: Any) -> dict[str, Any]:
    """Whatever a mapper holds, also what later versions add: nothing of it may be passed over."""
    found = {name: getattr(source, name) for name in dir(source) if name.startswith(_FIELD)}
    if not found:
        raise TreealignError("no WeightsMapper, nor a dict of its fields", facts=[repr(source)])
    return found


def _of(kind: str, held: Any) -> Iterator[Entry]:
    if kind == "renaming":
        yield from (Entry(kind, str(rule.source_patterns), str(rule.target_patterns), rule) for rule in held)
        return
    for old, new in held.items():
        if kind == "stacked":
            yield Entry(kind, old, *new)
        else:
            yield Entry(kind, getattr(old, "pattern", old), new, old if hasattr(old, "pattern") else None)


def _read(entry: Entry, names: list[str] | None) -> tuple[Transform | None, str]:
    if entry.kind == "renaming":
        return _of_transformers(entry.held, names)
    if entry.new is None:
        return None, _DROPS
    if entry.kind == "stacked":
        return None, _SHAPES
    try:
        read, why = read_or_why(_as_pair(entry), names)
    except re.error as error:
        return None, f"`{entry.old}` is no regular expression of Python's own: {error}"
    if read is None and names is not None and entry.kind != "regex":
        # fixed text that could match inside segments, and does not in these names
        read, _ = read_or_why(_as_segments(entry), names)
        read = None if read is None or _differ(entry, read, names) else read
    return read, why


def _differ(entry: Entry, read: Transform, names: list[str]) -> bool:
    return any(map_by(entry, name) != (read.map_key(name) or (name,))[0] for name in names)


def _of_transformers(rule: Any, names: list[str] | None) -> tuple[Transform | None, str]:
    from treealign.dialects.transformers.reader import read_rule

    try:
        return read_rule(rule, names), ""
    except PatternError as error:
        return None, error.what


def _as_pair(entry: Entry) -> Substitution:
    """The same as one substitution."""
    old, new = entry.old, (entry.new or "")
    if entry.kind == "regex":
        flags = getattr(entry.held, "flags", 0)
        set_ = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
        return Substitution(f"(?{set_}){old}" if set_ else old, new)
    literal, text = re.escape(old).replace("\\-", "-"), new.replace("\\", r"\\")
    return Substitution({"substr": literal, "prefix": f"^{literal}", "suffix": f"{literal}$"}[entry.kind], text)


def _as_segments(entry: Entry) -> Substitution:
    """Fixed text as whole segments."""
    old, new = re.escape(entry.old.strip(".")).replace("\\-", "-"), (entry.new or "").strip(".").replace("\\", r"\\")
    if entry.kind == "prefix":
        return Substitution(f"^{old}(?=\\.|$)", new)
    return Substitution(f"^{GAP}{old}" + ("$" if entry.kind == "suffix" else r"(?=\.|$)"), rf"\1{new}")


def _stacked(
    entries: list[Entry], transforms: list[Transform], keys: Iterable[str] | None
) -> tuple[list[Transform], list[tuple[Any, str]]]:
    """What is stacked as conversions, where shapes are known and they then do what vLLM does; else the reason."""
    stacked = [entry for entry in entries if entry.kind == "stacked"]
    if not isinstance(keys, KeyTree):
        return [], [(entry, _SHAPES) for entry in stacked]
    shards = Shards(entries, keys)
    made, left = list[Transform](), list[tuple[Any, str]]()
    for target in dict.fromkeys(entry.new for entry in stacked):
        group = [entry for entry in stacked if entry.new == target]
        try:
            found = conversions(group, shards)
            shards.refuse_difference([*transforms, *made, *found], group)
        except PatternError as error:
            left += [(entry, error.what) for entry in group]
        else:
            made += found
    return made, left


_MODULE = "vllm.model_executor.models.utils"


def write_mapper(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Source with the mapper, checkpoint -> model; see `treealign.emit`. `name` is that of the variable.

    Raises
    ------
    MappingError
        The mapping converts tensors otherwise than by stacking, or the passes cannot do what it does.
    """
    held = given(mapping, checkpoint, model)
    used = held.used(mapping)
    renames = [transform for transform in used if not isinstance(transform, Convert)]
    stacks = stacked_entries([transform for transform in used if isinstance(transform, Convert)], held)
    names, pairs = held.keys, list[list[Substitution]]()
    for transform in renames:
        pairs.append(substitutions(transform, () if held.sampled else names))
        names = tuple((transform.map_key(key) or (key,))[0] for key in names)
    wrong: list[str] = []
    for entries in ([*plain, *stack] for plain in _candidates(renames, pairs, held.sampled) for stack in stacks):
        found = _wrong(entries, held)
        if not found:
            return _source(entries, name or "hf_to_vllm_mapper", heading(held))
        wrong = wrong or found
    refuse("vLLM's WeightsMapper", wrong, used)
    raise AssertionError


def _wrong(entries: Sequence[Entry], held: Sides) -> list[str]:
    if len({entry[:2] for entry in entries}) < len(entries):
        return ["a pattern would stand in it twice"]
    wanted = {key: step.targets[0] for step in held.steps for key in step.sources}
    made = {key: map_name(entries, key) for key in wanted}
    astray = [f"{key} becomes {made[key]}, not {name}" for key, name in wanted.items() if made[key] != name]
    return astray or wrong_shards(entries, held)


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
    return "\n".join([*lines, ")", *_packed_lines(entries)]) + "\n"


def _packed_lines(entries: Sequence[Entry]) -> list[str]:
    """What the class of the model says beside its mapper, and which layers that asks for."""
    layers = packed(entries)
    if not layers:
        return []
    letters = {module_of(entry.new) for entry in entries if isinstance(entry.held, str) and entry.new is not None}
    merged = {layer: f"MergedColumnParallelLinear of {len(parts)} sizes" for layer, parts in layers.items()}
    kinds = [f"# {layer} has to be a {'QKVParallelLinear' if layer in letters else merged[layer]}" for layer in layers]
    held = [f"    {_raw(layer)}: [{', '.join(map(_raw, parts))}]," for layer, parts in layers.items()]
    return ["", *kinds, "packed_modules_mapping = {", *held, "}"]


def _text(entry: Entry) -> str:
    if entry.kind == "regex":
        return f"re.compile({_raw(entry.old)}): {_raw(entry.new or '')}"
    if entry.kind == "stacked":
        shard = _raw(entry.held) if isinstance(entry.held, str) else entry.held
        return f"{_raw(entry.old)}: ({_raw(entry.new or '')}, {shard})"
    return f"{_raw(entry.old)}: {_raw(entry.new or '')}"


def _raw(text: str) -> str:
    return raw_literal(text) if "\\" in text or not text.isprintable() else repr(text).replace("'", '"')
