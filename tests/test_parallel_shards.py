"""Tensor-parallel shards: joined where a plan says along which dimension, refused where none does."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from treealign import Rename, TreealignError, convert_checkpoint, load, read_tree, save

WIDTH = 8
CUT = {"wq": 0, "wk": 0, "wv": 0, "wo": 1}
MLP = {"w1": 0, "w2": 1, "w3": 0}


def whole(vocabulary=20):
    torch.manual_seed(0)
    made = {f"layers.{i}.attention.{n}.weight": torch.randn(WIDTH, WIDTH) for i in range(2) for n in CUT}
    made |= {
        f"layers.{i}.feed_forward.{n}.weight": torch.randn(*((WIDTH, 24) if n == "w2" else (24, WIDTH)))
        for i in range(2)
        for n in MLP
    }
    made |= {f"layers.{i}.{n}_norm.weight": torch.randn(WIDTH) for i in range(2) for n in ("attention", "ffn")}
    ends = {"tok_embeddings.weight": torch.randn(vocabulary, WIDTH), "output.weight": torch.randn(vocabulary, WIDTH)}
    return made | ends | {"norm.weight": torch.randn(WIDTH)}


def dimension(key, embedding):
    name = key.split(".")[-2]
    return {**CUT, **MLP, "output": 0, "tok_embeddings": embedding}.get(name)


def pieces(state, rank, embedding=0):
    dims = {key: dimension(key, embedding) for key in state}
    return {k: (v if dims[k] is None else v.chunk(2, dims[k])[rank]).clone() for k, v in state.items()}


def model_of(state):
    made = torch.nn.Module()
    for key, tensor in state.items():
        *path, name = key.split(".")
        inner = made
        for step in path:
            if step not in inner._modules:
                inner.add_module(step, torch.nn.Module())
            inner = inner._modules[step]
        inner.register_parameter(name, torch.nn.Parameter(torch.zeros_like(tensor)))
    return made


@pytest.mark.parametrize("embedding", [0, 1], ids=["Llama 3", "Llama 2"])
def test_llama_as_meta_publishes_it_is_joined_and_saved_under_its_names(tmp_path, embedding):
    state = whole()
    for rank in range(2):
        torch.save(pieces(state, rank, embedding), tmp_path / f"consolidated.{rank:02}.pth")
    assert read_tree(tmp_path).leaf("layers.0.attention.wo.weight").shape == (WIDTH, WIDTH)
    model = model_of(state)
    load(model, tmp_path, [])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    save(model, tmp_path / "saved")
    saved = load_file(tmp_path / "saved/model.safetensors")
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], state[key]) for key in state)


@pytest.fixture
def stated(tmp_path):
    """Two safetensors files of names that no library has, and the plan beside them."""
    given = {"a.w": torch.randn(4, 6), "b.w": torch.randn(4, 6), "norm": torch.randn(5)}
    folder = tmp_path / "shards"
    folder.mkdir()
    for rank in range(2):
        part = {"a.w": given["a.w"][2 * rank :][:2], "b.w": given["b.w"][:, 3 * rank :][:, :3], "norm": given["norm"]}
        save_file({key: value.contiguous() for key, value in part.items()}, folder / f"rank_{rank}.safetensors")
    (folder / "tp_plan.json").write_text(json.dumps({"a.*": 0, "b.w": 1, "norm": None}))
    return folder, given


def test_what_a_plan_beside_the_files_says_is_done(stated, tmp_path):
    folder, given = stated
    convert_checkpoint(folder, tmp_path / "out", [Rename("a", "c")])
    made = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(made["c.w"], given["a.w"])
    assert torch.equal(made["b.w"], given["b.w"])
    assert torch.equal(made["norm"], given["norm"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def refused(folder, plan=None):
    if plan is not None:
        (folder / "tp_plan.json").write_text(plan)
    with pytest.raises(TreealignError) as caught:
        load(model_of({"a.w": torch.zeros(4, 6)}), folder, [], strict=False)
    return str(caught.value)


def test_a_key_that_the_plan_does_not_speak_of_is_named(stated):
    assert "b.w" in refused(stated[0], '{"a.w": 0, "norm": null}')


@pytest.mark.parametrize("plan", ["{", "[]", '{"a.w": "colwise"}', '{"a.w": 2, "b.w": 1, "norm": null}'])
def test_a_plan_that_cannot_be_followed_is_refused(stated, plan):
    assert "joined" in refused(stated[0], plan) or "plan" in refused(stated[0], plan)


def test_pieces_that_do_not_fit_are_refused(stated):
    save_file(
        {"a.w": torch.zeros(2, 5), "b.w": torch.zeros(4, 3), "norm": torch.zeros(5)}, stated[0] / "rank_1.safetensors"
    )
    text = refused(stated[0])
    assert "a.w: float32 [2, 6], float32 [2, 5]" in text


def test_copies_that_differ_are_refused_before_anything_is_touched(stated):
    part = load_file(stated[0] / "rank_1.safetensors")
    save_file({**part, "norm": part["norm"] + 1}, stated[0] / "rank_1.safetensors")
    text = refused(stated[0])
    assert "norm" in text
    assert "differ" in text


def test_an_order_that_names_do_not_tell_is_not_guessed(stated):
    (stated[0] / "rank_1.safetensors").rename(stated[0] / "rank_7.safetensors")
    assert "more than one checkpoint" in refused(stated[0]) or "each file has a piece" in refused(stated[0])
