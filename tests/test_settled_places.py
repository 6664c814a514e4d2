"""A place settles a match where the lists around it run alike, and no other leaf could take it."""

from __future__ import annotations

import pytest
from aligning import aligned, certain_pairs
from cases import read_cases

from treealign import suggest

WIDTHS = (8, 8, 16, 16, 16, 24)


def inverted(width, wide):
    """A block that widens, mixes and narrows, as in MobileNetV2: the two norms inside are of one shape."""
    return {
        "convs": {"widen": (wide, width, 1, 1), "mix": (wide, 1, 3, 3), "narrow": (width, wide, 1, 1)},
        "norms": {"first": (wide,), "second": (wide,), "third": (width,)},
    }


def flat(widths=WIDTHS, name="trunk", first=0):
    """Every layer a number in a list in a list: `trunk.3.0.1.weight`."""
    found = {}
    for n, width in enumerate(widths, first):
        block = inverted(width, 4 * width)
        for k, (conv, norm) in enumerate(zip(block["convs"].values(), block["norms"].values(), strict=True)):
            found |= {
                f"{name}.{n}.{k}.0.weight": conv,
                f"{name}.{n}.{k}.1.weight": norm,
                f"{name}.{n}.{k}.1.bias": norm,
            }
    return found


def staged(widths=WIDTHS, norm="scaler"):
    """The same in stages of one width, and its norms numbered by themselves: `pile.1.0.scaler2.weight`."""
    found, places = {}, {}
    for width in widths:
        stage = sorted(set(widths)).index(width)
        at = places[stage] = places.get(stage, -1) + 1
        block, here = inverted(width, 4 * width), f"pile.{stage}.{at}"
        for k, (name, conv) in enumerate(block["convs"].items(), 1):
            shape = list(block["norms"].values())[k - 1]
            found |= {f"{here}.{name}.weight": conv}
            found |= {f"{here}.{norm}{k}.weight": shape, f"{here}.{norm}{k}.bias": shape}
    return found


def test_two_cuts_of_one_chain_are_settled_by_their_places():
    suggestion = aligned(flat(), staged())
    assert not suggestion.questions
    pairs = certain_pairs(suggestion)
    assert pairs["trunk.0.0.0.weight"] == "pile.0.0.widen.weight"
    assert pairs["trunk.3.1.1.bias"] == "pile.1.1.scaler2.bias"
    assert pairs["trunk.5.2.1.weight"] == "pile.2.0.scaler3.weight"


def test_a_chain_that_reads_the_same_backwards_stays_open():
    suggestion = aligned(flat((8, 16, 8)), flat((8, 16, 8), "pile"))
    assert not [m for m in suggestion.matches if m.certain and m.model[0].startswith(("pile.0", "pile.2"))]


def test_what_is_left_over_in_a_chain_may_take_a_place():
    """One block more on one side: which of three equal ones is missing, no number says."""
    suggestion = aligned(flat((8, 16, 16, 16, 24)), staged((8, 16, 16, 24)))
    assert not [m for m in suggestion.matches if m.certain and m.model[0].startswith("pile.1")]


def test_names_on_one_side_are_no_numbers():
    """`early` and `late` are of one shape, and no list: the order in which they are defined says nothing."""
    checkpoint = {f"trunk.{n}.{k}.weight": (width, 8) for n, width in enumerate(WIDTHS) for k in (0, 1)}
    model = {f"pile.{n}.{k}.weight": (width, 8) for n, width in enumerate(WIDTHS) for k in ("late", "early")}
    assert not certain_pairs(aligned(checkpoint, model))


def grouped(outer, groups, *, conv="0", norm="1", widths=(8, 16, 24)):
    """Two convolutions of other sizes with a norm each, of one shape, in groups of a name."""
    found = {}
    for n, width in enumerate(widths):
        for group, conv_shape in zip(groups, ((width, 4, 1, 1), (width, 1, 3, 3)), strict=True):
            found[f"{outer}.{n}.{group}.{conv}.weight"] = conv_shape
            found |= {f"{outer}.{n}.{group}.{norm}.{leaf}": (width,) for leaf in ("weight", "bias")}
    return found


def test_a_norm_stays_with_the_convolution_of_its_group():
    checkpoint = grouped("trunk", ("0", "1"))
    model = grouped("pile", ("thicken", "stir"), conv="kernel", norm="scaler")
    assert certain_pairs(aligned(checkpoint, model))["trunk.2.1.1.bias"] == "pile.2.stir.scaler.bias"


