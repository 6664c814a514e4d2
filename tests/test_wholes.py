"""Containers of equal contents: one verdict for all of each, by the names at the place where they differ."""

from __future__ import annotations

import pytest
from truths import Truth

LEAVES = {"transform.dense.weight": (8, 8), "transform.dense.bias": (8,), "decoder.weight": (30, 8), "bias": (30,)}


def heads(*names):
    """Heads of one kind, each called otherwise on the two sides, beside a body that says nothing of them."""
    truth = Truth()
    for old, new in names:
        for leaf, shape in LEAVES.items():
            truth.pair(f"{old}.{leaf}", f"{new}.{leaf}", shape)
    truth.pair("text.fc.weight", "text.fc.weight", (24, 8))
    return truth


@pytest.mark.parametrize(
    "names",
    [
        (("heads.fairseq_mlm", "mlm_head"), ("heads.cmd.mlm_head", "mmm_text_head")),
        (("heads.pretrain_itm", "itm_head"), ("heads.joint.itm_head", "match_head")),
        (("alpha", "head_one"), ("omega", "head_two")),
    ],
)
def test_a_word_that_both_have_settles_neither_and_they_share_one_verdict(names):
    truth = heads(*names)
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain
    for _, new in names:
        assert len({f"{new}.{leaf}" in certain for leaf in LEAVES}) == 1


@pytest.mark.parametrize(
    "names",
    [
        (("mlm_head", "heads.mlm_head"), ("itm_head", "heads.itm_head")),
        (("text_head", "language.head"), ("image_head", "vision.head")),
        (("self_attn", "self_attn"), ("cross_attn", "encoder_attn")),
    ],
)
def test_a_word_that_only_one_has_settles_all_of_both(names):
    truth = heads(*names)
    wrong, certain = truth.judged(truth.suggestion())
    assert wrong == set()
    assert certain >= {f"{new}.{leaf}" for _, new in names for leaf in LEAVES}
