"""Adapters as diffusers' pipelines save them: one file, PEFT's parts behind the name of the pipeline's component.

``unet.down_blocks.0.attentions.0.proj_in.lora_A.weight``; PEFT's config of each component stands as JSON in the
metadata of the file. A file without it is scaled by one: diffusers takes the rank for alpha then.

Source: diffusers `loaders/lora_base.py` (``LORA_ADAPTER_METADATA_KEY``), `utils/peft_utils.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.parts import CONFIG
from treealign.dialects.lora_files.update import (
    Update,
    config_of,
    read_peft,
    reading,
    split_key,
    write_files,
    write_peft,
)
from treealign.errors import FormatError

_METADATA = "lora_adapter_metadata"
_OLD = {"lora.down.weight": "lora_A.weight", "lora.up.weight": "lora_B.weight"}
WEIGHTS = "pytorch_lora_weights.safetensors"


def peft_to_diffusers(adapters: Mapping[str, str | PathLike[str]], destination: str | PathLike[str]) -> tuple[str, ...]:
    """Write folders of PEFT, one a component (``unet``, ``transformer``, ``text_encoder``), as one file; its keys.

    Raises
    ------
    FormatError
        A folder has no adapter, or more than updates of modules.
    """
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for component, folder in adapters.items():
        update = read_peft(folder)
        tensors |= {f"{component}.{m}.{tail}": t for m, parts in update.tensors.items() for tail, t in parts.items()}
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        settings |= {f"{component}.{name}": value for name, value in config.items()}
    metadata = {"format": "pt", _METADATA: json.dumps(settings, indent=2, sort_keys=True)}
    content = save({key: tensor.contiguous() for key, tensor in tensors.items()}, metadata)
    write_files(Path(destination), {WEIGHTS: content})
    return tuple(tensors)


def diffusers_to_peft(
    checkpoint: str | PathLike[str], destination: str | PathLike[str], component: str = "unet"
) -> tuple[str, ...]:
    """Write one component's adapter as a folder of PEFT; the keys of the file that belong to others.

    Raises
    ------
    FormatError
        The file has nothing for that component.
    """
    from safetensors import safe_open

    front = f"{component}."
    tensors: dict[str, dict[str, Any]] = {}
    with reading(checkpoint), safe_open(checkpoint, framework="pt") as file:
        keys = list(file.keys())
        for key in (key for key in keys if key.startswith(front)):
            module, tail = split_key(_renamed(key.removeprefix(front)), str(checkpoint))
            tensors.setdefault(module, {})[tail] = file.get_tensor(key)
        settings = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    if not tensors:
        components = sorted({key.partition(".")[0] for key in keys})
        raise FormatError(
            f"nothing for {component!r}", where=str(checkpoint), facts=[f"it has {', '.join(components)}"]
        )
    config = {name.removeprefix(front): value for name, value in settings.items() if name.startswith(front)}
    update = Update(tensors, {}, config)
    update.alphas.update({module: float(rank) for module, rank in update.ranks.items()})
    write_peft(update, destination, config or config_of(update))
    return tuple(key for key in keys if not key.startswith(front))


def _renamed(name: str) -> str:
    for old, new in _OLD.items():
        name = name.removesuffix(old) + new if name.endswith(f".{old}") else name
    return name
