"""Write the checkpoints of data/ that are made here: published names, shapes from the config beside them.

The names are those of the published files; current transformers names its modules otherwise, which is the point.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from treealign import KeyTree

DATA = Path(__file__).parent.parent / "data"
# current name -> published name, the first that fits
LLAVA = (
    ("lm_head.", "language_model.lm_head."),
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)


def published(key: str, prefixes: Iterable[tuple[str, str]]) -> str:
    return next((old + key.removeprefix(new) for new, old in prefixes if key.startswith(new)), key)


def model_of(folder: Path, device: str) -> torch.nn.Module:
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device(device):
        return getattr(transformers, config.architectures[0])(config)


def write_llava(folder: Path) -> None:
    state = model_of(folder, "meta").state_dict()
    leaves = [(published(key, LLAVA), tuple(value.shape), "float16") for key, value in state.items()]
    KeyTree.from_leaves(leaves).to_json(folder / "checkpoint.json")


def write_clip(folder: Path) -> None:
    state = model_of(folder, "meta").state_dict()
    leaves = [(key, tuple(value.shape), "float32") for key, value in state.items()]
    # when the file was published these buffers were persistent
    leaves += [("text_model.embeddings.position_ids", (1, 77), "int64")]
    leaves += [("vision_model.embeddings.position_ids", (1, 257), "int64")]
    KeyTree.from_leaves(leaves).to_json(folder / "checkpoint.json")


def write_tiny(folder: Path) -> None:
    torch.manual_seed(0)
    state = model_of(folder, "cpu").half().state_dict()
    tensors = {published(key, LLAVA): value.contiguous() for key, value in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    write_llava(DATA / "llava-1.5-7b")
    write_clip(DATA / "clip-vit-large-patch14")
    write_tiny(DATA / "llava-tiny")
