"""Orders that neither shapes nor names show: behind a fold of patches, in a modulation; and leaves of another tower."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import treealign
from treealign import KeyTree, TreealignError, suggest


def certain(checkpoint, model, modules=None):
    sides = [[(key, shape, "float32") for key, shape in side.items()] for side in (checkpoint, model)]
    right = KeyTree.from_leaves(sides[1], modules=modules, ordered=True)
    return {
        m.checkpoint[0]: m.model[0]
        for m in treealign.suggest(KeyTree.from_leaves(sides[0]), right).matches
        if m.certain
    }


def merge(path):
    return {f"{path}.{n}.downsample.{name}": shape for n in range(2) for name, shape in SHAPES.items()}


SHAPES = {"norm.weight": (64,), "norm.bias": (64,), "reduction.weight": (32, 64)}


def test_what_stands_behind_a_fold_is_not_certain_where_the_path_is_another():
    modules = {"stages.0.downsample.sampler": "Unfold", "stages.1.downsample.sampler": "Unfold"}
    assert certain(merge("layers"), merge("stages"), modules) == {}


CHANNELS = (2, 4)
FOLDS = {  # of a batch of maps; the places of a window by columns, as Swin's own code has them, and by torch's rows
    "slices": lambda x: torch.cat([x[:, :, n % 2 :: 2, n // 2 :: 2].flatten(2) for n in range(4)], 1),
    "unfold": nn.Unfold(2, stride=2),
}


def test_one_answer_says_how_rows_behind_a_fold_stand_in_stages_of_all_sizes():
    leaves = {"norm.weight": (4,), "norm.bias": (4,), "reduction.weight": (2, 4)}
    shapes = {
        f"{n}.down.{key}": tuple(c * size for size in shape)
        for n, c in enumerate(CHANNELS)
        for key, shape in leaves.items()
    }
    generator = torch.Generator().manual_seed(0)
    state = {f"layers.{key}": torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    model = [(f"stages.{key}", shape, "float32") for key, shape in shapes.items()]
    folding = {f"stages.{n}.down.sampler": "Unfold" for n in range(len(CHANNELS))}
    found = suggest(state, KeyTree.from_leaves(model, modules=folding, ordered=True))
    (question,) = found.questions
    option = next(one for one in question.options if one.text == "rows from w,h,c to c,h,w, windows of 2")
    mapping = found.answer(question, option).mapping
    made = {"slices": state, "unfold": dict(mapping.apply(state))}
    for stage, channels in enumerate(CHANNELS):
        maps = torch.randn(1, channels, 4, 4, generator=generator)
        outputs = []
        for way, list_name in (("slices", "layers"), ("unfold", "stages")):
            weight, bias, matrix = (made[way][f"{list_name}.{stage}.down.{key}"] for key in leaves)
            rows = FOLDS[way](maps).transpose(1, 2)
            outputs.append(nn.functional.layer_norm(rows, weight.shape, weight, bias) @ matrix.T)
        torch.testing.assert_close(*outputs)
    assert set(dict(mapping.reverse.apply(made["unfold"]))) == set(state)


def spread(stages):
    return {f"{stages}.0.up.conv.weight": (16, 8, 3, 3), f"{stages}.0.up.conv.bias": (16,)}


@pytest.mark.parametrize("name", ["stages", "layers"])
def test_a_hint_moves_the_outputs_of_what_is_made_places_of_whatever_it_is_called(name):
    state = {key: torch.randn(shape) for key, shape in spread(name).items()}
    model = [(key, shape, "float32") for key, shape in spread("stages").items()]
    tree = KeyTree.from_leaves(model, modules={"stages.0.up.shuffle": "PixelShuffle"}, ordered=True)
    found = suggest(state, tree, hints=["up.conv: rows from c,h,w to h,w,c, windows of 2"])
    rows = torch.arange(16).reshape(4, 2, 2).permute(1, 2, 0).flatten()
    made = dict(found.mapping.apply(state))
    for old, new in zip(state, spread("stages"), strict=True):
        torch.testing.assert_close(made[new], state[old][rows])


def test_a_hint_about_a_fold_is_refused_where_the_model_has_none_or_not_one_way_round():
    classes = {"stages.0.up.shuffle": "PixelShuffle", "stages.0.up.unshuffle": "PixelUnshuffle"}
    leaves = [(key, shape, "float32") for key, shape in spread("stages").items()]
    for modules in ({}, classes):
        tree = KeyTree.from_leaves(leaves, modules=modules, ordered=True)
        with pytest.raises(TreealignError, match="no fold is known"):
            suggest(KeyTree.from_leaves(leaves), tree, hints=["up.conv: rows from c,h,w to h,w,c, windows of 2"])


class Merge(nn.Module):
    def __init__(self, rows, window):
        super().__init__()
        self.sampler, self.norm = nn.Unfold(window, stride=window), nn.LayerNorm(rows)
        self.reduction = nn.Linear(rows, rows // 2, bias=False)


def merging(window, probe=None):
    model = nn.ModuleDict({"stages": nn.ModuleList(nn.ModuleDict({"down": Merge(32, window)}) for _ in range(2))})
    state = {key.replace("stages", "layers"): value.clone() for key, value in model.state_dict().items()}
    weight = state["layers.0.down.reduction.weight"]
    return suggest(state, model, probe=probe and (lambda made: probe(made.stages[0].down.reduction.weight, weight)))


def test_a_probe_that_cannot_tell_leaves_the_question_as_it_was():
    (before,), (after,) = merging(2).questions, merging(2, probe=lambda *_: 1.0).questions
    assert "probe" in after.why
    assert [option.hint for option in after.options] == [option.hint for option in before.options]
    assert len(after.options) == 6


def test_no_probe_settles_a_fold_whose_window_may_be_another():
    (question,) = merging(4, probe=lambda weight, stored: -float((weight - stored).detach().norm())).questions
    assert {"windows of 2", "windows of 4"} <= {option.text.split(", ")[-1] for option in question.options}


def test_it_is_where_both_sides_call_it_alike():
    modules = {"stages.0.downsample.sampler": "Unfold", "stages.1.downsample.sampler": "Unfold"}
    assert len(certain(merge("stages"), merge("stages"), modules)) == 6


def test_the_halves_of_a_modulation_are_not_certain_under_another_name():
    checkpoint = {"final_layer.adaLN_modulation.1.weight": (64, 32), "final_layer.linear.weight": (8, 32)}
    model = {"norm_out.linear.weight": (64, 32), "proj_out.weight": (8, 32)}
    assert "final_layer.adaLN_modulation.1.weight" not in certain(checkpoint, model)


def test_a_norm_of_the_tower_that_is_not_wanted_is_not_certain():
    tower = {
        f"blocks.{n}.{name}": shape
        for n in range(3)
        for name, shape in {"a.weight": (8, 4), "b.weight": (16, 8)}.items()
    }
    checkpoint = {f"visual.{k}": s for k, s in tower.items()} | {f"text.{k}": s for k, s in tower.items()}
    checkpoint |= {"visual.ln_post.weight": (12,), "ln_final.weight": (12,)}
    found = certain(checkpoint, tower | {"norm.weight": (12,)})
    assert found.get("visual.ln_post.weight", "norm.weight") == "norm.weight"
    assert "ln_final.weight" not in found


def norms(names):
    return {f"layers.{n}.{name}.weight": (32,) for n in range(2) for name in names}


def test_a_post_attention_norm_is_the_attention_s_own_where_another_stands_before_the_feed_forward_part():
    checkpoint = norms(["mlp.pre_mlp_norm", "self_attention.linear_proj.post_layernorm"])
    model = norms(["post_attention_layernorm", "pre_feedforward_layernorm"])
    assert certain(checkpoint, model) == {
        f"layers.{n}.{a}.weight": f"layers.{n}.{b}.weight"
        for n in range(2)
        for a, b in {
            "mlp.pre_mlp_norm": "pre_feedforward_layernorm",
            "self_attention.linear_proj.post_layernorm": "post_attention_layernorm",
        }.items()
    }
