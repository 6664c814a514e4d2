"""What an adapter's config says of how its update is computed, besides its tensors: it has to be so in the model, too.

A model keeps the config that its adapter was made with; loading tensors does not change it. Trained with another alpha
or on other random frequencies, the same numbers compute something else, and nothing in them shows it. So all settings
of the two configs are held against each other, but those that are known to compute nothing once the tensors are there.
What may differ from module to module is compared as each module gets it, by its name on either side.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isclose, sqrt
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.expressions import matching
from treealign.checkpoint.adapters.modules import module_of
from treealign.checkpoint.adapters.parts import CONFIG, has_part
from treealign.formats.texts import read_bounded
from treealign.mapping.planning import Step

# Settings of peft 0.21's configs that compute nothing in a model whose adapter has its tensors
_DESCRIBING = (
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("tokenizer_name_or_path", "tokenizer_kwargs", "adapters"),  # the last: X-LoRA's paths
)
_IN_KEYS_OR_SHAPES = (
    *("modules_to_save", "bias", "feedforward_modules", "save_projection", "save_indices", "save_precomputed_indices"),
    *("ensure_weight_tying", "boft_block_size", "boft_block_num", "oft_block_size", "encoder_hidden_size"),
    *("token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers", "num_virtual_tokens"),
)
_TRAINING = (
    *("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"),  # AdaLoRA
    *("final_warmup", "mask_interval", "use_asa", "asa_target_subspaces", "asa_importance_beta"),  # AdaMSS
    *("asa_uncertainty_beta", "asa_schedule_exponent", "regularization_alpha", "auxiliary_loss_weight"),
    *("opt_weighted_loss_type", "opt_loss_decay_factor", "opt_projection_epsilon", "opt_projection_format_epsilon"),
    "velora_config",
)
_FIRST_NUMBERS = (
    *("init_r", "init_warmup", "init_scale", "init_vector_bank_bound", "init_logits_std", "init_theta_d_bound"),
    *("init_v_bound", "d_initial", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    *("prompt_tuning_init", "prompt_tuning_init_text", "prompt_tuning_init_state_dict_path", "prompt_tuning_init_task"),
)
_RUNNING = ("megatron_config", "megatron_core", "runtime_config", "runtime_offload_base_weight", "progressbar")
_NOTHING = frozenset((*_DESCRIBING, *_IN_KEYS_OR_SHAPES, *_TRAINING, *_FIRST_NUMBERS, *_RUNNING))
# where the adapter is: its keys show it, where they stand on modules at all
_WHERE = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters")
# ways of making the first numbers that leave the base model and the formula as they are; PiSSA, OLoRA, LoftQ and others
# take their part from the weights of the base model, and MiSS means another formula by "bat"
_WAYS = ("init_lora_weights", "init_weights", "init_ia3_weights")
_FRESH = ("gaussian", "eva", "orthogonal", "xavier_uniform", "kaiming_uniform", "uniform", "zero", "lycoris")
# what is drawn from a seed, and the setting with which the file holds what was drawn
_DRAWN = {
    **dict.fromkeys(("projection_prng_key", "projection_seed", "sparse", "very_sparse"), "save_projection"),
    "proj_seed": "save_indices",
    **dict.fromkeys(("random_seed", "mask_type"), "mask_type"),  # SHiRA's file always does
}
# settings by module, and what counts for a module that none of their patterns fits
_BY_MODULE: Mapping[str, tuple[str, ...]] = {
    "alpha_pattern": ("lora_alpha", "alpha"),
    "rank_pattern": ("r", "effective_rank"),
    "lambda_pattern": ("delora_lambda",),
    "n_frequency_pattern": ("n_frequency",),
    "block_size_pattern": ("block_size",),
    "trainable_token_indices": (),
}
_SCALED = ("alpha_pattern", "rank_pattern")
Settings = Mapping[str, Any]


def other_settings(config: Any, folder: Path | None, steps: Iterable[Step]) -> tuple[str, ...]:
    """Settings of the config beside an adapter's file that are others in the model, both sides of each.

    A setting that is absent beside the file is what peft's class of the config has for it; one that this class does
    not know (of another release of peft) is not compared.

    Parameters
    ----------
    config : PeftConfig
        The adapter's in the model.
    folder : Path or None
        Where the file is.
    steps : iterable of Step
        From keys of the file to those of the adapter in the model, as a file names them.
    """
    try:
        beside = json.loads(read_bounded(folder / CONFIG)) if folder is not None else None
    except (OSError, ValueError, RecursionError):
        return ()
    if not isinstance(beside, Mapping):
        return ()
    here = _as_read(config.to_dict())
    there = {name: beside.get(name, value) for name, value in ({**here, **_defaults(config)}).items() if name in here}
    keys = [(old, new) for step in steps for old in step.sources for new in step.targets]
    return tuple(_differing(there, here, list(dict.fromkeys(keys))))


def _as_read(settings: Settings) -> dict[str, Any]:
    """Settings as they would be read from a file."""
    made: dict[str, Any] = json.loads(
        json.dumps(settings, default=lambda v: sorted(v, key=str) if _is_set(v) else str(v))
    )
    return made


def _is_set(value: Any) -> bool:
    return isinstance(value, (set, frozenset))


def _defaults(config: Any) -> dict[str, Any]:
    """What peft takes for settings that are not given; the kind and what describes the model have no default."""
    found: dict[str, Any] = {}
    for one in dataclasses.fields(config):
        if one.default_factory is not dataclasses.MISSING:
            found[one.name] = one.default_factory()
        elif one.default is not dataclasses.MISSING and one.name != "peft_type":
            found[one.name] = one.default
    return _as_read(found)


def _differing(there: Settings, here: Settings, keys: Sequence[tuple[str, str]]) -> Iterator[str]:
    keys = [(old, new) for old, new in keys if has_part(old)]
    on_modules = any(module_of(old) not in ("", "base_model") for old, _ in keys)
    without = _NOTHING.union(_WHERE if on_modules else ())
    by_module = [name for name in _BY_MODULE if name in here]
    scaled = set(_SCALED) <= set(by_module)
    for name in by_module:
        names = {name, *_BY_MODULE[name]}
        without |= names
        if name in _SCALED and scaled:
            continue
        yield from _elsewhere(name, names, _of_modules(name, there, here, keys), there, here)
    if scaled:
        names = {"use_rslora", *_SCALED, *(base for name in _SCALED for base in _BY_MODULE[name])}
        without |= names
        yield from _elsewhere("the scale", names, _scales(there, here, keys), there, here)
    for name in here:
        if name not in without and "dropout" not in name and not _is_kept(name, there, here):
            a, b = _plain(name, there[name]), _plain(name, here[name])
            if a != b:
                yield _said(name, there[name], here[name])


def _elsewhere(
    label: str, names: Iterable[str], values: Iterable[tuple[str, Any, Any]], there: Settings, here: Settings
) -> Iterator[str]:
    """The settings behind values that differ, and the first module that gets another one."""
    first = next((one for one in values if not _same(*one[1:])), None)
    # a pattern may fit a parameter, of which keys say only the module
    if first is not None or here.get("target_parameters"):
        for name in sorted(set(names) & set(here)):
            if _plain(name, there[name]) != _plain(name, here[name]):
                yield _said(name, there[name], here[name])
    if first is not None:
        yield _said(f"{label} of {first[0]}", *first[1:])


def _of_modules(
    name: str, there: Settings, here: Settings, keys: Sequence[tuple[str, str]]
) -> list[tuple[str, Any, Any]]:
    """Module of the model, and what it gets by either config."""
    tokens = name == "trainable_token_indices"
    # peft keeps trained tokens in a module of their own below the embedding
    names = [
        (module_of(old).removesuffix(".token_adapter"), module_of(new).removesuffix(".token_adapter"))
        for old, new in keys
        if not tokens or "trainable_tokens" in old
    ]
    pairs = list(dict.fromkeys(names))
    olds, news = _got(name, there, [old for old, _ in pairs]), _got(name, here, [new for _, new in pairs])
    return [(new, olds[old], news[new]) for old, new in pairs]


def _got(name: str, settings: Settings, modules: Sequence[str]) -> dict[str, Any]:
    """What each module gets: by the first pattern that fits it (peft's `get_pattern_key`), or what counts for all."""
    held = settings.get(name)
    found: dict[str, Any] = {}
    for pattern, value in held.items() if isinstance(held, Mapping) else ():
        try:
            for module in matching(rf"(.*\.)?({pattern})$", modules, "match"):
                found.setdefault(module, value)
        except re.error:  # peft finds no module by it, either
            continue
    given = next((settings[base] for base in _BY_MODULE[name] if base in settings), None)
    rest = held if isinstance(held, list) else given
    return {module: found.get(module, rest) for module in modules}


def _scales(there: Settings, here: Settings, keys: Sequence[tuple[str, str]]) -> list[tuple[str, Any, Any]]:
    """Alpha over rank: where updates are joined or split both change, and their scale does not."""
    alphas, ranks = (_of_modules(name, there, here, keys) for name in _SCALED)
    roots = (bool(there.get("use_rslora")), bool(here.get("use_rslora")))
    return [
        (module, _scale(a, r, roots[0]), _scale(b, s, roots[1]))
        for (module, a, b), (_, r, s) in zip(alphas, ranks, strict=True)
    ]


def _scale(alpha: Any, rank: Any, root: bool) -> Any:
    if not (_is_number(alpha) and _is_number(rank) and rank > 0):
        return [alpha, rank, root]
    return alpha / (sqrt(rank) if root else rank)


def _same(there: Any, here: Any) -> bool:
    numbers = _is_number(there) and _is_number(here)
    return isclose(there, here, rel_tol=1e-9) if numbers else bool(_plain("", there) == _plain("", here))


def _is_number(value: Any) -> bool:
    """One to compute with: a file may hold an integer that no float is."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 1000)


def _is_kept(name: str, there: Settings, here: Settings) -> bool:
    """Whether what a setting leads to is in the file."""
    flag = _DRAWN.get(name)
    return flag is not None and bool(there.get(flag) and here.get(flag))


def _plain(name: str, value: Any) -> Any:
    """None, an empty list and False are alike: not asked for. So are ways that make numbers which the load replaces."""
    if name in _WAYS and (not isinstance(value, str) or value.lower() in _FRESH):
        return None
    if name in _WHERE and isinstance(value, list):
        value = sorted(map(str, value))
    return None if value is False or (not value and not isinstance(value, (int, float))) else value


def _said(name: str, there: Any, here: Any) -> str:
    return f"{name}: {there} beside the file, {here} in the model"
