"""Each reader of names finds what its reader's own code finds, and what it finds in neither version is said."""

from __future__ import annotations

import fnmatch
import json
import re
from types import SimpleNamespace

import pytest
from auditing import audited

from treealign.changes.references.readers import compiled
from treealign.changes.results import DEAD, NOTHING, STILL

NAMES = [
    "lm_head",
    "model.lm_head",
    "vision_tower.layers.0.fc1",
    "vision_tower.layers.1.fc1",
    "vision_tower.layers.11.fc1",
    "model.vision_tower.layers.0.fc1",
    "model.layers.1.self_attn.q_proj",
    "model.layers.1.mlp.gate",
    "model.layers.1.mlp.gate_proj",
    "model.layers.2.experts.0.up_proj",
    "visual.blocks.0.attn.qkv",
    "gate",
]
TEXTS = [
    *("lm_head", "vision_tower", "fc1", "1.fc1", "layers.1", "model.layers.1", "mlp.gate", "gate", "proj", "model"),
    *(
        r"vision_tower\.layers\.1",
        "layers.*",
        ".*gate",
        r".*layers\.\d+\.mlp",
        "q_proj|gate",
        "model.lm_head",
        "[",
        "up_proj",
    ),
    *("vision_tower.", "visual", "model.layers.1.mlp.gate", "experts", r"(?:visual|lm_head)"),
]
texts = pytest.mark.parametrize("text", TEXTS)


def found(text, reader):
    pattern = compiled(text, reader)
    return [] if pattern is None else [name for name in NAMES if pattern.search(name)]


def asked(ask):
    def answer(name):
        try:
            return bool(ask(name))
        except re.error:
            return False

    return [name for name in NAMES if answer(name)]


@texts
def test_a_skip_list_is_read_as_transformers_reads_it(text):
    from transformers.quantizers.quantizers_utils import should_convert_module

    if text == "[":  # transformers fails there
        return
    assert found(text, "skip") == asked(lambda name: not should_convert_module(name, [text]))


def peft_config(**settings):
    return SimpleNamespace(**{"target_modules": [], "target_parameters": None, **settings})


@texts
def test_target_modules_are_read_as_peft_reads_them(text):
    from peft.tuners.tuners_utils import check_target_module_exists

    exists = check_target_module_exists
    assert found(text, "suffix") == asked(lambda name: exists(peft_config(target_modules=[text]), name))
    assert found(text, "module fullmatch") == asked(lambda name: exists(peft_config(target_modules=text), name))


@texts
def test_ranks_are_read_as_peft_reads_them(text):
    from peft.utils.other import get_pattern_key

    # what fits nothing comes back as it is
    assert found(text, "rank") == asked(lambda name: name == text or get_pattern_key([text], name) != name)


@texts
def test_targets_are_read_as_compressed_tensors_reads_them(text):
    # `match_name`: `re.match(target.removeprefix("re:"), name)` of what begins with `re:`, else equality
    assert found(text, "layer match") == asked(lambda name: re.match(text, name))
    assert found(text, "layer") == [name for name in NAMES if name == text]


@pytest.mark.parametrize("text", ["*.fc1", "vision_tower*", "*gate*", "model.layers.*", "lm_head", "*"])
def test_wildcards_are_read_as_fnmatch_reads_them(text):
    assert found(text, "layer glob") == [name for name in NAMES if fnmatch.fnmatch(name, text)]


def sides():
    old = [(f"backbone.layers.{n}.mixer.{m}.weight", (8, 8)) for n in range(3) for m in ("q_proj", "v_proj", "up_proj")]
    return audited(old, [("model." + key.removeprefix("backbone."), shape) for key, shape in old])


def statuses(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    found = sides().scan([path])
    return {one.old: one.status for one in found.references}, found


DEADS = {
    "adapter_config.json": json.dumps({"target_modules": ["q_proj", "gate_proj"], "peft_type": "LORA"}),
    "train.py": "config = LoraConfig(target_modules=['q_proj', 'gate_proj'])\n",
    "recipe.yaml": "lora:\n  target_modules: [q_proj, gate_proj]\n",
    "quant.json": json.dumps({"quantization_config": {"modules_to_not_convert": ["q_proj", "gate_proj"]}}),
    "ignore.yaml": "QuantizationModifier:\n  ignore: ['re:.*q_proj', 're:.*gate_proj']\n",
}


@pytest.mark.parametrize("name", DEADS)
def test_what_matches_nothing_in_either_version_is_listed_and_breaks_nothing(name, tmp_path):
    found, audit = statuses(name, DEADS[name], tmp_path)
    dead = {old.removeprefix(".*"): status for old, status in found.items()}
    assert dead == {"q_proj": STILL, "gate_proj": DEAD}
    assert not any(one.changed for one in audit.references)


def test_a_list_of_which_nothing_is_known_speaks_of_another_model(tmp_path):
    found, _ = statuses("a.json", json.dumps({"target_modules": ["gate_proj", "down_proj"]}), tmp_path)
    assert found == {}


def test_what_the_new_version_alone_has_is_not_dead(tmp_path):
    found, _ = statuses("a.json", json.dumps({"modules_to_not_convert": ["q_proj", "model.layers.0"]}), tmp_path)
    assert DEAD not in found.values()


@pytest.mark.parametrize(
    ("setting", "text", "new"),
    [
        ("modules_to_not_convert", "backbone.layers.0", "model.layers.0"),
        ("llm_int8_skip_modules", "backbone", "model"),
        ("ignore", "backbone.layers.1.mixer.q_proj", "model.layers.1.mixer.q_proj"),
        ("ignore", r"re:backbone\.layers\.1\..*", r"model\.layers\.1\..*"),
        ("ignored_layers", "backbone.layers.1.mixer.q_proj", "model.layers.1.mixer.q_proj"),
        ("exclude_modules", "backbone.layers.0*", "model.layers.0*"),
    ],
)
def test_a_stale_item_is_respelled_for_its_reader(setting, text, new, tmp_path):
    _, audit = statuses("a.json", json.dumps({"quantization_config": {setting: [text]}}), tmp_path)
    assert [(one.status, one.new) for one in audit.references] == [(NOTHING, new)]
