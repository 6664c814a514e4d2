"""What a suggestion calls ok, `load` takes: what torch fills by itself, and names that share a tensor, stop neither."""

from __future__ import annotations

import copy

import pytest
import torch
from cases import read_cases
from torch import nn

from treealign import TreealignError, load, save, suggest


class Tied(nn.Module):
    """Two or three names of one table, one of them a head."""

    def __init__(self, *names):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        for name in names:
            setattr(self, name, nn.Linear(4, 8, bias=False) if name.endswith("head") else nn.Embedding(8, 4))
            getattr(self, name).weight = getattr(self, names[0]).weight


class Rotary(nn.Module):
    """A buffer that the model computes."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.register_buffer("inv_freq", torch.arange(2.0), persistent=False)


def shared_layers():
    one = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    return nn.ModuleDict({"layers": nn.ModuleList([one, one, one]), "out": nn.Linear(4, 2)})


MODELS = {
    "batch norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
    "batch norms": lambda: nn.ModuleDict({f"b{at}": nn.Sequential(nn.BatchNorm1d(4 + at)) for at in range(3)}),
    "batch norm without scale": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)),
    "batch norm without statistics": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)
    ),
    "instance norm with statistics": lambda: nn.Sequential(
        nn.Conv1d(3, 4, 1), nn.InstanceNorm1d(4, track_running_stats=True)
    ),
    "synchronised batch norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4)),
    "lazy batch norm, run once": lambda: _run(nn.Sequential(nn.Conv2d(3, 4, 1), nn.LazyBatchNorm2d())),
    "two names": lambda: Tied("embed", "lm_head"),
    "three names": lambda: Tied("encoder", "decoder", "lm_head"),
    "layers shared": shared_layers,
    "a computed buffer": Rotary,
}
FILES = {
    "whole": lambda state, model: state,
    "without counters": lambda state, model: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "each tensor once, by its first name": lambda state, model: _once(state, list(state)),
    "each tensor once, by its last name": lambda state, model: _once(state, list(reversed(state))),
    "without counters, once": lambda state, model: _once(FILES["without counters"](state, model), list(state)),
    "with a key too many": lambda state, model: {**state, "extra.weight": torch.zeros(3, 3)},
    "under its own names twice": lambda state, model: {**state, **{f"copy.{key}": v for key, v in state.items()}},
}


def _run(model):
    model.eval()(torch.zeros(2, 3, 4, 4))
    return model


def _once(state, order):
    first = {state[key].data_ptr(): key for key in reversed([key for key in order if key in state])}
    return {key: tensor for key, tensor in state.items() if first[tensor.data_ptr()] == key}


@pytest.mark.parametrize("level", ["", "module", "net.backbone"])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", MODELS)
def test_what_is_ok_is_loaded_and_comes_back(tmp_path, kind, file, level):
    torch.manual_seed(0)
    given = MODELS[kind]()
    state = dict(given.state_dict(keep_vars=True))
    held = {f"{level}.{key}" if level else key: v.detach().clone() for key, v in FILES[file](state, given).items()}
    model = MODELS[kind]()
    before = copy.deepcopy(model.state_dict())
    ok = suggest(held, model).ok
    try:
        result = load(model, held)
    except TreealignError:
        assert not ok, "ok, and not to be loaded"
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
        return
    assert ok, "loaded, and not ok"
    assert not result.missing_keys
    saved = save(model, tmp_path / "out")
    assert set(saved.keys) == set(held)


def test_names_of_one_tensor_with_other_numbers_are_what_only_a_load_can_see():
    """A suggestion reads no tensor."""
    held = {key: torch.randn(tensor.shape) for key, tensor in Tied("embed", "lm_head").state_dict().items()}
    model = Tied("embed", "lm_head")
    assert suggest(held, model).ok
    with pytest.raises(TreealignError, match="lm_head"):
        load(model, held)


def test_counters_are_missing_where_the_checkpoint_has_some_that_nothing_takes():
    (case,) = read_cases("real_vision", "inceptionv3_pytorchcv__timm")
    found = suggest(*case.trees())
    lost = found.alignment.model.counters - {key for match in found.matches for key in match.model}
    assert lost
    assert lost <= set(found.missing_keys)
