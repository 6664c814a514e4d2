"""Derive how a library lays out fused and rotary rows by running its modules, and check the table of layouts.

    python scripts/derive_layouts.py [--only TEXT]

No module is read. Rows are told by what may be done to them without a change of the outputs, in float64:

- rows of q times c and the same rows of k over c, for any c per dimension, change nothing where no rotary embedding
  turns them; where one does, c must be equal within each pair that it turns, which tells how the pairs stand;
- a constant added to k of all positions changes nothing (softmax), added to q it does;
- rows of up times c and the same columns of down over c change nothing, of gate they do.

Each arrangement of parts is tried; the one that alone keeps the outputs is what the library does. Prints one line for
each entry that is checked so, and exits 1 where the table says otherwise. What is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from treealign.align.knowledge.entries import Layout, layouts

CLOSE, FAR = 1e-5, 1e-4  # some turn rows in float32 whatever they are given
SEQUENCES = 3  # dimensions of outputs: batch, positions, channels
WAYS = ("none", "half split", "interleaved")


@dataclass(frozen=True)
class Attention:
    """Where q and k of a model stand, and how many heads there are.

    `leaves` are paths of one fused leaf or of q and k, without `.weight`; `turned` are dimensions of a head that a
    rotary embedding turns, all where it is 0; `columns` where inputs stand first; `cosine` where q and k are brought to
    one length, so that only a factor for a whole head is lost.
    """

    leaves: tuple[str, ...]
    heads: int
    groups: int
    size: int
    turned: int = 0
    columns: bool = False
    cosine: bool = False


def outputs(model: torch.nn.Module, inputs: Any) -> torch.Tensor:
    """What a model makes of inputs: the tensor, or that of its result which holds hidden states or logits."""
    with torch.no_grad():
        made = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    for name in ("last_hidden_state", "logits", "text_embeds"):
        made = getattr(made, name, made)
    return (made if isinstance(made, torch.Tensor) else made[0]).double()


def change(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((before - after).abs().max() / before.abs().max())


def places(stand: str, parts: Sequence[str], a: Attention) -> dict[str, torch.Tensor]:
    """The rows of each part, (heads, size of a head)."""
    heads = {"q": a.heads, "k": a.groups, "v": a.groups}
    if stand == "by part":
        starts = itertools.accumulate((heads[p] * a.size for p in parts), initial=0)
        return {
            p: at + torch.arange(heads[p] * a.size).reshape(-1, a.size) for p, at in zip(parts, starts, strict=False)
        }
    each = {p: heads[p] // a.groups for p in parts}
    turns = torch.arange(sum(each.values()) * a.groups * a.size).reshape(a.groups, -1, a.size)
    starts = itertools.accumulate((each[p] for p in parts), initial=0)
    return {p: turns[:, at : at + each[p]].reshape(-1, a.size) for p, at in zip(parts, starts, strict=False)}


def factors(way: str, a: Attention) -> torch.Tensor:
    """Random factors, (groups, size of a head), equal where a rotary embedding of this kind pairs dimensions."""
    c = torch.rand(a.groups, 1 if a.cosine else a.size, dtype=torch.float64).expand(a.groups, a.size) + 0.5
    n = a.turned or a.size
    if way == "half split":
        c[:, n // 2 : n] = c[:, : n // 2]
    elif way == "interleaved":
        c[:, 1:n:2] = c[:, 0:n:2]
    return c


def parameters(model: torch.nn.Module, path: str) -> Iterator[torch.Tensor]:
    """The weight and the bias of a module, or bare parameters called so."""
    found = dict(model.named_parameters())
    for ending in (".weight", ".bias", "_weight", "_bias", ""):
        if path + ending in found:
            yield found[path + ending].data


def own_bias(model: torch.nn.Module, path: str, part: str) -> Iterator[torch.Tensor]:
    """A bias that one part of a fused leaf has to itself, beside it."""
    name = f"{path.rpartition('.')[0]}.{part}_bias"
    yield from (p.data for other, p in model.named_parameters() if other == name)


def scaled(model: torch.nn.Module, a: Attention, rows: dict[str, torch.Tensor], c: torch.Tensor) -> Callable[[], None]:
    """Scale q and k against each other; gives back what undoes it."""
    kept = []
    for path, part in zip(a.leaves * 2 if len(a.leaves) == 1 else a.leaves, ("q", "k"), strict=True):
        factor = c.repeat_interleave(len(rows[part]) // a.groups, 0) if part == "q" else 1 / c
        for p in parameters(model, path):
            kept.append((p, p.clone()))
            view = p.T if a.columns and p.dim() == 2 else p
            shape = (-1,) + (1,) * (view.dim() - 1)
            view[rows[part].flatten()] *= factor.reshape(shape).to(p.dtype)
        for p in own_bias(model, path, part):
            kept.append((p, p.clone()))
            p.mul_(factor.flatten())
    return lambda: [p.copy_(old) for p, old in reversed(kept)] and None


def rotary_of(model: torch.nn.Module, inputs: Any, a: Attention, rows: dict[str, torch.Tensor]) -> str:
    """How rotary rows stand if q and k stand in these rows; empty if they do not."""
    before = outputs(model, inputs)
    for way in WAYS:
        undo = scaled(model, a, rows, factors(way, a))
        kept = change(before, outputs(model, inputs)) < CLOSE
        undo()
        if kept:
            return way
    return ""


def shifts(model: torch.nn.Module, inputs: Any, a: Attention, rows: torch.Tensor) -> bool:
    """Whether these rows are k's, q's if not.

    A constant added at the first position alone reaches other positions, which one added to q does not. Where positions
    are no dimension of the outputs: one added to k of all positions is lost in the softmax.
    """
    before = outputs(model, inputs)
    alone = before.dim() == SEQUENCES

    def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        part = out[:, 0] if alone else out
        part[..., rows.flatten()] += 1
        return out

    handle = model.get_submodule(a.leaves[0]).register_forward_hook(hook)
    after = outputs(model, inputs)
    handle.remove()
    return change(before[:, 1:], after[:, 1:]) > FAR if alone else change(before, after) < CLOSE


def derived(model: torch.nn.Module, inputs: Any, a: Attention) -> list[tuple[str, str]]:
    """All arrangements of the rows that the outputs allow, each with how rotary embeddings turn them."""
    if len(a.leaves) == 2:
        rows = {"q": torch.arange(a.heads * a.size).reshape(-1, a.size)}
        rows["k"] = torch.arange(a.groups * a.size).reshape(-1, a.size)
        way = rotary_of(model, inputs, a, rows)
        return [("", way)] if way else []
    found = []
    stands = ("by part", "by head") if a.heads == a.groups else ("by part", "by group")
    for stand in stands:
        for parts in itertools.permutations("qkv"):
            rows = places(stand, parts, a)
            way = rotary_of(model, inputs, a, rows)
            if way and _tells_q(model, inputs, a, rows):
                found.append((f"{' '.join(parts)} {stand}", way))
    return found


def _tells_q(model: torch.nn.Module, inputs: Any, a: Attention, rows: dict[str, torch.Tensor]) -> bool:
    """Whether the rows of q are q's and those of k are k's."""
    path = a.leaves[0]
    if any(True for _ in own_bias(model, path, "q")):
        return True  # it was scaled with these rows
    if _is_called(model, inputs, path):
        return not shifts(model, inputs, a, rows["q"]) and shifts(model, inputs, a, rows["k"])
    (bias,) = (
        p for p in parameters(model, path) if p.dim() == 1
    )  # a bare parameter, or one that is read as if it were: by its bias
    before, kept = outputs(model, inputs), bias.clone()
    bias[rows["k"].flatten()] += 1
    moved = change(before, outputs(model, inputs))
    bias.copy_(kept)
    return moved < CLOSE


def _is_called(model: torch.nn.Module, inputs: Any, path: str) -> bool:
    """Whether a module of this path is called: torchvision's Swin hands the parameters of one to a function."""
    module, called = dict(model.named_modules()).get(path), []
    if module is not None:
        handle = module.register_forward_hook(lambda *_: called.append(path))
        outputs(model, inputs)
        handle.remove()
    return bool(called)


