"""Matrices that become one, turned or not: whatever is certain is right, by numbers, and an answer settles the rest.

Each tree is drawn with its numbers. Where the parts are square, shapes cannot show whether they are turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from aligning import aligned, certain_pairs

import treealign
from treealign import KeyTree
from treealign.mapping.operations import Stack

EXPERTS, LAYERS, WIDTH, HIDDEN = 3, 2, 8, 12
Tensors = dict[str, torch.Tensor]


def tree(tensors: Tensors, ordered: bool = False) -> KeyTree:
    return KeyTree.from_leaves([(key, tuple(t.shape), "float32") for key, t in tensors.items()], ordered=ordered)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def turned(t: torch.Tensor, turn: bool) -> torch.Tensor:
    return t.transpose(-1, -2).contiguous() if turn else t


def experts(hidden: int, turn: bool) -> Iterator[tuple[Tensors, Tensors]]:
    """A layer's experts one by one, and stacked with gate above up."""
    parts: Tensors = {}
    made: dict[str, list[torch.Tensor]] = {"gate_up_proj": [], "down_proj": []}
    for e in range(EXPERTS):
        gate, up, down = drawn(hidden, WIDTH), drawn(hidden, WIDTH), drawn(WIDTH, hidden)
        for name, t in (("gate", gate), ("up", up), ("down", down)):
            parts[f"mlp.experts.{e}.{name}_proj.weight"] = t
        made["gate_up_proj"].append(torch.cat([gate, up]))
        made["down_proj"].append(down)
    yield parts, {f"mlp.experts.{k}": turned(torch.stack(v), turn) for k, v in made.items()}


def attention(_: int, turn: bool) -> Iterator[tuple[Tensors, Tensors]]:
    """Projections of an attention one by one, and q, k and v in one."""
    q, k, v, o = (drawn(WIDTH, WIDTH) for _ in range(4))
    parts = {f"self_attn.{name}_proj.weight": t for name, t in zip("qkvo", (q, k, v, o), strict=True)}
    yield (
        parts,
        {
            "self_attn.qkv_proj.weight": turned(torch.cat([q, k, v]), turn),
            "self_attn.o_proj.weight": turned(o, turn),
        },
    )


def stacks(hidden: int, turn: bool) -> Iterator[tuple[Tensors, Tensors]]:
    """A layer's experts, stacked on either side: gate and up by themselves, and in one."""
    gate, up, down = drawn(EXPERTS, hidden, WIDTH), drawn(EXPERTS, hidden, WIDTH), drawn(EXPERTS, WIDTH, hidden)
    parts = {f"mlp.experts.{name}_proj": t for name, t in (("gate", gate), ("up", up), ("down", down))}
    yield (
        parts,
        {
            "mlp.experts.gate_up_proj": turned(torch.cat([gate, up], 1), turn),
            "mlp.experts.down_proj": turned(down, turn),
        },
    )


def kernels(hidden: int, turn: bool) -> Iterator[tuple[Tensors, Tensors]]:
    """A layer's experts of convolutions, stacked, with their channels last where they are turned."""
    parts = {f"experts.{e}.conv.weight": drawn(hidden, WIDTH, 2, 2) for e in range(EXPERTS)}
    whole = torch.stack(list(parts.values()))
    yield parts, {"experts.conv": whole.permute(0, 3, 4, 2, 1).contiguous() if turn else whole}


KINDS = {"experts": experts, "attention": attention, "stacks": stacks, "kernels": kernels}


def trees(kind: str, square: bool, turn: bool, around: str) -> tuple[Tensors, Tensors]:
    """Both sides of a model of some layers, with a dense MLP around that stands alike, is turned, or is not there."""
    torch.manual_seed(0)
    parts: Tensors = {}
    whole: Tensors = {}
    for n in range(LAYERS):
        for mine, theirs in KINDS[kind](WIDTH if square else HIDDEN, turn):
            parts |= {f"layers.{n}.{k}": t for k, t in mine.items()}
            whole |= {f"layers.{n}.{k}": t for k, t in theirs.items()}
        if around:
            for name, t in (("fc1", drawn(20, WIDTH)), ("fc2", drawn(WIDTH, 20))):
                parts[f"layers.{n}.dense.{name}.weight"] = t
                whole[f"layers.{n}.dense.{name}.weight"] = turned(t, around == "turned")
    return parts, whole


