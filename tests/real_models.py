"""Architectures of transformers, tiny and with random weights, and their checkpoints under the published names.

No download: weights are drawn from a seed. Old names are those that transformers itself reads and writes, by its own
conversion mapping in reverse, or spelled out here where that mapping does not reverse to what was published.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from releases import need_class
from safetensors.torch import save_file
from torch import nn

from treealign import ConversionMapping, suggest

SHARD = 20_000  # bytes: three shards or more


@dataclass(frozen=True)
class Architecture:
    """A model, its inputs, its published checkpoint, and what a user has to say for it to load.

    Attributes
    ----------
    make, inputs : callable
        The model, and the arguments of its forward pass.
    write : callable
        Writes the checkpoint of a model into a folder, under the published names.
    read : callable or None
        What transformers makes of that checkpoint; None for models that are not its own.
    mapping : callable or None
        The mapping to give to `load` where the names leave something open, from the folder and the model.
    options : mapping
        Other options of `load`.
    refused : bool
        Whether `load` is held to refusing it without the mapping: shapes and names cannot settle it.
    dtype : torch.dtype
        Of the checkpoint; models are made in float32.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Mapping[str, Any]]
    write: Callable[[nn.Module, Path], None]
    read: Callable[[nn.Module, Path], nn.Module] | None
    mapping: Callable[[Path, nn.Module], ConversionMapping] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: bool = False
    dtype: torch.dtype = torch.float32


def quiet_transformers() -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def tiny(model: str, **config: Any) -> Callable[[], nn.Module]:
    """A factory of a model of transformers with this configuration."""

    def make() -> nn.Module:
        need_class(model)
        kind = getattr(quiet_transformers(), model)
        made: nn.Module = kind(kind.config_class(**config))
        return made

    return make


def build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The model with every weight and every kept buffer drawn from the seed, so that each of them counts."""
    torch.manual_seed(seed)
    model = make().eval()
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                around = 1.0 if tensor.dim() == 1 and key.endswith("weight") else 0.0
                tensor.copy_(torch.randn(tensor.shape, generator=drawn) * 0.1 + around)
            if key.endswith(("running_var", "cluster_usage")):
                tensor.abs_().add_(0.5)
    return model


def outputs(model: nn.Module, inputs: Callable[[], Mapping[str, Any]]) -> list[torch.Tensor]:
    """All tensors that a forward pass gives."""
    torch.manual_seed(0)
    with torch.no_grad():
        return list(_tensors(model(**inputs())))


def _tensors(given: Any) -> Iterator[torch.Tensor]:
    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, Mapping):
        for value in given.values():
            yield from _tensors(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _tensors(value)


def without_memory(model: nn.Module) -> nn.Module:
    """The model with parameters and kept buffers on the meta device; buffers that it computes itself are computed."""
    state = model.state_dict(keep_vars=True)
    bare = {id(t): nn.Parameter(t.to("meta"), t.requires_grad) for t in state.values() if isinstance(t, nn.Parameter)}
    kept = {id(t) for t in state.values() if not isinstance(t, nn.Parameter)}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            setattr(module, name, bare[id(parameter)])
        for name, buffer in module.named_buffers(recurse=False):
            if id(buffer) in kept:
                setattr(module, name, buffer.to("meta"))
    return model


def read_by_transformers(model: nn.Module, folder: Path) -> nn.Module:
    """What `from_pretrained` makes of a checkpoint, its weights in memory as aligned as those of any other model.

    Weights that stay in the mapped file may lie at any address, and then other kernels give other last bits.
    """
    read, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    for parameter in read.parameters():
        parameter.data = parameter.data.clone()
    result: nn.Module = read.eval()
    return result


# -- how checkpoints are written ---------------------------------------------------------------------------------------


def by_transformers(model: Any, folder: Path, **options: Any) -> None:
    """Save as transformers saves what it loaded from the published names: all its transforms reversed."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False)
    model.save_pretrained(folder, **options)


