"""Models under their authors' names: what running transformers' own converters says of them asks nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aligning import aligned
from cases import read_cases
from folding_paths import folded
from test_layouts import known

import treealign
from treealign.align.knowledge.entries import Known, layouts, read_name
from treealign.align.knowledge.recognising import recognised, still_recognised
from treealign.align.patterns import build_patterns
from treealign.tree.keytree import KeyTree


@pytest.mark.parametrize("name", ["dpt_intel", "clipseg_timojl"])
def test_names_of_the_authors_are_read_and_nobody_is_asked(name):
    (case,) = read_cases("originals", f"{name}__hf")
    suggestion = treealign.suggest(*case.trees())
    made = {key: set(match.checkpoint) for match in suggestion.matches for key in match.model}
    assert suggestion.questions == ()
    assert all(made[key] == set(group.checkpoint) for group in case.groups for key in group.model)


FUSION = {
    f"scratch.refinenet{n}.{conv}.weight": (8, 8) for n in range(1, 5) for conv in ("out_conv", "resConfUnit1.conv1")
}
NECK = {
    f"neck.fusion_stage.layers.{n}.{conv}.weight": (8, 8)
    for n in range(4)
    for conv in ("projection", "residual_layer1.convolution1")
}


def test_a_list_that_a_library_numbers_the_other_way_round_is_read_member_by_member(monkeypatch):
    entry = replace(layouts()["DPT of its authors"], has=((("scratch", "refinenet1"),),))
    known(monkeypatch, entry)
    matches = aligned(FUSION, NECK).matches
    made = {m.checkpoint[0]: m.model[0] for m in matches if "out_conv" in m.checkpoint[0]}
    assert made == {
        f"scratch.refinenet{n}.out_conv.weight": f"neck.fusion_stage.layers.{4 - n}.projection.weight"
        for n in range(1, 5)
    }
    assert all(m.certain for m in matches)
    known(monkeypatch)
    assert not any(m.certain for m in aligned(FUSION, NECK).matches)


def test_a_decoder_that_attends_to_text_as_well_is_not_known_as_deformable_detr():
    at = "transformer.decoder.layers.{}."
    own = ("cross_attn.sampling_offsets.weight", "self_attn.in_proj_weight", "norm3.weight")
    leaves = [(at.format(n) + name, (4, 4), "f") for n in range(2) for name in own] + [
        ("transformer.level_embed", (4,), "f")
    ]
    more = [(at.format(n) + "ca_text.out_proj.weight", (4, 4), "f") for n in range(2)]
    for tree, wanted in ((leaves, {"Deformable DETR of its authors"}), ([*leaves, *more], set())):
        found = recognised(build_patterns(KeyTree.from_leaves(tree)), {})
        assert {known.name for p in found for known in p.library if "DETR" in known.name} == wanted


def test_leaves_that_are_folded_anew_are_still_known_where_all_of_them_were():
    tree = KeyTree.from_leaves([(f"layers.{n}.{part}", (4, 4), "f") for n in range(3) for part in "qk"])
    patterns = build_patterns(tree)
    marked = [replace(patterns[0], library=(Known("Swin", 0), Known("SAM", 0))), patterns[1]]
    assert [p.library for p in still_recognised(build_patterns(tree), marked)] == [p.library for p in marked]
    assert [p.library for p in still_recognised(patterns, recognised(patterns, {}))] == [(), ()]


def test_of_entries_within_one_another_the_outer_one_reads_a_path(monkeypatch):
    inner = replace(layouts()["SAM"], name="inner", names={("ls1",): ("layer_scale1",)})
    outer = replace(inner, name="outer", names={("tower", "ls1"): ("backbone", "layer_scale1", "lambda1")})
    known(monkeypatch, inner, outer)
    path = ("tower", "ls1")
    assert read_name(path, [Known("inner", 1), Known("outer", 0)]) == ("backbone", "layer_scale1", "lambda1")
    assert read_name(path, [Known("inner", 1)]) == ("tower", "layer_scale1")
    other = replace(outer, name="other", names={path: ("something", "else")})
    known(monkeypatch, inner, outer, other)
    assert read_name(path, [Known("outer", 0), Known("other", 0)]) == path


def test_an_index_is_folded_only_where_two_numbers_of_it_were_seen():
    one = {"stage0.blocks.0.norm": "stages.0.layers.0.norm", "stage1.blocks.0.norm": "stages.1.layers.0.norm"}
    assert folded(one) == {"stage{}.blocks.0.norm": "stages.{}.layers.0.norm"}
    both = one | {"stage0.blocks.1.norm": "stages.0.layers.1.norm", "stage1.blocks.1.norm": "stages.1.layers.1.norm"}
    assert folded(both) == {"stage{}.blocks.{}.norm": "stages.{}.layers.{}.norm"}
    assert folded({"net1.conv": "layers.3.conv", "net2.conv": "layers.2.conv"}) == {
        "net1.conv": "layers.3.conv",
        "net2.conv": "layers.2.conv",
    }
