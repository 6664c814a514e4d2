"""An adapter is migrated by the mapping of its base model."""

from __future__ import annotations

import pytest
import torch
from auditing import NEW, OLD, audited, llava
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from treealign import TreealignError
from treealign.changes.adapters import adapter_mapping

VISION = "base_model.model.model.vision_tower{}.encoder.layers.{}.self_attn.q_proj.lora_{}.weight"
TEXT = "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight"


def adapter(level: str) -> dict[str, torch.Tensor]:
    keys = [VISION.format(level, i, part) for i in range(2) for part in "AB"]
    return {key: torch.full((2, 2), float(at)) for at, key in enumerate([*keys, TEXT])}


def migrated(audit, keys) -> list[str]:
    mapping = adapter_mapping(audit.mapping, audit.translation, keys)
    return [key for (key,) in mapping.map_keys(keys, converted=False).values()]


def test_lora_keys_follow_the_modules_that_they_adapt():
    assert migrated(llava(), list(adapter(".vision_model"))) == list(adapter(""))


def test_an_adapter_without_the_wrapper_of_peft_is_migrated_too():
    keys = [key.removeprefix("base_model.model.") for key in adapter(".vision_model")]
    assert migrated(llava(), keys) == [key.removeprefix("base_model.model.") for key in adapter("")]


def test_the_verbs_write_the_mapping_and_convert_the_file(tmp_path):
    from treealign.cli.verbs import app

    old, new, mapping = tmp_path / "adapter_model.safetensors", tmp_path / "migrated", tmp_path / "mapping.json"
    save_file(adapter(".vision_model"), old)
    run = CliRunner().invoke
    made = run(app, ["audit", str(OLD), str(NEW), "-o", str(mapping), "--adapter", str(old)])
    converted = run(app, ["convert", str(old), str(new), str(mapping)])
    assert (made.exit_code, converted.exit_code) == (1, 0), converted.output
    (written,) = new.rglob("*.safetensors") if new.is_dir() else [new]
    found = load_file(written)
    assert {key: int(tensor[0, 0]) for key, tensor in found.items()} == {key: at for at, key in enumerate(adapter(""))}


def test_an_adapter_of_fused_modules_is_refused_with_its_keys():
    parts = [("attn.q.weight", (8, 8)), ("attn.k.weight", (2, 8)), ("attn.v.weight", (2, 8)), ("norm.weight", (8,))]
    fused = [("attn.qkv.weight", (12, 8)), ("norm.weight", (8,))]
    old, new = ([(f"layers.{i}.{name}", s) for i in range(2) for name, s in rows] for rows in (parts, fused))
    key = "base_model.model.layers.0.attn.q.lora_A.weight"
    with pytest.raises(TreealignError, match="does not migrate") as caught:
        migrated(audited(old, new), [key])
    assert key in str(caught.value)
