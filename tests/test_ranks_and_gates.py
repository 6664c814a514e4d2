"""Numbers that count other things, and fused gates that are called otherwise: nothing of either is certain."""

from __future__ import annotations

import pytest
from truths import Truth

from treealign.align.words import tokens


def swapped(tensor):
    """The second half of the rows in front."""
    return tensor.roll(len(tensor) // 2, 0)


def block_of_norms(norms, places):
    """A block whose norms are numbered on one side and stand inside the linears after them on the other."""
    truth = Truth()
    for n in range(2):
        p, q = f"model.h.{n}.", f"decoder.blocks.{n}."
        truth.pair(p + "attn.qkv.weight", q + f"attention.{places[0]}.weight", (96, 32))
        truth.pair(p + f"{norms[0]}.weight", q + f"attention.{places[0]}.layer_norm_weight", (32,))
        truth.pair(p + f"{norms[1]}.weight", q + f"mlp.{places[1]}.layer_norm_weight", (32,))
        truth.pair(p + "mlp.up_proj.weight", q + f"mlp.{places[1]}.weight", (72, 32))
        truth.pair(p + "mlp.down_proj.weight", q + "mlp.fc2.weight", (32, 72))
    return truth


@pytest.mark.parametrize("norms", [("norm_1", "norm_2"), ("ln1", "ln2"), ("norm1", "norm2")])
@pytest.mark.parametrize("places", [("qkv_linear", "fc1"), ("linear_qkv", "linear_fc1")])
def test_the_number_of_a_norm_is_no_number_of_a_linear(norms, places):
    truth = block_of_norms(norms, places)
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain


def test_the_number_of_a_name_begins_no_phrase_beyond_it():
    assert not any(t.text in ("@pre_attn", "@post_attn") for t in tokens(("mlp", "fc1", "norm", "weight")))


def members_of_one_list(names):
    """A list of unlike members against lists of members of one kind each."""
    truth = Truth()
    for n, j in ((4, 1), (5, 2)):
        for leaf, shape in (("norm", (16,)), ("proj_in", (16, 16)), ("proj_out", (16, 16))):
            truth.pair(f"out.{n}.1.{leaf}.weight", f"up.{names[1]}.{j}.{leaf}.weight", shape)
        truth.pair(f"out.{n}.0.conv.weight", f"up.{names[0]}.{j}.conv.weight", (16, 16, 3, 3))
    truth.pair("out.5.2.conv.weight", f"up.{names[2]}.0.conv.weight", (16, 16, 3, 3))
    for leaf in ("norm", "proj_in", "proj_out"):
        truth.model[f"up.{names[1]}.0.{leaf}.weight"] = 0 * truth.model[f"up.{names[1]}.1.{leaf}.weight"]
    return truth


@pytest.mark.parametrize("names", [("resnets", "attentions", "upsamplers"), ("convs", "mixers", "ups")])
def test_the_middle_of_a_list_of_other_things_is_no_evidence(names):
    truth = members_of_one_list(names)
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain


@pytest.mark.parametrize(
    ("old", "new", "out_old", "out_new"),
    [
        ("w1", "net.0.proj", "w2", "net.2"),
        ("fc1", "linear_in", "fc2", "linear_out"),
        ("wi", "dense_in", "wo", "dense_out"),
    ],
)
def test_a_gate_known_by_its_shape_may_have_its_halves_swapped(old, new, out_old, out_new):
    truth = Truth()
    for n in range(2):
        truth.pair(f"blocks.{n}.mlp.{old}.weight", f"layers.{n}.ff.{new}.weight", (56, 12), swapped)
        truth.pair(f"blocks.{n}.mlp.{old}.bias", f"layers.{n}.ff.{new}.bias", (56,), swapped)
        truth.pair(f"blocks.{n}.mlp.{out_old}.weight", f"layers.{n}.ff.{out_new}.weight", (12, 28))
    suggestion = truth.suggestion()
    wrong, certain = truth.judged(suggestion)
    assert not wrong & certain
    asked = [q for q in suggestion.questions if q.about == "rows"]
    assert any("halves swapped" in o.hint for q in asked for o in q.options)


@pytest.mark.parametrize("tail", [(), (1,)])
@pytest.mark.parametrize("hidden", [12, 28])
def test_a_gate_may_be_as_wide_as_its_model_or_a_convolution_over_one_point(hidden, tail):
    truth = Truth()
    for n in range(2):
        truth.pair(f"b.{n}.conv.w1.weight", f"l.{n}.conv_module.expand.weight", (2 * hidden, 12, *tail), swapped)
        truth.pair(f"b.{n}.conv.w2.weight", f"l.{n}.conv_module.shrink.weight", (12, hidden, *tail))
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain


@pytest.mark.parametrize("rows", [48, 12])
def test_a_projection_that_is_no_gate_is_not_asked_about(rows):
    truth = Truth()
    for n in range(2):
        truth.pair(f"blocks.{n}.mlp.fc1.weight", f"layers.{n}.mlp.up_proj.weight", (rows, 12))
        truth.pair(f"blocks.{n}.mlp.fc2.weight", f"layers.{n}.mlp.down_proj.weight", (12, rows))
    assert not any(q.about == "rows" for q in truth.suggestion().questions)
