"""The work of a synthesis: counted, so that it ends and comes to the same everywhere."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from aligning import tree
from hypothesis import given, settings
from strategies import renamed_trees

from treealign.synthesize import synthesis, synthesize
from treealign.synthesize.budget import Budget, OutOfWork
from treealign.synthesize.order import Sample, order, step
from treealign.synthesize.orders import NONE, Orders
from treealign.synthesize.rules import Rule
from treealign.synthesize.task import Task
from treealign.tree.grammar import SegmentPattern

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


def test_more_steps_than_there_are_raise_and_as_many_do_not():
    budget = Budget(3)
    budget.spend(3)
    with pytest.raises(OutOfWork):
        budget.spend(1)


def _rename(old, new):
    return Rule((), True, (), *((SegmentPattern((text,)),) for text in (old, new)))


def test_rules_that_do_not_meet_cost_no_order_of_all_of_them():
    """Six rules in one name have 720 orders; there are 64 sets of what has been done."""
    rules = [_rename(f"a{n}", f"b{n}") for n in range(6)]
    sample = Sample(tuple(f"a{n}" for n in range(6)), tuple(f"b{n}" for n in range(6)))
    assert sorted(order(rules, [sample], Budget(2_000)).groups) == [(n,) for n in range(6)]


def _right(rules, way, sample):
    """Whether each rule of the order brings back what it has changed, and all lead to the target."""
    name = sample.source
    for n in way:
        new = step(rules, (n,), name, True)
        if step(rules, (n,), new, False) != name:
            return False
        name = new
    return name == sample.target


@pytest.mark.parametrize("seed", range(60))
def test_an_order_is_found_exactly_where_trying_all_of_them_finds_one(seed):
    draw = random.Random(seed)
    words = "abcd"
    rules = [_rename(*draw.sample(words, 2)) for _ in range(3)]
    source = (draw.choice(words), draw.choice(words), "w")
    name = source
    for n in draw.sample(range(3), 3):
        name = step(rules, (n,), name, True)
    sample = Sample(source, name)
    good = [way for way in permutations(range(3)) if _right(rules, way, sample)]
    found = order(rules, [sample], Budget(10_000)).groups
    if all(len(group) == 1 for group in found) and found:
        assert tuple(n for (n,) in found) in good
    if good:
        assert found


def test_equal_sets_of_orders_have_equal_numbers():
    orders = Orders()
    last = orders.state([((0,), orders.end(True))])
    assert last == orders.state([((0,), orders.end(True)), ((1,), orders.end(False))])
    assert orders.state([((0,), NONE)]) == NONE
    both = orders.state([((1,), last), ((0,), orders.state([((1,), orders.end(True))]))])
    assert orders.precedences(both) == ()
    assert orders.precedences(orders.state([((1,), last)])) == (((1,), (0,)),)


@settings(max_examples=25, deadline=None)
@given(renamed_trees())
def test_no_greedy_list_is_shorter_than_one_that_is_proved(drawn):
    leaves, old_names = drawn
    pairs = [(old_names[key], key) for key, *_ in leaves]
    task = Task(pairs, [], *trees_of(pairs))
    if not task.problem.ways:
        return
    search = synthesis._Search(task)
    exact, bound = search._solved(), search.bound
    greedy = search._built()
    assert exact is not None or greedy is not None
    if exact is not None and greedy is not None and len(exact) == bound:
        assert len(greedy) >= len(exact)
