"""Synthesis comes to the same list under every hash seed, on a small set of layouts of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aligning import tree
from test_synthesis_work import by_turns, flat_list

from treealign.mapping import operations
from treealign.synthesize import Conversion, synthesize

HERE = Path(__file__).parent
SEEDS = range(5)


def wrapped_within_wrapped():
    """All attentions have one wrapper, every other one two, and the whole a prefix."""
    leaves = [("attn", "q.weight"), ("attn", "proj.weight"), ("mlp", "fc.weight")]
    return [
        (f"module.blocks.{i}.{part}.{wrap}{leaf}", f"blocks.{i}.{part}.{leaf}")
        for i in range(6)
        for part, leaf in leaves
        for wrap in ("_orig_mod." * (part == "attn") + "_checkpoint_wrapped_module." * (part == "attn" and i % 2),)
    ]


def shifted_branches():
    """An index that moves by one and takes two values, in front of tails that differ."""
    return [
        (f"fpn.{i}.cv{j}.b.{k}.{m}.weight", f"model.fpn.{i}.rep{j - 1}.b.{k}.{m}.weight")
        for i in (0, 1)
        for j in (2, 3)
        for k in (0, 1)
        for m in ("conv", "norm")
    ]


def swapped_and_chained():
    """Two names that change places, three that move up by one."""
    names = {"alpha": "beta", "beta": "alpha", "norm0": "norm1", "norm1": "norm2", "norm2": "norm3"}
    return [(f"h.{i}.{old}.w", f"h.{i}.{new}.w") for i in range(3) for old, new in names.items()]


def experts():
    """Conversions with a list inside, beside renamings."""
    pairs = [(f"l.{i}.ln.weight", f"layers.{i}.norm.weight") for i in range(4)]
    stacked = [
        Conversion(
            tuple(f"l.{i}.experts.{j}.{part}.weight" for j in range(4)),
            (f"layers.{i}.mlp.experts.{part}",),
            (operations.Stack(0, 4),),
        )
        for i in range(4)
        for part in ("up", "down")
    ]
    return pairs, stacked


PLAIN = (flat_list, by_turns, wrapped_within_wrapped, shifted_branches, swapped_and_chained)


def lists():
    """Every list, as text."""
    tasks = [(made(), []) for made in PLAIN] + [experts()]
    for pairs, conversions in tasks:
        sides = (
            [*(pair[at] for pair in pairs), *(key for c in conversions for key in (c.checkpoint, c.model)[at])]
            for at in (0, 1)
        )
        found = synthesize(pairs, conversions, *(tree(dict.fromkeys(side, (4,))) for side in sides))
        yield "\n".join([*map(repr, found.mapping), f"bound {found.bound}", *found.findings])


@pytest.fixture(scope="module")
def told():
    """What a process under each seed says, one text a layout."""
    code = "import test_synthesis_seeds as t; print('\\n--\\n'.join(t.lists()))"
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH"), str(HERE.parent)])])
    environments = [{**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": path} for seed in SEEDS]
    return [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout.split("\n--\n")
        for environment in environments
    ]


@pytest.mark.parametrize("at", range(len(PLAIN) + 1), ids=[*(made.__name__ for made in PLAIN), "experts"])
def test_the_list_is_the_same_under_five_hash_seeds(told, at):
    assert len({texts[at] for texts in told}) == 1
    assert "Rename" in told[0][at] or "PrefixChange" in told[0][at]