@dataclass(frozen=True)
class Gate:
    """A fused gate and up, and the projection that takes what the two make; axes of experts stand in front."""

    fused: str
    down: str
    columns: bool = False


def gates_of(model: torch.nn.Module, inputs: Any, g: Gate) -> list[str]:
    """All arrangements of gate and up that the outputs allow."""
    fused, down = (next(parameters(model, path)) for path in (g.fused, g.down))
    if g.columns:
        fused, down = fused.transpose(-1, -2), down.transpose(-1, -2)
    half = fused.shape[-2] // 2
    before, found = outputs(model, inputs), []
    for text, up in (
        ("gate up by part", torch.arange(half, 2 * half)),
        ("up gate by part", torch.arange(half)),
        ("gate up in turns", torch.arange(1, 2 * half, 2)),
        ("up gate in turns", torch.arange(0, 2 * half, 2)),
    ):
        c = torch.rand(half, dtype=torch.float64) + 0.5
        kept = fused.clone(), down.clone()
        fused[..., up, :] *= c[:, None]
        down /= c
        if change(before, outputs(model, inputs)) < CLOSE:
            found.append(text)
        fused.copy_(kept[0])
        down.copy_(kept[1])
    return found


@dataclass(frozen=True)
class Check:
    """One entry of the table, beside the code that it speaks of."""

    entry: str
    make: Callable[[], tuple[torch.nn.Module, Any]]
    attention: Attention | None = None
    gates: tuple[Gate, ...] = ()
    run: str = ""
    expected: dict[str, str] = field(default_factory=dict)


def checked(check: Check) -> tuple[list[str], list[str]]:
    """What running says of an entry, and where the table says otherwise."""
    torch.manual_seed(0)
    model, inputs = check.make()
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():  # biases and tables that begin at zero tell nothing
            p.copy_(torch.randn_like(p) * 0.2)
    entry, said, wrong = layouts()[check.entry], [], []
    if check.attention is not None:
        found = derived(model, inputs, check.attention)
        said += [f"{text or 'q, k apart'}, rotary {way}" for text, way in found]
        wrong += [] if found and all(_agrees(entry, *one) for one in found) else [f"attention: {found}"]
    for gate in check.gates:
        texts = gates_of(model, inputs, gate)
        said += texts
        wrong += [] if len(texts) == 1 and texts[0] in _told(entry) else [f"{gate.fused}: {texts}"]
    return said, wrong


def _told(entry: Layout) -> set[str]:
    return {made.text for made in entry.rows.values()}


def _agrees(entry: Layout, text: str, way: str) -> bool:
    told = {made.text for made in entry.rows.values() if "q" in made.parts}
    ways = entry.rotary & set(WAYS)
    return (not text or not told or text in told) and (not ways or way in ways)


def main() -> int:
    """Run all checks whose libraries are installed."""
    from layout_checks import CHECKS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="entries whose names contain this")
    only, failed = parser.parse_args().only, 0
    for check in CHECKS:
        if only not in check.entry:
            continue
        try:
            said, wrong = checked(check)
        except ImportError as error:
            print(f"{check.entry:32} left out: {error}")
            continue
        failed += bool(wrong)
        print(f"{check.entry:32} {'; '.join(said)}{'  WRONG: ' + '; '.join(wrong) if wrong else ''}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
