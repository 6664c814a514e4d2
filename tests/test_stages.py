"""One list on the one side, a list of lists on the other: the same blocks, cut into stages."""

from __future__ import annotations

import pytest
import torch
import transformers
from safetensors.torch import load_file

import treealign
from treealign import KeyTree, Rename

SIZES = (8, 16, 16, 32, 32, 32, 64)  # of the blocks, in order
STAGES = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0))


def flat(sizes=SIZES, path="blocks.{}"):
    found = []
    for n, size in enumerate(sizes):
        below = path.format(n)
        found += [(f"{below}.norm1.weight", (size,), "float32"), (f"{below}.attn.proj.weight", (size, size), "float32")]
    return found


def staged(sizes=SIZES, path="stages.{}.layers.{}"):
    found = []
    for place, size in zip(STAGES, sizes, strict=True):
        below = path.format(*place)
        found.append((f"{below}.layernorm_before.weight", (size,), "float32"))
        found.append((f"{below}.attn.proj.weight", (size, size), "float32"))
    return found


def suggest(checkpoint, model):
    return treealign.suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))


def test_blocks_in_one_list_are_matched_to_blocks_in_stages():
    suggestion = suggest(flat(), staged())
    where = {c: m for match in suggestion.matches for c, m in [(match.checkpoint[0], match.model[0])] if match.certain}
    assert where["blocks.4.norm1.weight"] == "stages.2.layers.1.layernorm_before.weight"
    assert len(where) == 2 * len(SIZES)


def test_each_stage_takes_one_rule_and_what_is_inside_a_block_one_for_all_stages():
    assert list(suggest(flat(), staged()).mapping) == [
        Rename("blocks.0", "stages.0.layers.0"),
        Rename("blocks.{i:1..2}", "stages.1.layers.{i-1}"),
        Rename("blocks.{i:3..5}", "stages.2.layers.{i-3}"),
        Rename("blocks.6", "stages.3.layers.0"),
        Rename("**.norm1", "**.layernorm_before"),
    ]


def test_blocks_in_stages_are_matched_to_blocks_in_one_list():
    suggestion = suggest(staged(), flat())
    assert not suggestion.findings
    assert suggestion.mapping.map_keys(["stages.2.layers.1.layernorm_before.weight"], converted=False) == {
        "stages.2.layers.1.layernorm_before.weight": ("blocks.4.norm1.weight",)
    }


def test_stages_of_the_same_name_as_the_list_go_there_and_back():
    checkpoint, model = staged(path="blocks.{}.{}"), flat(path="blocks.{}")
    mapping = suggest(checkpoint, model).mapping
    forward = mapping.map_keys([key for key, *_ in checkpoint])
    assert set(forward.values()) == {(key,) for key, *_ in model}
    back = mapping.reverse.map_keys([targets[0] for targets in forward.values()])
    assert {m[0]: (c,) for c, m in forward.items()} == back


@pytest.mark.parametrize("sizes", [(8,) * 7, (8, 16, 16, 32, 16, 16, 8)])
def test_sizes_that_read_the_same_backwards_settle_nothing(sizes):
    suggestion = suggest(flat(sizes), staged(sizes))
    between = [m for m in suggestion.matches if m.certain and m.checkpoint[0].startswith("blocks.1.")]
    assert between == []


def test_members_of_other_sizes_are_not_taken_for_the_same_blocks():
    suggestion = suggest(flat(SIZES[::-1]), staged())
    assert [m for m in suggestion.matches if m.certain] == []


def test_a_real_model_in_stages_loads_from_one_list_and_saves_it_back(tmp_path):
    config = transformers.HieraConfig(
        embed_dim=16, depths=[1, 2, 2], num_heads=[1, 2, 4], image_size=[32, 32], num_query_pool=2, patch_stride=[4, 4]
    )
    torch.manual_seed(0)
    model = transformers.HieraModel(config, add_pooling_layer=False)
    place = {"0.layers.0": 0, "1.layers.0": 1, "1.layers.1": 2, "2.layers.0": 3, "2.layers.1": 4}
    original = {}
    for key, value in model.state_dict().items():
        stage = next((s for s in place if key.startswith(f"encoder.stages.{s}.")), None)
        name = key if stage is None else key.replace(f"encoder.stages.{stage}", f"blocks.{place[stage]}")
        original[name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")] = value
    torch.save(original, tmp_path / "pytorch_model.bin")
    torch.manual_seed(1)
    other = transformers.HieraModel(config, add_pooling_layer=False)
    treealign.load(other, tmp_path / "pytorch_model.bin")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    treealign.save(other, tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert {k: v.tolist() for k, v in back.items()} == {k: v.tolist() for k, v in original.items()}
