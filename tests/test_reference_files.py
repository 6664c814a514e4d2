"""Names are found in every kind of file that holds settings, with their lines, and repaired in their places."""

from __future__ import annotations

import json
import tomllib

import pytest
from auditing import audited

from treealign.changes.repairing import repairs
from treealign.changes.results import NOTHING, STILL

LAYER = "layers.{}.self_attn.q_proj.weight", "layers.{}.mlp.gate_proj.weight"
TOWERS = "vision_tower", "language_model"
PARTS = [f"{tower}.{leaf.format(i)}" for tower in TOWERS for leaf in LAYER for i in range(2)]


def moved():
    """An update that put `model.` above everything but the head."""
    head = [("lm_head.weight", (50, 16))]
    return audited([(key, (16, 16)) for key in PARTS] + head, [(f"model.{key}", (16, 16)) for key in PARTS] + head)


def stale(name, text, folder):
    """The stale references, line and old and new, and the text once it is repaired."""
    (folder / name).write_text(text, encoding="utf-8")
    audit = moved().scan([folder / name], 0.7)
    after = [repair.after for repair in repairs(audit.translation, audit.references)]
    return [(one.line, one.old, one.new) for one in audit.references if one.status == NOTHING], (after or [text])[0]


TOML = r"""
# vision_tower: a comment
title = "a text with # and vision_tower.layers"
modules_to_not_convert = ["vision_tower", 'lm_head']  # kept

[training]
split_points = ["language_model.layers.1"]
target_modules = [
    "q_proj",
    "language_model.layers.0.self_attn.q_proj",
]

[model.device_map]
"language_model.layers.0" = 0
lm_head = 1

[adapter]
peft = {r = 4, target_modules = "language_model\\.layers\\.\\d+\\.mlp\\.gate_proj"}
freeze = '''
vision_tower'''
"""


def test_toml_is_read_as_its_settings_are_and_repaired_in_place(tmp_path):
    found, after = stale("run.toml", TOML, tmp_path)
    pattern = r"language_model\.layers\.\d+\.mlp\.gate_proj"
    assert found == [
        (4, "vision_tower", "model.vision_tower"),
        (7, "language_model.layers.1", "model.language_model.layers.1"),
        (14, "language_model.layers.0", "model.language_model.layers.0"),
        (18, pattern, rf"model\.{pattern}"),
    ]
    assert tomllib.loads(after)["adapter"]["peft"]["target_modules"] == rf"model\.{pattern}"
    assert after.replace("model.", "").replace("model\\\\.", "") == TOML.replace("model.", "").replace("model\\\\.", "")


@pytest.mark.parametrize("text", ["a = [1,", "= 3", "[a\n"])
def test_what_is_no_toml_is_listed(text, tmp_path):
    (tmp_path / "a.toml").write_text("vision_tower = 3\n" + text)
    (skipped,) = moved().scan([tmp_path]).skipped
    assert "no TOML" in skipped.reason


def cell(kind, *lines):
    return {"cell_type": kind, "metadata": {}, "source": list(lines)}


def test_the_code_of_a_notebook_is_read_with_the_lines_of_its_file(tmp_path):
    code = cell(
        "code",
        "%pip install peft\n",
        "for name, p in model.named_parameters():\n",
        '    if name.startswith("language_model.layers"):\n',
        "        p.requires_grad_(False)",
    )
    cells = [cell("markdown", "vision_tower.layers.0"), code, cell("code", "%%bash\n", "ls vision_tower.layers")]
    single = {"cell_type": "code", "source": "!ls\nskip = model.get_submodule('vision_tower.layers')", "outputs": []}
    text = json.dumps({"cells": [*cells, single], "nbformat": 4}, indent=1)
    found, after = stale("train.ipynb", text, tmp_path)
    lines = text.splitlines()
    assert [row[1:] for row in found] == [
        ("language_model.layers", "model.language_model.layers"),
        ("vision_tower.layers", "model.vision_tower.layers"),
    ]
    assert all(row[1] in lines[row[0] - 1] for row in found)
    assert '"model.language_model.layers"' in json.loads(after)["cells"][1]["source"][2]


def test_a_notebook_that_is_none_is_listed(tmp_path):
    (tmp_path / "a.ipynb").write_text('{"vision_tower": [], "language_model": 1}')
    (skipped,) = moved().scan([tmp_path]).skipped
    assert "no notebook" in skipped.reason


BLOCK = r"language_model\.layers\.0\..*"
GATE = "language_model.layers.0.mlp.gate_proj"
OVERRIDES = {"quantization_config": {"ignored_layers": [GATE, "lm_head"]}}
SETTINGS = {
    "vLLM, written as one text": ("a.yaml", f"hf-overrides: '{json.dumps(OVERRIDES)}'\n", GATE),
    "vLLM, written out": ("a.json", json.dumps({"hf_overrides": OVERRIDES}), GATE),
    "vLLM in Python": ("a.py", f"llm = LLM(model, hf_overrides={OVERRIDES!r})\n", GATE),
    "torchao": ("a.json", json.dumps({"module_fqn_to_config": {GATE: {}, "_default": None}}), GATE),
    "llm-compressor's mappings": ("a.yaml", f"mappings:\n- [['{GATE}'], 're:.*q_proj']\n", GATE),
    "GPTQ": ("a.json", '{"block_name_to_quantize": "language_model.layers"}', "language_model.layers"),
    "lists in lists": ("a.json", f'{{"module_fqns_per_model_part": [["lm_head"], ["{GATE}"]]}}', GATE),
    "llama.cpp": ("a.json", r'{"override_tensor": ["^language_model\\.layers=CPU"]}', r"^language_model\.layers"),
    "GPTQModel": ("a.json", json.dumps({"dynamic": {rf"-:{BLOCK}": {}}}), BLOCK),
    "accelerate": ("a.yaml", r"ignored_modules: language_model\.layers\.0\.mlp", r"language_model\.layers\.0\.mlp"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_other_tools_are_read(name, tmp_path):
    file, text, old = SETTINGS[name]
    found, after = stale(file, text, tmp_path)
    assert [row[1] for row in found] == [old]
    assert after != text
    (tmp_path / file).write_text(after)
    assert {one.status for one in moved().scan([tmp_path / file]).references} <= {STILL, NOTHING}


def test_the_loras_that_vllm_supports_are_ends_of_names(tmp_path):
    text = 'supported_lora_modules = ["q_proj", "gate_proj"]\npacked_modules_mapping = {"qkv_proj": ["q_proj"]}\n'
    assert stale("a.py", text, tmp_path)[0] == []


def test_the_level_that_an_adapter_numbers_and_ends_of_names_below_it_are_respelled(tmp_path):
    old, new = ([(f"{level}.{i}.attn.q.weight", (8, 8)) for i in range(2)] for level in ("net.h", "model.layers"))
    config = {"layers_pattern": ["h"], "layers_to_transform": [1], "rank_pattern": {"h.1.attn.q": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = audited(old, new).scan([tmp_path], 0.0).references
    assert {(one.old, one.new, one.status) for one in found} == {
        ("h", "layers", NOTHING),
        ("h.1.attn.q", "layers.1.attn.q", NOTHING),
    }
