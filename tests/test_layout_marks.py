"""An entry of the table of layouts fires on trees of its own library alone."""

from __future__ import annotations

import pytest
from cases import one_of_each_family
from layout_marks import CORPORA, fired, is_own

from treealign.align.knowledge.recognising import recognised
from treealign.align.patterns import build_patterns
from treealign.tree.keytree import KeyTree


@pytest.mark.parametrize("corpus", [corpus for corpus in CORPORA if corpus != "scale"])  # a model that others have too
def test_no_entry_fires_on_a_family_of_another_library(corpus):
    cases = one_of_each_family(corpus)
    found = [(name, entry, side) for case in cases for name, side, known in fired(case) for entry in known]
    assert [one for one in found if not is_own(one[1], one[2])] == []
    assert found


SWIN_V2 = ("qkv.weight", "proj.weight", "cpb_mlp.0.weight", "logit_scale", "relative_position_index")
MAXVIT = ("attn_layer.1.to_qkv.weight", "attn_layer.1.merge.weight", "attn_layer.1.relative_position_bias_table")


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        ("torchvision Swin v2", [*(f"features.1.0.attn.{leaf}" for leaf in SWIN_V2), "features.1.0.mlp.0.weight"]),
        (
            "torchvision MaxViT",
            [f"blocks.0.layers.0.layers.{kind}_attention.{leaf}" for kind in ("window", "grid") for leaf in MAXVIT]
            + ["blocks.0.layers.0.layers.MBconv.layers.conv_a.0.weight"],
        ),
    ],
)
def test_what_torchvision_calls_its_own_is_known_by_it(entry, keys):
    tree = KeyTree.from_leaves([(key, (96, 32), "float32") for key in keys])
    assert all(entry in {known.name for known in p.library} for p in recognised(build_patterns(tree), {}))
