"""The work of a synthesis: counted, so that it ends and comes to the same everywhere."""

from __future__ import annotations

from aligning import tree
from hypothesis import given, settings
from strategies import renamed_trees

from treealign.synthesize import synthesize
from treealign.synthesize.choosing import Chooser
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit, lattice

RESIDUAL = [("residual.0.gamma", "norm1.gamma"), ("residual.2.weight", "conv1.weight")]
RESIDUAL += [("residual.3.gamma", "norm2.gamma"), ("residual.6.weight", "conv2.weight")]


LEAVES = [("gamma", "weight"), ("beta", "bias")]


def flat_list():
    """A decoder's flat list that the other side cuts into blocks of three and what enlarges them: nothing folds."""
    pairs = [
        (f"decoder.middle.{m}.{a}", f"decoder.mid_block.resnets.{m // 2}.{b}") for m in (0, 2) for a, b in RESIDUAL
    ]
    for block in range(4):
        for r in range(3):
            here, there = f"decoder.upsamples.{4 * block + r}", f"decoder.up_blocks.{block}.resnets.{r}"
            pairs += [(f"{here}.{a}", f"{there}.{b}") for a, b in RESIDUAL]
        if block < 3:
            here, there = f"decoder.upsamples.{4 * block + 3}", f"decoder.up_blocks.{block}.upsamplers.0"
            pairs += [(f"{here}.{a}", f"{there}.{a}") for a in ("resample.1.weight", "time_conv.weight")]
    return pairs


def by_turns():
    """Every other part of a block has a wrapper."""
    leaves = [("attn", "q.weight"), ("attn", "proj.weight"), ("mlp", "fc.weight")]
    return [
        (f"blocks.{i}.{part}.{'_orig_mod.' * ((i % 2 == 0) == (part == 'attn'))}{leaf}", f"blocks.{i}.{part}.{leaf}")
        for i in range(6)
        for part, leaf in leaves
    ]


def trees_of(pairs):
    return [tree(dict.fromkeys(side, (4,))) for side in zip(*pairs, strict=True)]


def found_for(pairs):
    return synthesize(pairs, [], *trees_of(pairs))


def test_a_list_that_does_not_fold_is_written_shortly_and_its_bound_is_said():
    pairs = flat_list()
    found = found_for(pairs)
    assert found.mapping.map_keys([a for a, _ in pairs]) == {a: (b,) for a, b in pairs}
    assert found.bound <= len(found.mapping) <= 4 + 15 + 2  # a residual block's parts, the members, the middle
    assert found.optimal == (found.bound == len(found.mapping))


def test_wrappers_by_turns_take_one_rule_for_each_part():
    assert [t.under for t in found_for(by_turns()).mapping] == ["blocks.{part:0|2|4}.attn", "blocks.{part:1|3|5}.mlp"]


def test_names_that_are_all_called_otherwise_take_no_more_rules_than_there_are_names():
    pairs = [(f"Net/Conv_{i}/{old}", f"net.layer.{2 * i}.norm.{new}") for i in range(9) for old, new in LEAVES]
    assert len(found_for(pairs).mapping) <= len(pairs)


@settings(max_examples=25, deadline=None)
@given(renamed_trees())
def test_no_list_is_shorter_than_its_bound_and_none_longer_than_the_matches(drawn):
    leaves, old_names = drawn
    pairs = [(old_names[key], key) for key, *_ in leaves]
    found = found_for(pairs)
    assert found.bound <= len(found.mapping) <= sum(a != b for a, b in pairs)


def test_what_stands_in_the_way_of_a_shorter_list_when_made_first_is_made_later():
    """`embedding -> weight` before `scale -> weight` would leave names that the way back of the latter changes."""
    pairs = [
        ("t.wpe.embedding", "t.wpe.weight"),
        ("t.wte.embedding", "t.wte.weight"),
        ("t.ln_f.scale", "t.ln_f.weight"),
    ]
    pairs += [(f"t.h.{i}.ln_1.scale", f"t.h.{i}.ln_1.weight") for i in range(2)] + [("scale", "scale")]
    assert len(found_for(pairs).mapping) == 2


def test_of_contents_that_cover_all_steps_the_fewest_are_chosen():
    """One long step for each of two names, or one that both have and one beside it: three contents, or two."""
    lattices = [lattice(("a", "b"), ("x", "y")), lattice(("a", "c"), ("x", "c"))]
    makes = [
        [Occurrence(0, Edit(0, 2, 0, 2))],
        [Occurrence(0, Edit(0, 1, 0, 1)), Occurrence(1, Edit(0, 1, 0, 1))],
        [Occurrence(0, Edit(1, 2, 1, 2))],
    ]
    found = Chooser(lattices, makes, [1.0] * 3).choose([1.0] * 3)
    assert found.proved
    assert found.used in ({0, 1}, {1, 2})
