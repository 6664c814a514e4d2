"""The compatibility shim, by use: old attribute paths lead where they led, with a warning."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from auditing import DATA, llava
from torch import nn

import treealign
from treealign.changes.auditing import Audit
from treealign.changes.shims import shim_source


def block(name: str) -> nn.Module:
    made = nn.Module()
    setattr(made, name, nn.Linear(4, 4))
    made.norm = nn.LayerNorm(4)
    return made


def old_model() -> nn.Module:
    model, text, tower = nn.Module(), nn.Module(), nn.Module()
    model.language_model, text.model = text, nn.Module()
    text.model.layers, text.lm_head = nn.ModuleList([block("attn") for _ in range(2)]), nn.Linear(4, 7)
    model.vision, tower.inner = tower, nn.Module()
    tower.inner.conv = nn.Conv2d(3, 4, 2)
    return model


def new_model() -> nn.Module:
    model, inner = nn.Module(), nn.Module()
    model.model, inner.language_model, inner.vision = inner, nn.Module(), nn.Module()
    inner.language_model.layers = nn.ModuleList([block("self_attn") for _ in range(2)])
    inner.vision.conv, model.lm_head = nn.Conv2d(3, 4, 2), nn.Linear(4, 7)
    return model


def installed(audit: Audit, model: nn.Module) -> nn.Module:
    names: dict[str, object] = {}
    exec(shim_source(audit.translation), names)
    return names["install"](model)


def at(model: nn.Module, path: str):
    for name in path.split("."):
        model = model[int(name)] if name.isdigit() else getattr(model, name)
    return model


def test_every_old_path_leads_to_the_parameter_that_it_led_to():
    audit, model = treealign.audit(old_model(), new_model()), new_model()
    parameters = dict(model.named_parameters())
    installed(audit, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [key for key in audit.old.keys if at(model, key) is not parameters[audit.rename(key)]] == []


def test_state_dict_modules_and_class_names_stay_what_they_are():
    model = new_model()
    before = [list(model.state_dict()), [name for name, _ in model.named_modules()], repr(model)]
    installed(treealign.audit(old_model(), model), model)
    assert [list(model.state_dict()), [name for name, _ in model.named_modules()], repr(model)] == before


def test_another_model_of_the_same_classes_is_left_alone():
    one, other = new_model(), new_model()
    installed(treealign.audit(old_model(), one), one)
    with pytest.raises(AttributeError):
        _ = other.vision


def test_a_use_of_an_old_path_warns_and_names_the_new_one():
    model = installed(treealign.audit(old_model(), new_model()), new_model())
    with pytest.warns(DeprecationWarning, match=r"`attn` is gone: use `model.language_model.layers.1.self_attn`"):
        _ = model.model.language_model.layers[1].attn


def test_a_copy_keeps_the_old_paths():
    model = copy.deepcopy(installed(treealign.audit(old_model(), new_model()), new_model()))
    with pytest.warns(DeprecationWarning):
        assert model.get_submodule("language_model.lm_head").weight.shape == (7, 4)


def test_llava_gets_its_vision_model_back():
    import transformers

    config = transformers.AutoConfig.from_pretrained(DATA / "llava-tiny", local_files_only=True)
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    installed(llava(), model)
    tower = model.model.vision_tower
    with pytest.warns(DeprecationWarning, match="`vision_model` is gone: use `model.vision_tower`"):
        assert tower.vision_model.embeddings.patch_embedding is tower.embeddings.patch_embedding


def test_the_verb_writes_it(tmp_path: Path):
    from auditing import NEW, OLD
    from typer.testing import CliRunner

    from treealign.cli.verbs import app

    path = tmp_path / "old_names.py"
    CliRunner().invoke(app, ["audit", str(OLD), str(NEW), "--shim", str(path)])
    assert path.read_text() == shim_source(llava().translation)


def test_without_a_lost_attribute_there_is_no_shim():
    assert shim_source(treealign.audit(new_model(), new_model()).translation) == ""
