"""Which keys are an adapter's: those that PEFT writes behind, or instead of, a module of the base model."""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# the prefixes of parameters of PEFT's tuners (`BaseTuner.prefix`, peft 0.21), and what prompts are saved under
_PARTS = (
    *("lora_", "loha_", "lokr_", "hada_", "vera_", "vblora_", "ia3_", "oft_", "boft_", "adalora_", "fourierft_"),
    *("hra_", "c3a_", "randlora_", "shira_", "miss_", "road_", "waveft_", "trainable_tokens_", "ln_tuning_"),
    *("adamss_", "beft_", "deft_", "delora_", "frod_", "glora_", "gralora_", "hira_", "lily_", "osf_svd_", "peanut_"),
    *("poly_lora_", "poly_router", "psoft_", "pvera_", "supertuning_", "tinylora_", "unilora_"),
    *("prompt_embeddings", "prompt_task_", "prefix_task_", "adaption_", "modules_to_save"),
)
# what kinds whose part is a module or a list of parameters save behind it
_TAILS = frozenset(
    (
        *("weight", "bias", "Xd", "Xu", "zeros", "vector_a", "vector_b", "S_low", "U_low", "V_low", "module_logits"),
        *("alpha", "dora_scale"),  # kohya's
    )
)


def has_part(key: str) -> bool:
    """Whether a segment of a key is one that an adapter adds.

    >>> has_part("layers.0.q_proj.lora_A.weight"), has_part("layers.0.q_proj.weight")
    (True, False)
    """
    return any(segment.startswith(_PARTS) for segment in key.split("."))


def _is_named(key: str) -> bool:
    """Whether the part bears the name of its adapter, as in the state of a live model and in no adapter's file.

    >>> _is_named("q.lora_A.default.weight"), _is_named("q.lora_A.weight"), _is_named("q.lokr_w1")
    (True, False, False)
    """
    segments = key.split(".")
    at = next((at for at, segment in enumerate(segments) if segment.startswith(_PARTS)), len(segments))
    behind = segments[at + 1 :]
    return len(behind) > 1 or any(one not in _TAILS and not one.isdigit() for one in behind)


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether keys are those of an adapter's file; the state of a model with adapters in it is none.

    >>> is_adapter(["base_model.model.q.lora_A.weight", "base_model.model.score.weight"])
    True
    >>> is_adapter(["base_model.model.q.lora_A.default.weight", "base_model.model.q.base_layer.weight"])
    False
    """
    listed = list(keys)
    if not any(map(has_part, listed)) or any(map(_is_named, listed)):
        return False
    return all(has_part(key) or key.startswith(PREFIX) for key in listed)