def test_groups_of_convolutions_of_one_size_are_told_by_nothing():
    one_size = {4: (8, 4, 1, 1), 1: (8,)}
    checkpoint = {key: one_size[len(s)] for key, s in grouped("trunk", ("0", "1")).items()}
    groups = grouped("pile", ("thicken", "stir"), conv="kernel", norm="scaler")
    assert not certain_pairs(aligned(checkpoint, {key: one_size[len(s)] for key, s in groups.items()}))


@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_a_bias_goes_where_the_weight_of_its_module_must_go(leaf):
    """A convolution and a norm, their biases of one shape: only whole modules could be exchanged, and they differ."""
    start = {"trunk.0.0.weight": (8, 3, 4, 4), "trunk.0.0.bias": (8,), "trunk.0.1.weight": (8,), "trunk.0.1.bias": (8,)}
    entry = {f"entry.{name}.{leaf}": (8,) for name in ("patches", "scaler") for leaf in ("weight", "bias")}
    model = staged() | entry | {"entry.patches.weight": (8, 3, 4, 4)}
    assert certain_pairs(aligned(start | flat(first=1), model))[f"trunk.0.1.{leaf}"] == f"entry.scaler.{leaf}"


def test_a_name_on_either_side_is_more_than_a_place():
    """`start` and `entry` are names: that nothing else is left over does not say that they are one thing."""
    checkpoint, model = (
        flat() | {"start.kernel.weight": (8, 3, 4, 4)},
        staged() | {"entry.patches.weight": (8, 3, 4, 4)},
    )
    assert "start.kernel.weight" not in certain_pairs(aligned(checkpoint, model))


def test_letters_count_as_numbers_do():
    checkpoint = {f"trunk.{n}.{c}.weight": (width, 8) for n, width in enumerate(WIDTHS) for c in "abc"}
    model = {f"pile.{n}.{c}.weight": (width, 8) for n, width in enumerate(WIDTHS) for c in range(3)}
    assert certain_pairs(aligned(checkpoint, model))["trunk.1.c.weight"] == "pile.1.2.weight"


def test_a_list_inside_that_has_another_name_may_run_the_other_way():
    """Levels that refine and levels that fuse are counted from the inside or from the outside, whatever holds them."""
    inside = {f"trunk.{n}.refine.{k}.weight": (w, 8) for n, w in enumerate(WIDTHS) for k in range(4)}
    outside = {f"pile.{n}.fusion.{k}.weight": (w, 8) for n, w in enumerate(WIDTHS) for k in range(4)}
    assert not certain_pairs(aligned(inside, outside))


def test_a_list_inside_without_a_name_runs_as_the_one_around_it():
    inside = {f"trunk.{n}.{k}.weight": (w, 8) for n, w in enumerate(WIDTHS) for k in range(4)}
    outside = {f"pile.{n}.fusion.{k}.weight": (w, 8) for n, w in enumerate(WIDTHS) for k in range(4)}
    assert certain_pairs(aligned(inside, outside))["trunk.2.3.weight"] == "pile.2.fusion.3.weight"


def test_a_leaf_of_one_name_belongs_where_all_others_of_its_size_are_placed():
    """The norm behind a chain: another norm of its size, in the chain, has no name that tells it from this one."""
    here, there = flat(), {f"model.{key}": shape for key, shape in staged().items()}
    for leaf in ("weight", "bias"):
        here |= {f"norm.{leaf}": (24,), f"trunk.5.norm.{leaf}": (24,)}
        there |= {f"model.layernorm.{leaf}": (24,), f"model.pile.2.0.scaler.{leaf}": (24,)}
    pairs = certain_pairs(aligned(here, there))
    assert pairs["trunk.5.norm.weight"] == "model.pile.2.0.scaler.weight"
    assert pairs["norm.weight"] == "model.layernorm.weight"


def test_a_norm_has_the_number_of_its_convolution():
    """`conv1.bn` stands in the member whose convolution is `conv1`, so it is `bn1`, though `bn2` is of its size."""
    (case,) = read_cases("real_vision", "dla34_pytorchcv__timm")
    pairs = certain_pairs(suggest(*case.trees()))
    assert pairs["features.stage1.tree2.body.conv2.bn.running_mean"] == "level2.tree2.bn2.running_mean"
