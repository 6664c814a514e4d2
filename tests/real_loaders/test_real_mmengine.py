"""Pairs for `revise_keys` and checkpoints that were converted, loaded by mmengine itself."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from treealign import ConversionMapping, PrefixChange, Rename, emit


class Detector(BaseModule):
    """A model as mmengine's libraries build them."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 3))
        self.bbox_head = nn.ModuleDict({"cls": nn.Linear(3, 2), "reg": nn.Linear(3, 4)})


MAPPING = ConversionMapping(
    [
        PrefixChange(remove="module"),
        Rename("encoder.layer.{i}", "backbone.{i}"),
        Rename("**.fc_{part:cls|reg}", "**.{part}", under="bbox_head"),
    ]
)


def written(path):
    """A file under the names of the checkpoint, with a model's numbers."""
    torch.manual_seed(0)
    state = dict(MAPPING.reverse.apply({key: torch.randn_like(t) for key, t in Detector().state_dict().items()}))
    torch.save({"state_dict": state, "meta": {}}, path)
    return dict(MAPPING.apply(state))


def holds(module, wanted):
    state = module.state_dict()
    return state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_a_checkpoint_is_loaded_whole_by_emitted_pairs(tmp_path):
    wanted, model = written(tmp_path / "a.pth"), Detector()
    pairs = emit(MAPPING, "mmengine", checkpoint=list_of(wanted), live=True)
    load_checkpoint(model, str(tmp_path / "a.pth"), strict=True, revise_keys=pairs)
    assert holds(model, wanted)


def test_emitted_source_does_the_same(tmp_path):
    wanted, model, scope = written(tmp_path / "a.pth"), Detector(), {}
    exec(emit(MAPPING, "mmengine"), scope)
    load_checkpoint(model, str(tmp_path / "a.pth"), strict=True, revise_keys=scope["revise_keys"])
    assert holds(model, wanted)


def test_a_converted_part_initialises_a_module_by_its_prefix(tmp_path):
    wanted = written(tmp_path / "a.pth")
    torch.save(wanted, tmp_path / "converted.pth")
    backbone = Detector().backbone
    PretrainedInit(str(tmp_path / "converted.pth"), prefix="backbone.")(backbone)
    assert holds(
        backbone, {key.removeprefix("backbone."): t for key, t in wanted.items() if key.startswith("backbone.")}
    )


def list_of(wanted):
    """The names of the checkpoint."""
    return dict(MAPPING.reverse.apply(wanted))
