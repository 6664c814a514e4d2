"""Tell by numbers what the labels of the corpora do not tell: `rows`, `rearrange`, `split+rearrange` and the like.

python scripts/exact_labels.py           what can be told, corpus by corpus; of those that are named behind it only
python scripts/exact_labels.py --write   the same, and write the corpora anew

Each converter runs on tensors of which no element occurs twice, and the label is read off what comes out: a plain
operation where one does the same, else `rows` with the checkpoint's rows of which each of the model's keys is made.
`axes:…+` before it says that the checkpoint's dimensions are put in another order first, `+permute:…` behind it that
those of the result are. Needs torchtune, litgpt and ibm-fms beside what the tests need; the arithmetic of the
converters that cannot be run alone stands in `converters.py`.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

import torch
from cases import CORPUS, Group
from converters import Converter, converter_of
from numbering import Shapes, numbered, thinned, wanted

Tensors = Mapping[str, torch.Tensor]
Run = tuple[int, int, int, int]
MANY = 1_000_000  # elements of a group: more take long, and two of their columns tell as much
PLAIN = (
    *(f"{name}:{dim}" for name in ("concat", "split") for dim in (0, 1)),
    *("stack:0", "unstack:0", "transpose", "reshape", "concat+reshape"),
    *(f"transpose+{name}:{dim}" for name in ("concat", "split", "stack") for dim in (0, 1)),
)


class Raw(NamedTuple):
    """A group as it stands in the file, with the shapes of its keys."""

    checkpoint: list[str]
    model: list[str]
    operation: str
    here: dict[str, tuple[int, ...]]
    there: dict[str, tuple[int, ...]]

    @property
    def elements(self) -> int:
        return sum(prod(self.here[key]) for key in self.checkpoint)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What groups have in common that a converter treats alike: names but for their numbers, and shapes."""
        sides = ((self.checkpoint, self.here), (self.model, self.there))
        return tuple((re.sub(r"\d+", "#", key), shapes[key]) for keys, shapes in sides for key in keys)

    def runnable(self) -> Raw:
        """Itself, with fewer columns where it has too many elements to number."""
        thin = thinned(self.here, self.there, self.checkpoint, self.model) if self.elements > MANY else None
        return self._replace(here=thin[0], there=thin[1]) if thin else self


def told(raw: Raw, truth: Tensors) -> tuple[str, dict[str, list[Run]] | None] | None:
    """The label of a group whose numbers are known, and its rows if the label alone does not say them."""
    tensors = numbered(raw.checkpoint, raw.here)
    for operation in PLAIN:
        if operation == ("reshape" if len(raw.checkpoint) > 1 else "concat+reshape"):
            continue
        if _agrees(Group(tuple(raw.checkpoint), tuple(raw.model), operation), tensors, raw, truth):
            return operation, None
    found = list(_by_rows([tensors[key] for key in raw.checkpoint], truth))
    if not found:
        return None
    return min(found, key=lambda label: (sum(map(len, label[1].values())), len(label[0])))


def _agrees(group: Group, tensors: Tensors, raw: Raw, truth: Tensors) -> bool:
    try:
        made = wanted(group, [tensors[key] for key in raw.checkpoint], raw.there)
    except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
        return False
    return made is not None and made.keys() == truth.keys() and all(_same(made[key], truth[key]) for key in truth)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _by_rows(parts: Sequence[torch.Tensor], truth: Tensors) -> Iterator[tuple[str, dict[str, list[Run]]]]:
    """Every way to say the numbers by rows, dimensions put in some order before and after."""
    dims, ends = {part.dim() for part in parts}, {tensor.dim() for tensor in truth.values()}
    for before in permutations(range(max(dims))) if len(dims) == 1 else [None]:
        table = _rows([part.permute(before) if before else part for part in parts])
        for after in permutations(range(max(ends))) if table and len(ends) == 1 else [None]:
            found = {}
            for key, tensor in truth.items():
                back = tensor.permute(sorted(range(len(after)), key=after.__getitem__)) if after else tensor
                found[key] = _runs(back, *table) if table else None
            if all(found.values()):
                yield _label(before, after), {key: runs for key, runs in found.items() if runs}


