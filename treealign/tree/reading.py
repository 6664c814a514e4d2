"""`read_tree`: one side, whatever it is written in."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from treealign.errors import TreealignError
from treealign.formats.addresses import SIGN, split_address
from treealign.formats.checkpoints import Checkpoint, open_checkpoint
from treealign.formats.collector import collector_paused
from treealign.formats.detect import Kind, detect
from treealign.formats.dtypes import TORCH, torch_shape
from treealign.formats.exports.listed import ListedFile
from treealign.formats.remote.urls import is_url
from treealign.formats.safetensors_header import Header
from treealign.formats.state_dicts import single_state_dict
from treealign.formats.transaction.recovering import recover
from treealign.formats.tree_json import TreeFile, read_tree_json
from treealign.tree.keytree import KeyTree
from treealign.tree.module_tree import module_tree, state_dict_tree, tensors_tree
from treealign.tree.tracing import Trace


def read_tree(source: Any, example_inputs: Any = None, *, select: str = "") -> KeyTree:
    """The leaves of a model or a checkpoint.

    Parameters
    ----------
    source : KeyTree, torch.nn.Module, mapping of str to tensor, str or PathLike
        A module may be on the meta device; its keys are those of its ``state_dict()``. A path names a safetensors file,
        a torch file, an index of shards, a folder with one of these, a folder that `torch.distributed.checkpoint`
        wrote, or a tree JSON; what it is, is told from its contents. Of a safetensors file only the header is read, and
        torch is not imported. So does a URL: a model on the hub, ``hf://org/name[@revision][/path]``, or whatever
        fsspec opens; headers, indexes and pickles are fetched, weights are not. ``path#name`` is one of several state
        dicts that were saved together.

    example_inputs : tensor, tuple, mapping or True, optional
        For a module: run it once on the meta device with these, to see which module feeds which (`KeyTree.trace`): one
        tensor, positional arguments or keyword arguments; only shapes and dtypes matter. True takes the inputs that a
        transformers model names itself. Where the run fails, `trace.problem` says why.
    select : str
        The name of one of several state dicts in a file, a folder or a dict.

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
    source = selected(source, select)
    if isinstance(source, str | os.PathLike):
        with collector_paused():
            return _from_path(os.fsdecode(source))
    if _is_module(source):
        return module_tree(source, example_inputs)
    if isinstance(source, Mapping):
        return state_dict_tree(source)
    raise TreealignError(
        f"cannot read a tree from {type(source).__name__}",
        hint="pass a module, a state dict, a KeyTree, or the path of a checkpoint",
    )


def selected(source: Any, select: str) -> Any:
    """What `select` names of several state dicts that stand together, on disk or in memory.

    Raises
    ------
    FormatError
        There is none of that name.
    """
    if not select:
        return source
    if isinstance(source, str | os.PathLike):
        return f"{os.fsdecode(source)}{SIGN}{select}"
    if isinstance(source, Mapping):
        return single_state_dict("a dict", source, select)[1]
    raise TreealignError(
        f"nothing is selected from {type(source).__name__}", hint="pass a path or a dict of state dicts"
    )


def _is_module(source: Any) -> bool:
    # whoever holds a module has imported torch; nobody else should have to
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def _from_path(path: str) -> KeyTree:
    if is_url(path):
        from treealign.formats.remote.opening import open_remote

        found = open_remote(path)
        return _tree_of(found, path) if isinstance(found, TreeFile) else _checkpoint_tree(found)
    plain, _ = split_address(path)
    recover(plain)
    if detect(plain) is Kind.TREE_JSON:
        return _tree_of(read_tree_json(path), path)
    return _checkpoint_tree(open_checkpoint(path))


def _tree_of(tree: TreeFile, path: str) -> KeyTree:
    trace = None if tree.trace is None else Trace.from_data(tree.trace)
    return KeyTree.from_leaves(tree.leaves, tree.modules, tree.tied, tree.ordered, source=path, trace=trace)


def _checkpoint_tree(checkpoint: Checkpoint) -> KeyTree:
    if checkpoint.names_only and checkpoint.index:
        return KeyTree.from_leaves([(key, None, None) for key in checkpoint.index.weight_map], source=checkpoint.path)
    files = checkpoint.files
    if len(files) == 1 and not isinstance(only := files[0], Header):
        says = only.architecture if isinstance(only, ListedFile) else ""
        return tensors_tree(only.tensors, only.ordered, f"{only.path}{only.taken}", says)
    leaves: list[tuple[Any, ...]] = []
    tied: dict[str, str] = {}
    says = next((file.architecture for file in files if isinstance(file, ListedFile)), "")
    for file in files:
        if isinstance(file, Header):
            leaves += [(key, torch_shape(dtype, shape), TORCH[dtype]) for key, dtype, shape, _, _ in file.tensors]
        else:
            # the order of shards is none of definition
            part = tensors_tree(file.tensors, False, file.path)
            leaves += part.leaves
            tied |= part.tied
    return KeyTree.from_leaves(leaves, tied=tied, source=checkpoint.path, architecture=says)
