"""Small models and files for tests of loading and saving."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from treealign.formats.safetensors_header import read_header


class Block(nn.Module):
    def __init__(self, size=4):
        super().__init__()
        self.attn = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)


class Tower(nn.Module):
    """Layers below a level that checkpoints name otherwise."""

    def __init__(self, layers=2, size=4):
        super().__init__()
        self.layers = nn.ModuleList(Block(size) for _ in range(layers))
        self.final = nn.LayerNorm(size)


class TwoTowers(nn.Module):
    """A vision tower, a language tower, and a parameter beside them."""

    def __init__(self):
        super().__init__()
        self.vision = Tower()
        self.language = Tower()
        self.scale = nn.Parameter(torch.randn(()))


class TiedHead(nn.Module):
    """An embedding, a body, and a head that shares the embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.body = Tower(layers=1)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight


def state(model, rename=lambda key: key, dtype=None):
    """The state dict of a model, tensors of their own, under other names."""
    return {rename(k): v.detach().clone().to(dtype or v.dtype) for k, v in model.state_dict().items()}


def write(path, tensors, metadata=None):
    """A checkpoint as safetensors' own writer makes it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata or {"format": "pt"})
    return path


def keys(path):
    """The keys of a safetensors file."""
    return {entry.key for entry in read_header(path).tensors}


def saved_keys(folder):
    """The keys of the only weights in a folder."""
    return keys(Path(folder) / "model.safetensors")


def values(model):
    """Everything that loading could change, to be compared before and after."""
    return {k: (v.detach().clone(), v.dtype, v.data_ptr()) for k, v in model.state_dict().items()}


def unchanged(model, before):
    now = values(model)
    return now.keys() == before.keys() and all(
        torch.equal(now[k][0], before[k][0]) and now[k][1:] == before[k][1:] for k in now
    )


def same_values(model, tensors, rename=lambda key: key):
    """Whether a model holds the tensors of a checkpoint, given the name of each of its keys there."""
    return all(torch.equal(v, tensors[rename(k)]) for k, v in model.state_dict().items())


def write_shards(folder, parts):
    """A folder of shards with their index."""
    names = [f"model-{at:05d}-of-{len(parts):05d}.safetensors" for at in range(1, len(parts) + 1)]
    for name, tensors in zip(names, parts, strict=True):
        write(folder / name, tensors)
    weight_map = {key: name for name, tensors in zip(names, parts, strict=True) for key in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