def _label(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> str:
    told = ["rows"]
    if before and before != tuple(range(len(before))):
        told.insert(0, f"axes:{','.join(map(str, before))}")
    if after and after != tuple(range(len(after))):
        told.append(f"permute:{','.join(map(str, after))}")
    return "+".join(told)


def _rows(parts: Sequence[torch.Tensor]) -> tuple[int, dict[float, tuple[int, int]], list[torch.Tensor]] | None:
    """How wide the rows are, and where a row begins, by its first element; None where they differ in width."""
    flat = [part.reshape(part.shape[0] if part.dim() else 1, -1) for part in parts]
    if len({part.shape[1] for part in flat}) != 1:
        return None
    begins = {first: (n, at) for n, part in enumerate(flat) for at, first in enumerate(part[:, 0].tolist())}
    return flat[0].shape[1], begins, flat


def _runs(tensor: torch.Tensor, width: int, begins: Mapping[float, Any], flat: Sequence[Any]) -> list[Run] | None:
    """The rows of a tensor as runs of rows of the parts; None where it is not made of whole rows."""
    if tensor.numel() % width:
        return None
    rows = tensor.reshape(-1, width)
    places = [place for first in rows[:, 0].tolist() if (place := begins.get(first))]
    if len(places) < len(rows):
        return None
    runs = list(_compressed(places))
    steps = ((flat[part][first : first + count * step : step]) for part, first, count, step in runs)
    return runs if _same(torch.cat(list(steps)), rows) else None


def _compressed(places: Sequence[tuple[int, int]]) -> Iterator[Run]:
    at = 0
    while at < len(places):
        part, first = places[at]
        ahead = at + 1 < len(places) and places[at + 1][0] == part
        step = places[at + 1][1] - first if ahead else 1
        count = 1
        while step > 0 and at + count < len(places) and places[at + count] == (part, first + count * step):
            count += 1
        yield part, first, count, step if count > 1 else 1
        at += count


def truth_of(raw: Raw, converter: Converter) -> Tensors:
    """What the model's keys hold, in elements of the checkpoint that are numbered one by one."""
    if converter.to_model:
        return _run(converter, raw.checkpoint, raw.here, raw.model, raw.there)
    made = _run(converter, raw.model, raw.there, raw.checkpoint, raw.here)  # the other way round
    order = torch.cat([made[key].flatten() for key in raw.checkpoint]).long()
    inverse = torch.empty(len(order), dtype=torch.float64)
    inverse[order] = torch.arange(len(order), dtype=torch.float64)
    sizes = [prod(raw.there[key]) for key in raw.model]
    parts = zip(raw.model, inverse.split(sizes), strict=True)
    return {key: part.reshape(raw.there[key]) for key, part in parts}


def _run(converter: Converter, keys: list[str], shapes: Shapes, to: list[str], made: Shapes) -> Tensors:
    tensors = numbered(keys, shapes)
    found = converter.run([tensors[key] for key in keys], keys, to, made)
    if [tuple(tensor.shape) for tensor in found] != [made[key] for key in to]:
        raise ValueError(f"{keys} to {to}: {[tuple(t.shape) for t in found]} for {[made[key] for key in to]}")
    return dict(zip(to, found, strict=True))


def _is_told(raw: Raw) -> bool:
    group = Group(tuple(raw.checkpoint), tuple(raw.model), raw.operation)
    if group.renames or group.ties:
        return True
    raw = raw.runnable()
    tensors = numbered(raw.checkpoint, raw.here)
    try:
        return wanted(group, [tensors[key] for key in raw.checkpoint], raw.there) is not None
    except RuntimeError:  # a label that does not fit the shapes
        return False


def plain_of(raw: Raw) -> str | None:
    """The label with the dimension along which parts are joined or cut, where one alone fits the shapes."""
    name = {"chunk": "split"}.get(raw.operation, raw.operation)
    whole, parts = raw.there[raw.model[0]], [raw.here[key] for key in raw.checkpoint]
    if name == "split":
        whole, parts = raw.here[raw.checkpoint[0]], [raw.there[key] for key in raw.model]
    if name == "stack":
        fits = [d for d in range(len(whole)) if all((*p[:d], len(parts), *p[d:]) == whole for p in parts)]
    else:
        fits = [d for d in range(len(whole)) if _adds_up(d, whole, parts)]
    return f"{name}:{fits[0]}" if len(fits) == 1 else None


def _adds_up(dim: int, whole: Sequence[int], parts: Sequence[Sequence[int]]) -> bool:
    others = all((*p[:dim], whole[dim], *p[dim + 1 :]) == tuple(whole) for p in parts if len(p) == len(whole))
    return others and all(len(p) == len(whole) for p in parts) and sum(p[dim] for p in parts) == whole[dim]


def _label_of(raw: Raw, converter: Converter | None) -> tuple[str, list[list[Run]] | None] | None:
    """The label of a group by its converter, or by its shapes, the runs of rows in the order of the model's keys."""
    thin, found = raw.runnable(), None
    if converter is not None:
        with suppress(ValueError):  # it makes other keys than the case has
            found = told(thin, truth_of(thin, converter))
    if found is not None:
        label, rows = found
        return label, [rows[key] for key in raw.model] if rows else None
    plain = plain_of(raw) if raw.operation in ("concat", "split", "stack", "chunk") else None
    return (plain, None) if plain else None


def _spelled(raw: Raw, label: str, rows: list[list[Run]] | None) -> list[Any]:
    return [label] if rows is None else [label, dict(zip(raw.model, rows, strict=True))]


def relabelled(corpus: str, case: dict[str, Any], counts: Counter[str]) -> dict[str, Any]:
    """A case with the labels that can be told, by its converter or by its shapes."""
    here, there = ({leaf[0]: tuple(leaf[1]) for leaf in case[side]} for side in ("checkpoint", "model"))
    converter, known, gold = converter_of(f"{corpus}/{case['id']}"), {}, []
    for checkpoint, model, operation, *rows in case["gold"]:
        raw = Raw(checkpoint, model, operation, here, there)
        if rows or _is_told(raw):
            gold.append([checkpoint, model, operation, *rows])
            continue
        if raw.kind not in known:
            known[raw.kind] = _label_of(raw, converter)
        label = known[raw.kind]
        if label is None:
            print(f"  {case['id']}: {operation} of {checkpoint[0]} is left", file=sys.stderr)
        counts["told" if label else "left"] += 1
        gold.append([checkpoint, model, *_spelled(raw, *label)] if label else [checkpoint, model, operation])
    return {**case, "gold": gold}


def main(write: bool, corpora: Sequence[str]) -> None:
    """Look at each corpus, and write it if asked."""
    for corpus in corpora or ("transformers", "originals", "real_text", "real_vision"):
        path, counts = CORPUS / f"{corpus}.jsonl.xz", Counter[str]()
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            cases = [relabelled(corpus, json.loads(line), counts) for line in lines]
        print(f"{corpus}: {counts['told']} groups told anew, {counts['left']} left", flush=True)
        if write and counts["told"]:
            text = "".join(json.dumps(case, separators=(",", ":")) + "\n" for case in cases)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
            fresh.replace(path)


if __name__ == "__main__":
    main("--write" in sys.argv[1:], [name for name in sys.argv[1:] if name != "--write"])
