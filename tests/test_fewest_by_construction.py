"""Changes made by a known number of rules: no more are found, and they do what was done."""

from __future__ import annotations

import pytest
from aligning import tree

from treealign.synthesize import synthesize

LEAVES = ("norm.weight", "q.weight", "k.weight", "out.weight")
WRAP, INNER = "_orig_mod.", "_checkpoint_wrapped_module."


def grid(text, firsts, seconds, leaves=LEAVES):
    """Keys of modules numbered twice."""
    return [f"{text.format(i, j)}.{leaf}" for i in firsts for j in seconds for leaf in leaves]


def wrapped(keys, *modules, wrap=WRAP):
    """The keys with a level more in some modules, and as they were."""
    return [(_put(key, modules, wrap), key) for key in keys]


def _put(key, modules, wrap):
    of = next((m for m in modules if key.startswith(f"{m}.")), None)
    return key if of is None else f"{of}.{wrap}{key.removeprefix(f'{of}.')}"


def attentions_of_a_unet():
    """Three of six attentions, which no two indices describe, and the first convolution."""
    keys = grid("down.{}.attentions.{}", range(3), range(2)) + grid("down.{}.resnets.{}", range(3), range(2), ("c.w",))
    places = [f"down.{i}.attentions.{j}" for i, j in ((0, 1), (1, 0), (2, 1))]
    return wrapped(["conv_in.weight", *keys], "conv_in", *places), 3


def every_other_layer_and_branch():
    keys = grid("layers.{}.branches.{}", range(4), range(4))
    return wrapped(keys, *(f"layers.{i}.branches.{j}" for i in (0, 2) for j in (1, 3))), 1


def first_row_and_first_column():
    keys = grid("stages.{}.blocks.{}", range(3), range(3))
    places = {(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)}
    return wrapped(keys, *(f"stages.{i}.blocks.{j}" for i, j in places)), 2


def same_layers_in_two_towers():
    keys = [f"{t}.layers.{i}.{part}.{m}" for t in ("text", "image") for i in range(6) for part in "ab" for m in LEAVES]
    return wrapped(keys, *(f"{t}.layers.{i}.a" for t in ("text", "image") for i in (0, 3, 4))), 1


def some_experts():
    keys = grid("layers.{}.experts.{}", range(3), range(8))
    return wrapped(keys, *(f"layers.{i}.experts.{j}" for i in range(3) for j in (0, 3, 5))), 1


def compiled_within_checkpointed():
    """Every other block checkpointed, its attention compiled."""
    keys = [f"blocks.{i}.{part}.{m}" for i in range(6) for part in ("attn", "mlp") for m in LEAVES]
    outer = wrapped(keys, *(f"blocks.{i}" for i in (1, 3, 5)), wrap=INNER)
    there = [f"blocks.{i}.{INNER}attn" for i in (1, 3, 5)] + [f"blocks.{i}.attn" for i in (0, 2, 4)]
    return [(_put(old, there, WRAP), key) for old, key in outer], 2


def compiled_by_turns_within_a_parallel_model():
    keys = [f"blocks.{i}.{part}.{m}" for i in range(6) for part in ("attn", "mlp") for m in LEAVES]
    places = [f"blocks.{i}.{'attn' if i % 2 else 'mlp'}" for i in range(6)]
    return [(f"module.{old}", key) for old, key in wrapped(keys, *places)], 3


def list_that_skips_one():
    """A member is left out, so that all behind it count one less."""
    numbers = [(i, i - (i > 3)) for i in range(10) if i != 3]
    return [(f"net.{a}.{m}", f"net.{b}.{m}") for a, b in numbers for m in LEAVES], 1


def list_cut_in_two():
    pairs = [(f"net.{i}.{m}", f"stem.{i}.{m}") for i in range(4) for m in LEAVES]
    return pairs + [(f"net.{i}.{m}", f"body.{i - 4}.{m}") for i in range(4, 12) for m in LEAVES], 2


def numbered_names_that_shift_once():
    """`norm1`, `norm2` count from one, the other side's from nought."""
    pairs = [(f"h.{i}.norm{n}.weight", f"h.{i}.norms.{n - 1}.weight") for i in range(4) for n in (1, 2, 3)]
    return pairs + [(f"h.{i}.mlp.{m}", f"h.{i}.mlp.{m}") for i in range(4) for m in LEAVES], 1


def towers_levels_and_leaves():
    """A tower is called otherwise, a level comes, leaves change their words."""
    leaves = {"attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "ln": "norm"}
    pairs = [
        (f"visual.blocks.{i}.{a}.weight", f"vision.encoder.layers.{i}.{b}.weight")
        for i in range(3)
        for a, b in leaves.items()
    ]
    return [*pairs, ("visual.proj.weight", "vision.proj.weight")], 5


MADE = (
    attentions_of_a_unet,
    every_other_layer_and_branch,
    first_row_and_first_column,
    same_layers_in_two_towers,
    some_experts,
    compiled_within_checkpointed,
    compiled_by_turns_within_a_parallel_model,
    list_that_skips_one,
    list_cut_in_two,
    numbered_names_that_shift_once,
    towers_levels_and_leaves,
)


def found_for(pairs):
    """The synthesis for these matches."""
    return synthesize(pairs, [], *(tree(dict.fromkeys(side, (4,))) for side in zip(*pairs, strict=True)))


@pytest.mark.parametrize("make", MADE, ids=[made.__name__ for made in MADE])
def test_no_more_rules_are_found_than_it_was_made_by(make):
    pairs, fewest = make()
    found = found_for(pairs)
    assert found.mapping.map_keys([a for a, _ in pairs]) == {a: (b,) for a, b in pairs}
    assert len(found.mapping) <= fewest, "\n".join(map(repr, found.mapping))