def published_by_transformers(model: Any) -> dict[str, torch.Tensor]:
    """The tensors that `by_transformers` writes."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False)
    reverted: dict[str, torch.Tensor] = revert_weight_conversion(model, model.state_dict())
    return reverted


def in_shards(model: nn.Module, folder: Path) -> None:
    by_transformers(model, folder, max_shard_size=SHARD)


def renamed(rename: Callable[[str], str], model: Any, folder: Path) -> None:
    """One safetensors file under other names."""
    save_file(_published(rename, model), folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model, "config"):
        model.config.save_pretrained(folder)


def written(tensors: Callable[[nn.Module], Mapping[str, torch.Tensor]], model: Any, folder: Path) -> None:
    """One safetensors file with other tensors."""
    save_file(
        {key: t.contiguous() for key, t in tensors(model).items()}, folder / "model.safetensors", {"format": "pt"}
    )
    model.config.save_pretrained(folder)


def pickled(rename: Callable[[str], str], model: Any, folder: Path) -> None:
    torch.save(_published(rename, model), folder / "pytorch_model.bin")
    model.config.save_pretrained(folder)


def _published(rename: Callable[[str], str], model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of their own, tied ones under the first of their names."""
    first: dict[int, str] = {}
    for key, tensor in model.state_dict().items():
        first.setdefault(tensor.data_ptr(), key)
    state = model.state_dict()
    return {rename(key): state[key].detach().clone() for key in first.values()}


def below(level: str) -> Callable[[str], str]:
    return lambda key: f"{level}.{key}"


def without(level: str) -> Callable[[str], str]:
    return lambda key: key.removeprefix(f"{level}.")


def old_bert(key: str) -> str:
    """Layer norms of the first releases."""
    return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def old_altclip(key: str) -> str:
    key = re.sub(r"^vision_model\.", "vision_model.vision_model.", key)
    return key.replace("roberta.encoder.layers.", "roberta.encoder.layer.")


def old_wav2vec2(key: str) -> str:
    """Weight norm before it was a parametrization."""
    key = key.replace("parametrizations.weight.original0", "weight_g")
    return key.replace("parametrizations.weight.original1", "weight_v")


def old_dory(key: str) -> str:
    """Attention and mlp of a layer as two blocks of one kind."""
    blocks = {"self_attn": "0 mixer", "mlp": "1 mixer", "lambda_1": "0 attn_alpha", "lambda_2": "1 mlp_alpha"}
    key = re.sub(r"^model\.", "backbone.", key).replace("embed_tokens", "embeddings")
    key = key.replace("self_attn.gate_proj", "self_attn.g_proj")
    if found := re.fullmatch(r"backbone\.layers\.(\d+)\.(\w+)(.*)", key):
        index, part, rest = found.groups()
        second, name = blocks[part].split()
        return f"backbone.layers.{2 * int(index) + int(second)}.{name}{rest}"
    return key


def old_sam3(key: str) -> str:
    """The video checkpoint: the backbone is the detector's, the rest the tracker's."""
    if key.startswith("vision_encoder.neck."):
        return key.replace("vision_encoder.neck.", "tracker_neck.")
    return f"detector_model.{key}" if key.startswith("vision_encoder.") else f"tracker_model.{key}"


# -- inputs ------------------------------------------------------------------------------------------------------------


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def words(count: int = 6, batch: int = 1) -> torch.Tensor:
    return torch.randint(3, 30, (batch, count), generator=torch.Generator().manual_seed(4))


def image(size: int = 8) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"pixel_values": noise(1, 3, size, size)}


def text() -> Mapping[str, Any]:
    return {"input_ids": words()}


def both() -> Mapping[str, Any]:
    return {"input_ids": words(), "pixel_values": noise(1, 3, 8, 8)}


def image_in_text(token: int, patches: int) -> Callable[[], Mapping[str, Any]]:
    """Text in which a picture stands for the first tokens."""
    return lambda: {"input_ids": torch.cat([torch.full((1, patches), token), words(4)], 1), **image()()}


def guess(folder: Path, model: nn.Module) -> ConversionMapping:
    """The mapping of the suggestion, its doubtful matches included: a user who has looked at it and agrees."""
    found: ConversionMapping = suggest(folder, model).mapping.accept()
    return found


def plain(name: str, model: str, inputs: Callable[[], Mapping[str, Any]], **config: Any) -> Architecture:
    """An architecture whose checkpoint transformers writes as it was published, in one file."""
    return Architecture(name, tiny(model, **config), inputs, by_transformers, read_by_transformers)
