"""Adapters that were saved under an older layout of their base model find their modules again."""

from __future__ import annotations

import json

import pytest
import torch
from real_models import build, image_in_text, outputs, tiny
from safetensors.torch import load_file, save_file
from weights import write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, TreealignError, load, operations
from treealign.dialects.peft import adapter_keys, migrate_adapter

# the published layout of LLaVA -> that of today
LLAVA = ConversionMapping(
    [
        Rename("language_model.lm_head", "lm_head"),
        Rename("{part:language_model|multi_modal_projector|vision_tower}", "model.{part}"),
        PrefixChange(remove="vision_model", under="model.vision_tower"),
        PrefixChange(remove="model", under="model.language_model"),
    ]
)
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def llava():
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER, image_size=8, patch_size=4),
        text_config=LlamaConfig(**TOWER, vocab_size=64),
        image_token_id=40,
        image_seq_length=4,
    )
    return build(tiny("LlavaForConditionalGeneration", **config.to_dict()), 0)


def adapted(targets):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llava(), LoraConfig(target_modules=targets, r=2))
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=drawn))
    return model


def saved_before(model, folder):
    """The adapter as it was saved when the base model had its old layout."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    level = "base_model.model."
    names = {key: key.removeprefix(level) for key in tensors}
    old = LLAVA.reverse.map_keys(names.values())
    save_file({level + old[names[key]][0]: t for key, t in tensors.items()}, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = [
        LLAVA.reverse.map_keys([f"{name}.weight"])[f"{name}.weight"][0].removesuffix(".weight")
        for name in config["target_modules"]
    ]
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "targets",
    [
        ["q_proj", "v_proj"],
        ["model.language_model.layers.0.self_attn.q_proj", "model.vision_tower.encoder.layers.1.mlp.fc1"],
    ],
)
def test_an_adapter_of_the_old_layout_loads_without_a_missing_key_and_computes_the_same(targets, tmp_path):
    from peft import PeftModel

    model = adapted(targets)
    saved_before(model, tmp_path / "old")
    migrate_adapter(tmp_path / "old", tmp_path / "new", LLAVA)
    again = PeftModel.from_pretrained(llava(), tmp_path / "new")
    wanted = {key: t for key, t in model.state_dict().items() if "lora_" in key}
    held = {key: t for key, t in again.state_dict().items() if "lora_" in key}
    assert held.keys() == wanted.keys()
    assert all(torch.equal(held[key], wanted[key]) for key in wanted)
    inputs = image_in_text(40, 4)
    merged = [outputs(m.merge_and_unload().eval(), inputs) for m in (model, again)]
    assert all(torch.equal(a, b) for a, b in zip(*merged, strict=True))


def test_beside_a_base_that_was_loaded_under_old_names_the_adapter_loads_whole_and_leaves_its_file(
    tmp_path, monkeypatch
):
    from transformers.integrations import peft

    # transformers may ask for a release of peft that is not out yet
    monkeypatch.setattr(peft, "MIN_PEFT_VERSION", "0.18.0")
    model = adapted(["q_proj", "v_proj"])
    saved_before(model, tmp_path / "old")
    migrate_adapter(tmp_path / "old", tmp_path / "new", LLAVA)
    old = LLAVA.reverse.map_keys(llava().state_dict())
    given = write(tmp_path / "base.safetensors", {old[key][0]: t for key, t in llava().state_dict().items()})
    base = llava()
    load(base, given, LLAVA)
    report = base.load_adapter(tmp_path / "new")
    assert (report.missing_keys, report.unexpected_keys) == (set(), set())
    inputs = image_in_text(40, 4)
    both = [outputs(m.eval(), inputs) for m in (model, base)]
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    base.delete_adapter("default")
    base.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


def test_keys_keep_what_the_adapter_adds():
    key = "base_model.model.vision_tower.vision_model.layers.0.fc1.lora_A.weight"
    assert adapter_keys([key], LLAVA) == {key: "base_model.model.model.vision_tower.layers.0.fc1.lora_A.weight"}


def test_an_adapter_on_converted_weights_is_refused():
    mapping = ConversionMapping([Convert("**.qkv", ["**.q", "**.k"], [operations.Split(0, (2, 2))])])
    with pytest.raises(TreealignError, match="converts"):
        adapter_keys(["base_model.model.h.qkv.lora_A.weight"], mapping)


def test_a_folder_without_an_adapter_is_an_error(tmp_path):
    with pytest.raises(TreealignError, match="no adapter"):
        migrate_adapter(tmp_path, tmp_path / "out", LLAVA)