def answers_until_settled(s: treealign.Suggestion, truth: Tensors, checkpoint: Tensors) -> treealign.Suggestion:
    """The suggestion with each question answered as the numbers are."""
    for _ in range(12):
        if not s.questions:
            return s
        question = s.questions[0]
        s = min((s.answer(question, o) for o in question.options), key=lambda made: wrong(made, truth, checkpoint))
    return s


def wrong(s: treealign.Suggestion, truth: Tensors, checkpoint: Tensors) -> int:
    made = dict(s.mapping.accept().apply(checkpoint))
    return sum(k not in made or made[k].shape != t.shape or not torch.equal(made[k], t) for k, t in truth.items())


CASES = list(product(KINDS, (True, False), (True, False), ("", "alike", "turned"), (True, False)))


@pytest.mark.parametrize(("kind", "square", "turn", "around", "cut"), CASES)
def test_a_certain_join_is_right(kind: str, square: bool, turn: bool, around: str, cut: bool) -> None:
    parts, whole = trees(kind, square, turn, around)
    checkpoint, model = (whole, parts) if cut else (parts, whole)
    s = treealign.suggest(tree(checkpoint), tree(model, ordered=True))
    made = dict(s.mapping.accept().apply(checkpoint))
    certain = {k for m in s.matches if m.certain for k in m.model}
    assert [k for k in certain if not torch.equal(made[k], model[k])] == []


@pytest.mark.parametrize(("kind", "square", "turn", "around", "cut"), CASES)
def test_the_truth_of_a_join_is_among_the_answers(kind: str, square: bool, turn: bool, around: str, cut: bool) -> None:
    parts, whole = trees(kind, square, turn, around)
    checkpoint, model = (whole, parts) if cut else (parts, whole)
    s = answers_until_settled(treealign.suggest(tree(checkpoint), tree(model, ordered=True)), model, checkpoint)
    assert (s.questions, wrong(s, model, checkpoint)) == ((), 0)


def test_the_axis_of_squares_that_are_joined_is_one_question() -> None:
    parts, whole = trees("experts", square=True, turn=True, around="alike")
    s = treealign.suggest(tree(parts), tree(whole, ordered=True))
    assert [q.about for q in s.questions] == ["axes"]


def test_every_order_that_equal_sizes_leave_to_a_stack_is_offered() -> None:
    parts, whole = trees("kernels", square=False, turn=True, around="alike")
    s = treealign.suggest(tree(parts), tree(whole, ordered=True))
    (axes,) = [q for q in s.questions if q.about == "axes"]
    orders = {o.operations[-1].dims for option in axes.options for o in option.matches}
    assert {(0, 3, 4, 2, 1), (0, 4, 3, 2, 1)} <= orders


def test_named_parts_are_stacked_in_one_step() -> None:
    parts = {f"layers.0.attn.{x}_proj.weight": drawn(6, 8) for x in "qkv"}
    whole = {"layers.0.attn.qkv.weight": torch.stack(list(parts.values()))}
    s = treealign.suggest(tree(parts), tree(whole, ordered=True))
    assert [m.operations for m in s.matches] == [(Stack(0, 3),)]


def test_a_whole_made_of_squares_shows_nothing_of_another_square():
    """The head shows which way matrices stand; whether q, k and v were turned before they were joined, nothing does."""
    parts = {f"trunk.mixer.{part}.weight": (4, 4) for part in ("query", "key", "value")}
    old = parts | {"trunk.mixer.to_out.weight": (4, 4), "trunk.unit.rho.weight": (4, 3), "fc.weight": (5, 4)}
    new = {"trunk.attn.query_key_value.weight": (12, 4), "trunk.attn.to_out.weight": (4, 4)}
    new |= {"trunk.output.gate.weight": (3, 4), "fc.weight": (5, 4)}
    assert "trunk.mixer.to_out.weight" not in certain_pairs(aligned(old, new))
