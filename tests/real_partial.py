"""Checkpoints that fit a model in part, or through what was wrapped around one: with what is true of each.

Models are small ones of transformers and peft, their weights random.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from real_models import build, tiny
from real_renames import DECODER, RENAMES, TEXT, VISION
from torch import nn

Tensors = Mapping[str, torch.Tensor]
Name = Callable[[str], str | None]


@dataclass(frozen=True)
class Partial:
    """A checkpoint, the model it is loaded into, and where each of its keys belongs.

    Attributes
    ----------
    checkpoint : callable
        The tensors.
    model : callable
        The model; its own weights are others.
    truth : callable
        Key of the checkpoint to the key of the model, or None where the model has no place for it.
    doubted : str
        A pattern of keys of the checkpoint that only a person can settle.
    mismatched : dict
        Keys of the model to both shapes.
    """

    name: str
    checkpoint: Callable[[], Tensors]
    model: Callable[[], nn.Module]
    truth: Name = str
    doubted: str = "$^"
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)


def weights(model: str, **config: object) -> Callable[[], dict[str, torch.Tensor]]:
    """Tensors of a model under its own names."""
    return lambda: own(build(tiny(model, **config), seed=1))


def other(model: str, **config: object) -> Callable[[], nn.Module]:
    return lambda: build(tiny(model, **config), seed=2)


def own(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def named(tensors: Callable[[], Tensors], rename: Name) -> Callable[[], dict[str, torch.Tensor]]:
    """The tensors under other names; those without a name are left out."""
    return lambda: {new: tensor for key, tensor in tensors().items() if (new := rename(key)) is not None}


def only(*starts: str) -> Name:
    return lambda key: key if key.startswith(starts) else None


def add(level: str) -> Name:
    return lambda key: f"{level}.{key}"


def drop(level: str) -> Name:
    """Keys below a level without it, and no others."""
    return lambda key: key.removeprefix(f"{level}.") if key.startswith(f"{level}.") else None


def but(rename: Name, *left_out: str) -> Name:
    return lambda key: None if key.startswith(left_out) else rename(key)


LLAMA = {**DECODER, "tie_word_embeddings": False}
LLAMA_3 = {**LLAMA, "num_hidden_layers": 3}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
LLAVA = next(a for a in RENAMES if a.name == "llava")


# -- a head's checkpoint into a base model, and the reverse ------------------------------------------------------------

HEADS = [
    Partial(
        "a language model into its base",
        weights("LlamaForCausalLM", **LLAMA),
        other("LlamaModel", **LLAMA),
        drop("model"),
    ),
    Partial(
        "a base into its language model",
        weights("LlamaModel", **LLAMA),
        other("LlamaForCausalLM", **LLAMA),
        add("model"),
    ),
    Partial(
        "a language model into a classifier",
        weights("LlamaForCausalLM", **LLAMA),
        other("LlamaForSequenceClassification", **LLAMA, num_labels=3),
        only("model."),
    ),
    Partial(
        "a masked language model into its base",
        weights("BertForMaskedLM", **TEXT),
        other("BertModel", **TEXT),
        drop("bert"),
        doubted=r"cls\.predictions\.transform\.dense",
    ),
    Partial(
        "a base into its masked language model",
        weights("BertModel", **TEXT),
        other("BertForMaskedLM", **TEXT),
        but(add("bert"), "pooler"),
        doubted=r"pooler\.dense",
    ),
    Partial(
        "a masked language model into a classifier",
        weights("BertForMaskedLM", **TEXT),
        other("BertForSequenceClassification", **TEXT, num_labels=3),
        only("bert."),
        doubted=r"cls\.predictions\.transform\.dense",
    ),
    Partial(
        "an image classifier into its base",
        weights("ViTForImageClassification", **VISION, num_labels=3),
        other("ViTModel", **VISION),
        drop("vit"),
    ),
    Partial(
        "a base into its image classifier",
        weights("ViTModel", **VISION),
        other("ViTForImageClassification", **VISION, num_labels=3),
        but(add("vit"), "pooler"),
    ),
]

# -- a part of a vision-language model ---------------------------------------------------------------------------------


def llava_text(key: str) -> str | None:
    """The names that the language model has on its own."""
    if key.startswith("lm_head"):
        return key
    below = "model.language_model."
    return f"model.{key.removeprefix(below)}" if key.startswith(below) else None


def into_llava(key: str) -> str:
    return key if key.startswith("lm_head") else f"model.language_model.{key.removeprefix('model.')}"


def llava_weights() -> dict[str, torch.Tensor]:
    return own(build(LLAVA.make, seed=1))


def llava() -> nn.Module:
    return build(LLAVA.make, seed=2)


def language_model_of_llava() -> nn.Module:
    config = LLAVA.make().config.text_config
    return build(lambda: nn_class("LlamaForCausalLM")(config), seed=2)


def nn_class(name: str) -> type[nn.Module]:
    import transformers

    found: type[nn.Module] = getattr(transformers, name)
    return found


PARTS = [
    Partial("a language model into a vision-language model", named(llava_weights, llava_text), llava, into_llava),
    Partial(
        "a bare language tower into a vision-language model",
        named(llava_weights, drop("model.language_model")),
        llava,
        add("model.language_model"),
    ),
    Partial(
        "a bare vision tower into a vision-language model",
        named(llava_weights, drop("model.vision_tower")),
        llava,
        add("model.vision_tower"),
    ),
    Partial("a vision-language model into its language model", llava_weights, language_model_of_llava, llava_text),
]

# -- extra layers ------------------------------------------------------------------------------------------------------


def with_extra_layer() -> dict[str, torch.Tensor]:
    """Multi-token prediction as DeepSeek-V3 publishes it: one layer more, with a head of its own."""
    tensors = weights("LlamaForCausalLM", **LLAMA_3)()
    size = LLAMA["hidden_size"]
    extra = {f"model.layers.2.{n}.weight": torch.randn(size) for n in ("enorm", "hnorm", "shared_head.norm")}
    extra["model.layers.2.eh_proj.weight"] = torch.randn(size, 2 * size)
    extra["model.layers.2.shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    extra["model.layers.2.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
    return {**tensors, **extra}


def with_extra_module() -> dict[str, torch.Tensor]:
    """Multi-token prediction as Qwen3-Next publishes it: a module beside the model."""
    tensors = weights("LlamaForCausalLM", **LLAMA)()
    size = LLAMA["hidden_size"]
    layer = {key: tensor + 1 for key, tensor in tensors.items() if key.startswith("model.layers.0.")}
    extra = {f"mtp.{key.removeprefix('model.')}": tensor for key, tensor in layer.items()}
    extra |= {f"mtp.{n}.weight": torch.randn(size) for n in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}
    return {**tensors, **extra, "mtp.fc.weight": torch.randn(size, 2 * size)}


EXTRA = [
    Partial(
        "a layer for multi-token prediction",
        with_extra_layer,
        other("LlamaForCausalLM", **LLAMA),
        but(str, "model.layers.2."),
    ),
    Partial(
        "a layer for multi-token prediction, prefixed",
        named(with_extra_layer, add("language_model")),
        other("LlamaForCausalLM", **LLAMA),
        but(drop("language_model"), "language_model.model.layers.2."),
        doubted="embed_tokens",
    ),
    Partial(
        "a module for multi-token prediction", with_extra_module, other("LlamaForCausalLM", **LLAMA), but(str, "mtp.")
    ),
    Partial(
        "a module for multi-token prediction, prefixed",
        named(with_extra_module, add("language_model")),
        other("LlamaForCausalLM", **LLAMA),
        but(drop("language_model"), "language_model.mtp."),
    ),
    Partial("fewer layers than the model", weights("LlamaForCausalLM", **LLAMA), other("LlamaForCausalLM", **LLAMA_3)),
    Partial(
        "more layers than the model",
        weights("LlamaForCausalLM", **LLAMA_3),
        other("LlamaForCausalLM", **LLAMA),
        but(str, "model.layers.2."),
    ),
]

# -- tables of another size --------------------------------------------------------------------------------------------

RESIZED = [
    Partial(
        "a larger vocabulary",
        named(weights("LlamaForCausalLM", **{**LLAMA, "vocab_size": 48}), add("module")),
        other("LlamaForCausalLM", **LLAMA),
        but(drop("module"), "module.lm_head", "module.model.embed_tokens"),
        mismatched=dict.fromkeys(("lm_head.weight", "model.embed_tokens.weight"), ((48, 16), (40, 16))),
    ),
    Partial(
        "a longer table of positions",
        weights("BertModel", **{**TEXT, "max_position_embeddings": 128}),
        other("BertModel", **TEXT),
        but(str, "embeddings.position_embeddings"),
        mismatched={"embeddings.position_embeddings.weight": ((128, 16), (64, 16))},
    ),
    Partial(
        "another number of patches",
        named(weights("ViTModel", **{**VISION, "image_size": 16}), add("vit")),
        other("ViTModel", **VISION),
        but(drop("vit"), "vit.embeddings.position_embeddings"),
        mismatched={"embeddings.position_embeddings": ((1, 17, 16), (1, 5, 16))},
    ),
    Partial(
        "another number of labels",
        weights("ViTForImageClassification", **VISION, num_labels=7),
        other("ViTForImageClassification", **VISION, num_labels=3),
        only("vit."),
        mismatched={"classifier.weight": ((7, 16), (3, 16)), "classifier.bias": ((7,), (3,))},
    ),
]

# -- wrappers ----------------------------------------------------------------------------------------------------------


def in_layers(wrapper: str, layers: str = r"\d+") -> Name:
    """A wrapper around layers."""
    return lambda key: re.sub(rf"(layers\.{layers})\.", rf"\1.{wrapper}.", key)


def unwrapped(*wrappers: str) -> Name:
    return lambda key: ".".join(s for s in key.split(".") if s not in wrappers)


def wrapped(name: str, rename: Name, *wrappers: str) -> Partial:
    return Partial(
        name,
        named(weights("LlamaForCausalLM", **LLAMA), rename),
        other("LlamaForCausalLM", **LLAMA),
        unwrapped(*wrappers),
    )


def both(first: Name, second: Name) -> Name:
    return lambda key: second(first(key) or "")


FSDP, CHECKPOINT, COMPILED = "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod"
WRAPPED = [
    wrapped("compiled in parallel", add("module._orig_mod"), "module", COMPILED),
    wrapped("parallel in compiled", add("_orig_mod.module"), "module", COMPILED),
    wrapped("each layer sharded", in_layers(FSDP), FSDP),
    wrapped("each layer checkpointed", in_layers(CHECKPOINT), CHECKPOINT),
    wrapped("each layer compiled, all in parallel", both(in_layers(COMPILED), add("module")), "module", COMPILED),
    wrapped("some layers checkpointed", in_layers(CHECKPOINT, "1"), CHECKPOINT),
    wrapped(
        "one layer checkpointed, another sharded",
        both(in_layers(CHECKPOINT, "1"), in_layers(FSDP, "0")),
        CHECKPOINT,
        FSDP,
    ),
    wrapped(
        "sharded, each layer too, checkpointed", both(in_layers(f"{FSDP}.{CHECKPOINT}"), add(FSDP)), CHECKPOINT, FSDP
    ),
]

# -- adapters ----------------------------------------------------------------------------------------------------------


def with_adapters(**options: object) -> nn.Module:
    model = build(tiny("LlamaForCausalLM", **LLAMA), seed=2)
    adapted: nn.Module = get_peft_model(model, LoraConfig(r=2, **{"target_modules": ["q_proj", "v_proj"], **options}))
    return adapted


def adapter_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    tensors = get_peft_model_state_dict(with_adapters())
    return {key: torch.randn(tensor.shape) for key, tensor in tensors.items()}


def adapted_weights() -> dict[str, torch.Tensor]:
    return {key: torch.randn(tensor.shape) for key, tensor in own(with_adapters()).items()}


def below_adapters(key: str) -> str:
    return "base_model.model." + re.sub(r"(q_proj|v_proj)\.", r"\1.base_layer.", key)


def without_adapters(key: str) -> str | None:
    return None if "lora_" in key else key.removeprefix("base_model.model.").replace(".base_layer", "")


ADAPTED = [
    Partial("a base below its adapters", weights("LlamaForCausalLM", **LLAMA), with_adapters, below_adapters),
    Partial(
        "a model with adapters into its base", adapted_weights, other("LlamaForCausalLM", **LLAMA), without_adapters
    ),
    Partial(
        "an adapter on its model", adapter_weights, with_adapters, lambda key: key.replace(".weight", ".default.weight")
    ),
    Partial(
        "a base below adapters on every matrix, its head kept as well",
        weights("LlamaForCausalLM", **LLAMA),
        lambda: with_adapters(target_modules="all-linear", modules_to_save=["lm_head"]),
        lambda key: "base_model.model." + (re.sub(r"(\w+_proj)\.", r"\1.base_layer.", key)),
        doubted="lm_head",
    ),
]

PARTIAL = HEADS + PARTS + EXTRA + RESIZED + WRAPPED + ADAPTED
