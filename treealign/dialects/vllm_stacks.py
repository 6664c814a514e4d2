"""To vLLM: conversions as stacked entries, each naming the shard that a weight becomes.

What vLLM stacks lies one after the other along the first dimension of a parameter: `QKVParallelLinear` calls its shards
q, k and v, `MergedColumnParallelLinear` numbers them. Everything else is the model's own `load_weights`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from treealign.dialects.given import Given
from treealign.dialects.renaming_only import ELSEWHERE
from treealign.dialects.vllm import PASSES, Entry
from treealign.dialects.vllm_stacking import rank, shard_entry
from treealign.errors import MappingError
from treealign.mapping.operations import Concat, Operation, Split, Stack
from treealign.mapping.transforms import Convert
from treealign.tree.grammar import is_literal

_LETTERS = "qkv"
_WHY: dict[type[Operation], str] = {
    Stack: "experts go into a FusedMoE layer, by what its make_expert_params_mapping lists",
    Split: "one weight becomes several, which vLLM keeps as one: let the mapping end at that one",
}


def stacked_entries(converts: Sequence[Convert], held: Given) -> list[list[Entry]]:
    """The entries for these conversions, the plainest first: which of them fit is seen on the keys.

    With the name that changes, or with what stands before it too; with the dot behind it, or without.

    Raises
    ------
    MappingError
        Something else than joining along the first dimension, or no fixed text; naming the transform.
    """
    if not converts:
        return [[]]
    _refuse_other(held, converts)
    if held.sampled:
        raise MappingError(
            "which weights vLLM stacks is seen on keys only, and none are given",
            facts=list(map(repr, converts)),
            hint="pass the checkpoint, or the model",
        )
    return [_distinct(_entries(converts, end, whole)) for whole in (False, True) for end in (".", "")]


def _refuse_other(held: Given, converts: Sequence[Convert]) -> None:
    """Raise where a step is no joining of weights along the first dimension."""
    found: dict[str, None] = {}
    for step in held.steps:
        odd = [one for one in step.operations if not (isinstance(one, Concat) and one.dim == 0)]
        if odd or len(step.operations) > 1:
            why = next((text for kind, text in _WHY.items() if any(isinstance(one, kind) for one in odd)), "")
            says = f"{', '.join(step.targets)} of {step.sources[0]}: {' + '.join(map(repr, step.operations))}"
            found.setdefault("\n    ".join([says, *([why] if why else [])]))
    if found:
        raise MappingError(
            "vLLM's WeightsMapper renames, and stacks weights along their first dimension; this mapping converts "
            "otherwise",
            facts=[*list(found)[:5], *(f"by {convert!r}" for convert in converts)],
            hint=ELSEWHERE,
        )


def _entries(converts: Sequence[Convert], end: str, whole: bool) -> Iterator[Entry]:
    for convert in converts:
        target = convert.targets[0]
        texts = [_texts(source, target, end, whole) for source in convert.sources]
        for shard, (old, new) in zip(_shards([old for old, _ in texts]), texts, strict=True):
            yield Entry("stacked", old, new, shard)


def _texts(source: str, target: str, end: str, whole: bool) -> tuple[str, str]:
    """What differs between two patterns, or all from the last index on, as fixed text of whole segments."""
    old, new = ([*side.removeprefix("**.").removesuffix("$").split(".")] for side in (source, target))
    inner, last = source.startswith("**."), False
    while len(old) > 1 and len(new) > 1 and old[0] == new[0] and not (whole and all(map(is_literal, old[:-1]))):
        old, new, inner = old[1:], new[1:], True
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old, new, last = old[:-1], new[:-1], True
    if not all(map(is_literal, (*old, *new))):
        raise MappingError("vLLM stacks by fixed text", facts=[f"{source} becomes {target}"], hint=ELSEWHERE)
    before, behind = "." * inner, "." if last else end
    return f"{before}{'.'.join(old)}{behind}", f"{before}{'.'.join(new)}{behind}"


def _shards(names: Sequence[str]) -> Sequence[str | int]:
    """Letters for query, key and value, which one kind of layer wants; numbers for the others."""
    three = len(names) == len(_LETTERS)
    last = [name.strip(".").rpartition(".")[2] for name in names]
    return _LETTERS if three and all(map(_says, last, _LETTERS)) else range(len(names))


def _says(name: str, letter: str) -> bool:
    return any(word.startswith(letter) for word in name.split("_"))


def _distinct(entries: Iterator[Entry]) -> list[Entry]:
    """Without repeats: towers of other sizes are stacked by the same names."""
    return list(dict.fromkeys(entries))


def wrong_shards(entries: Sequence[Entry], held: Given) -> list[str]:
    """Keys that would become another shard than the mapping says, or one though they are none."""
    first = [entry for entry in entries if PASSES.index(entry.kind) <= PASSES.index("stacked")]
    wrong: list[str] = []
    for step in held.steps:
        for place, key in enumerate(step.sources):
            entry = shard_entry(first, key)
            if (None if entry is None else rank(entry)) != (place if step.operations else None):
                wrong.append(f"{key} becomes shard {None if entry is None else entry.held!r} of {step.targets[0]}")
    return wrong


def packed(entries: Sequence[Entry]) -> Mapping[str, list[str]]:
    """Each layer that is stacked to the layers that it is made of, as vLLM's quantisation and LoRA ask for them."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry.kind == "stacked" and entry.new is not None:
            found.setdefault(module_of(entry.new), {})[module_of(entry.old)] = None
    return {layer: list(parts) for layer, parts in found.items()}


def module_of(text: str) -> str:
    """The name of the module in fixed text."""
    return text.strip(".").rpartition(".")[2]
