"""To vLLM: source of a `WeightsMapper`, its renamings as plain as the order of the passes allows.

Tensors that the mapping joins along their first dimension are what vLLM stacks; it converts nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from treealign.dialects.given import Given, given
from treealign.dialects.renaming_only import heading, refuse
from treealign.dialects.substitutions import Substitution, substitutions
from treealign.dialects.vllm import PASSES, Entry, map_name
from treealign.dialects.vllm_stacks import module_of, packed, stacked_entries, wrong_shards
from treealign.formats.legible import raw_literal
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert, PrefixChange, Rename
from treealign.tree.grammar import is_literal

_MODULE = "vllm.model_executor.models.utils"


def write_mapper(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Source with the mapper, checkpoint -> model; see `treealign.emit`. `name` is that of the variable.

    Raises
    ------
    MappingError
        The mapping converts tensors otherwise than by stacking, or the passes cannot do what it does.
    """
    held = given(mapping, checkpoint, model)
    touched = {at for step in held.steps for at in step.transforms}
    used = [transform for at, transform in enumerate(mapping) if at in touched]
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


def _wrong(entries: Sequence[Entry], held: Given) -> list[str]:
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
