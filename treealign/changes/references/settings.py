"""Settings that hold names of modules: what reads the items of their lists, their plain text, and their keys."""

from __future__ import annotations

import re
from typing import NamedTuple

from treealign.changes.references.mentions import Strength


class Setting(NamedTuple):
    """The readers of a setting's value; an empty one reads nothing.

    `split` says that the plain text may list several names between commas.
    """

    items: str = ""
    text: str = ""
    keys: str = ""
    split: bool = False
    strength: Strength = "consumer"


PEFT = Setting("suffix", "module fullmatch")
LISTED = Setting("suffix", "suffix", split=True)
SKIP = Setting("skip", "skip", "skip")
TARGETS = Setting("layer", "layer", "layer")
PLAN = Setting("plan", "plan", "plan")
FREEZE = Setting("contains", "contains", "contains", split=True)
CLASSES = Setting("class", "class", split=True)
SEARCHED = Setting("search", "search", "search")
GGUF = Setting("key search", "key search", "key search", split=True)
JSON_TEXT = Setting()  # settings that are written as one text of JSON
NOTHING = Setting()

# underscores at the ends are not looked at
_SETTINGS: dict[str, Setting] = {
    "target_modules": PEFT,
    "exclude_modules": PEFT,
    "lora_target_modules": PEFT,
    "modules_to_save": Setting("module end", "module end", split=True),
    "target_parameters": Setting("key suffix", "key suffix"),
    "trainable_token_indices": Setting(keys="suffix"),
    "rank_pattern": Setting(keys="rank"),
    "alpha_pattern": Setting(keys="rank"),
    "layers_pattern": Setting("level", "level"),
    "dynamic": Setting(keys="layer match"),  # GPTQModel: patterns with `+:` or `-:` in front
    "lora_target": LISTED,
    "additional_target": LISTED,
    "freeze_trainable_modules": LISTED,
    "freeze_extra_modules": LISTED,
    "modules_to_not_convert": SKIP,
    "llm_int8_skip_modules": SKIP,
    "skip_modules": SKIP,
    "modules_to_skip": SKIP,
    "ignored_layers": TARGETS,
    "ignore": TARGETS,
    "targets": TARGETS,
    "not_convert": SKIP,
    "device_map": Setting(keys="path"),
    "hf_device_map": Setting(keys="path"),
    "tp_plan": PLAN,
    "pp_plan": PLAN,
    "ep_plan": PLAN,
    "base_model_tp_plan": PLAN,
    "base_model_pp_plan": PLAN,
    "base_model_ep_plan": PLAN,
    "parallelize_plan": PLAN,
    "unfrozen_parameters": Setting("match", "match"),
    "keys_to_ignore_on_load_missing": Setting("search", "search"),
    "keys_to_ignore_on_load_unexpected": Setting("search", "search"),
    "keys_to_ignore_on_save": Setting("search", "search"),
    "tied_weights_keys": Setting("key suffix", "key suffix", "key suffix"),
    "lora_attn_modules": LISTED,  # torchtune
    "supported_lora_modules": LISTED,  # vLLM: the ends of names
    "packed_modules_mapping": Setting(keys="suffix"),
    "embedding_modules": Setting(keys="suffix"),
    "hf_overrides": JSON_TEXT,
    "additional_config": JSON_TEXT,
    "smooth_layer": TARGETS,  # of the mappings of llm-compressor's modifiers
    "balance_layers": TARGETS,
    "mappings": Setting("layer", "layer"),
    "sequential_targets": Setting("layer", "layer"),
    "module_fqn_to_config": Setting(keys="layer"),  # torchao
    "fqn_to_config": Setting(keys="layer"),
    "filter_fqns": FREEZE,  # torchtitan: parts of names
    "split_points": Setting("path", "path", split=True),
    "pipeline_parallel_split_points": Setting("path", "path", split=True),
    "module_fqns_per_model_part": Setting("path", "path"),
    "modules_in_block_to_quantize": Setting("suffix", "suffix"),  # GPTQ: below a block
    "inside_layer_modules": Setting("suffix", "suffix"),
    "block_name_to_quantize": Setting(text="path"),
    "module_name_preceding_first_block": Setting("path", "path"),
    "config_for_layers": Setting(keys="path"),  # VPTQ
    "quant_cfg": Setting(keys="glob"),  # ModelOpt
    "layer_quant_config": Setting(keys="glob"),  # Quark
    "override_tensor": GGUF,  # llama.cpp
    "tensor_type": GGUF,
    "ignored_modules": Setting("module fullmatch", "module fullmatch"),  # accelerate's FSDP plugin
    "only_if_contains": FREEZE,  # ai-toolkit
    "ignore_if_contains": FREEZE,
    "exclude_patterns": Setting("match", "match"),  # musubi-tuner
    "include_patterns": Setting("match", "match"),
    "no_split_modules": CLASSES,
    "no_split_module_classes": CLASSES,
    "transformer_layer_cls_to_wrap": CLASSES,
    "moe_layer_cls_names": CLASSES,  # DeepSpeed's leaf modules, by accelerate
    "leaf_module_classes": CLASSES,
    "skip_keys_device_placement": NOTHING,  # names of arguments
}
_FREEZE = re.compile(r"freez|frozen|trainable|no_decay|skip|exclude|keys_to_ignore|ignored?_(keys|names|param)|lr_mult")


def setting_of(name: str) -> Setting | None:
    """What reads the value of a setting, variable or argument of that name; None where nothing is known of it.

    >>> setting_of("target_modules").items, setting_of("FREEZE_LIST").items, setting_of("hidden_size")
    ('suffix', 'contains', None)
    """
    bare = name.strip("_-").lower().replace("-", "_")
    known = _SETTINGS.get(bare)
    if known is None and bare.startswith("fsdp_"):
        known = _SETTINGS.get(bare.removeprefix("fsdp_"))
    if known is None and _FREEZE.search(bare):
        return FREEZE
    return known
