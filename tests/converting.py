"""Checkpoints to convert, mappings to convert them by, and what there is to compare."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file
from weights import write

from treealign import ConversionMapping, Convert, PrefixChange, operations
from treealign.formats.safetensors_header import read_header

PREFIX = ConversionMapping([PrefixChange(add="model")])
EXPERTS = ConversionMapping(
    [
        Convert("l.{i}.e.{j:0..3}.w", "l.{i}.experts", operations.Stack(0, 4)),
        Convert("l.{i}.qkv", ["l.{i}.q", "l.{i}.k"], operations.Split(0, (6, 2))),
        Convert("l.{i}.out", "l.{i}.out_t", operations.Permute((1, 0))),
    ]
)
REMOVED = ConversionMapping([PrefixChange(remove="bad")])
INDEX = "model.safetensors.index.json"


def layer(i):
    experts = {f"l.{i}.e.{j}.w": torch.randn(3, 5) for j in range(4)}
    return experts | {
        f"l.{i}.qkv": torch.randn(8, 3),
        f"l.{i}.out": torch.randn(2, 6).half(),
        f"l.{i}.n": torch.ones(()),
    }


def sharded(folder, parts, metadata=None):
    """Shards with their index, and a config beside them."""
    names = [f"model-{at:05d}-of-{len(parts):05d}.safetensors" for at in range(1, len(parts) + 1)]
    for name, tensors in zip(names, parts, strict=True):
        write(folder / name, tensors)
    weight_map = {key: name for name, tensors in zip(names, parts, strict=True) for key in tensors}
    total = sum(tensor.nbytes for tensors in parts for tensor in tensors.values())
    content = {"metadata": {"total_size": total, **(metadata or {})}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(content))
    (folder / "config.json").write_text("{}")
    return folder


def contents(folder):
    """Keys, shapes, dtypes, bytes, metadata and order of each shard, and what the index says."""
    shards = {
        path.name: (header.metadata, [(e[:3], load_bytes(path, header, e)) for e in header.tensors])
        for path in sorted(folder.glob("*.safetensors"))
        for header in [read_header(path)]
    }
    index = folder / INDEX
    return shards, json.loads(index.read_text()) if index.exists() else None


def load_bytes(path, header, entry):
    return path.read_bytes()[header.data_start + entry.begin : header.data_start + entry.end]


def tensors_of(folder):
    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
