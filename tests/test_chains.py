"""Chains of blocks that each library numbers in its own way: read alike where both are known and all blocks agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import read_cases

from treealign import suggest
from treealign.align.knowledge import chains
from treealign.align.knowledge.chains import reads, spelled_alike
from treealign.tree.keytree import KeyTree

NORM = ("weight", "bias", "running_mean", "running_var")


def tree(leaves):
    return KeyTree.from_leaves([(key, shape, "float32") for key, shape in leaves.items()])


def unit(conv, norm, size, within):
    return {f"{conv}.weight": (size, within, 3, 3)} | {f"{norm}.{name}": (size,) for name in NORM}


def mobilenet(names, sizes=(8, 16, 16, 16, 24)):
    """Five inverted residuals; `names` gives the three layers of a block and their norms by its number."""
    leaves = {}
    for number, size in enumerate(sizes):
        for conv, norm in names(number):
            leaves |= unit(conv, norm, size, 8)
    return leaves


def torchvision(number):
    at = f"features.{number + 1}.conv"
    return (f"{at}.0.0", f"{at}.0.1"), (f"{at}.1.0", f"{at}.1.1"), (f"{at}.2", f"{at}.3")


def timm(number, stages=((0, 0), (1, 0), (1, 1), (2, 0), (2, 1))):
    at = ".".join(("blocks", *map(str, stages[number])))
    return (f"{at}.conv_pw", f"{at}.bn1"), (f"{at}.conv_dw", f"{at}.bn2"), (f"{at}.conv_pwl", f"{at}.bn3")


def checkpoint(sizes=(8, 16, 16, 16, 24)):
    ends = unit("features.0.0", "features.0.1", 8, 3) | unit("features.6.0", "features.6.1", 32, 24)
    return tree(ends | mobilenet(torchvision, sizes) | {"classifier.1.weight": (10, 32)})


def model(sizes=(8, 16, 16, 16, 24)):
    ends = unit("conv_stem", "bn1", 8, 3) | unit("conv_head", "bn2", 32, 24)
    return tree(ends | mobilenet(timm, sizes) | {"classifier.weight": (10, 32)})


def test_blocks_that_two_libraries_number_in_their_own_ways_are_certain_and_say_why():
    suggestion = suggest(checkpoint(), model())
    assert not suggestion.questions
    pairs = {match.checkpoint[0]: match for match in suggestion.matches}
    third = pairs["features.4.conv.1.0.weight"]
    assert (third.model, third.certain) == (("blocks.2.0.conv_dw.weight",), True)
    assert any(e.startswith("layout torchvision MobileNetV2, blocks of inverted residuals: ") for e in third.evidence)


def test_what_stands_before_and_behind_the_blocks_is_read_too():
    pairs = {match.checkpoint[0]: match.model[0] for match in suggest(checkpoint(), model()).matches}
    assert pairs["features.6.1.running_var"] == "bn2.running_var"


@pytest.mark.parametrize("sizes", [(8, 16, 16, 16), (8, 16, 16, 24, 24)], ids=["fewer blocks", "a block of other size"])
def test_chains_that_differ_in_a_block_are_not_read_alike(sizes):
    assert spelled_alike(checkpoint(), model(sizes))[1] == {}


def test_a_row_that_was_only_read_settles_nothing(monkeypatch):
    rows = tuple(replace(row, run=False) for row in chains.chains())
    monkeypatch.setattr(chains, "chains", lambda: rows)
    assert spelled_alike(checkpoint(), model())[1] == {}


def test_two_rows_of_one_library_say_nothing_of_each_other():
    assert spelled_alike(checkpoint(), checkpoint())[1] == {}


def test_what_is_read_alike_in_real_trees_is_what_corresponds():
    for case in list(read_cases("real_vision"))[::3]:
        here, there = case.trees(False)
        spelled, said = spelled_alike(here, there)
        truth = {key: group.model for group in case.groups for key in group.checkpoint}
        wrong = [
            here.keys[at]
            for at in said
            if spelled.keys[at] in there.keys and (spelled.keys[at],) != truth[here.keys[at]]
        ]
        assert (case.name, wrong) == (case.name, [])


@pytest.mark.parametrize("corpus", ["pairs", "originals", "real_text"])
def test_no_text_model_is_taken_for_a_chain_of_convolutions(corpus):
    """Detectors and image towers among them aside."""
    for case in list(read_cases(corpus))[::8]:
        for one in case.trees(False):
            assert {read.chain.family for read in reads(one)} <= {"residual network", "RegNet", "Swin", "ConvNeXt"}
