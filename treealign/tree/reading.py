"""`read_tree`: one side, whatever it is written in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from treealign.errors import FormatError, TreealignError
from treealign.tree.keytree import KeyTree


def read_tree(source: Any) -> KeyTree:
    """The leaves of a model or a checkpoint.

    Parameters
    ----------
    source : KeyTree, torch.nn.Module, mapping of str to tensor, str or PathLike
        A module may be on the meta device; its keys are those of its ``state_dict()``. A path names a safetensors file,
        a torch file, an index of shards, a folder with one of these, or a tree JSON; what it is, is told from its
        contents. Of a safetensors file only the header is read, and torch is not imported.

    Returns
    -------
    KeyTree
        With module classes and order for a module, order for a torch file, neither for safetensors.

    Raises
    ------
    FormatError
        If a file is not what it claims to be, naming the file and the keys.
    TreealignError
        If the source is nothing that has leaves.
    """
    if isinstance(source, KeyTree):
        return source
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source))
    if _is_module(source):
        from treealign.tree.module_tree import module_tree

        return module_tree(source)
    if isinstance(source, Mapping):
        from treealign.tree.module_tree import state_dict_tree

        return state_dict_tree(source)
    raise TreealignError(
        f"cannot read a tree from {type(source).__name__}",
        hint="pass a module, a state dict, a KeyTree, or the path of a checkpoint",
    )


def _is_module(source: Any) -> bool:
    # whoever holds a module has imported torch; nobody else should have to
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _from_path(path: str) -> KeyTree:
    from treealign.formats.safetensors_header import read_header

    if path.startswith("hf://"):
        raise FormatError(
            "reading from the hub is not available yet", where=path, hint="download the checkpoint and pass its folder"
        )
    if path.endswith(".json"):
        from treealign.formats.tree_json import read_tree_json

        tree = read_tree_json(path)
        return KeyTree.from_leaves(tree.leaves, tree.modules, tree.tied, tree.ordered, source=path)
    header = read_header(path)
    leaves = [(e.key, e.torch_shape, e.torch_dtype) for e in header.tensors]
    return KeyTree.from_leaves(leaves, source=path)
