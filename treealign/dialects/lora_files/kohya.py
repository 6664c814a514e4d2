"""Adapters of kohya's scripts and of LyCORIS: one flattened segment for a module, its parts, and its alpha as a tensor.

``lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight`` is the update of one module of one model, told from
the others by its front. A flattened name is a module's if that module alone is spelled so. The update is scaled by
alpha over rank, as PEFT's is, so that alpha is kept as it is and nothing is multiplied.

Sources: kohya-ss/sd-scripts `networks/lora.py`, LyCORIS `lycoris/modules/locon.py`, `loha.py`, diffusers
`loaders/lora_conversion_utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from treealign.dialects.lora_files.lokr import PARTS as LOKR
from treealign.dialects.lora_files.lokr import Product, product_of, settings_of
from treealign.dialects.lora_files.update import Update, read_peft, write_files, write_peft
from treealign.errors import FormatError, MappingError
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

_PARTS = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight", "dora_scale": "lora_magnitude_vector"}
_HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_SAME = (*_HADAMARD, *LOKR)
_ALPHA = "alpha"


def kohya_to_peft(
    checkpoint: str | PathLike[str],
    destination: str | PathLike[str],
    model: Any,
    front: str = "lora_unet_",
) -> tuple[str, ...]:
    """Write a kohya or LyCORIS adapter as a folder of PEFT.

    Parameters
    ----------
    checkpoint : path
        A safetensors file.
    destination : path
        The folder.
    model : KeyTree or anything `read_tree` takes
        The model whose modules are meant, in the layout that the file was trained on.
    front : str
        What the names of that model's modules begin with: ``lora_unet_``, ``lora_te_``, ``lora_te1_``, ``lycoris_``.

    Returns
    -------
    tuple of str
        The keys of the file that belong to other models: they begin otherwise.

    Raises
    ------
    MappingError
        A name is that of no module, or of several; or a part has no counterpart in PEFT. Nothing was written.
    """
    update, others = read_kohya(checkpoint, model, front)
    write_peft(update, destination)
    return others


def read_kohya(checkpoint: str | PathLike[str], model: Any, front: str) -> tuple[Update, tuple[str, ...]]:
    """The updates of one model's modules in a file, and the keys of other models; see `kohya_to_peft`."""
    from safetensors import safe_open

    tree = model if isinstance(model, KeyTree) else read_tree(model)
    with safe_open(checkpoint, framework="pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
        own = [key for key in keys if key.startswith(front)]
        modules = _modules(own, tree, front, str(checkpoint))
        tensors: dict[str, dict[str, Any]] = {module: {} for module in modules.values()}
        for key in own:
            name, _, tail = key.partition(".")
            tensors[modules[name]][tail] = file.get_tensor(key)
    if not own:
        fronts = sorted({key.partition(".")[0][:12] for key in keys})[:5]
        hint = "front= says what the names of the model's modules begin with"
        raise FormatError(f"no key begins with {front!r}", where=str(checkpoint), facts=fronts, hint=hint)
    return _update(tensors, tree, {"front": front, "metadata": metadata}), tuple(k for k in keys if k not in set(own))


def _modules(keys: Iterable[str], tree: KeyTree, front: str, where: str) -> dict[str, str]:
    """Flattened name to the one module that it spells."""
    spelled: dict[str, list[str]] = {}
    for module in dict.fromkeys(key.rpartition(".")[0] for key in tree.keys):
        spelled.setdefault(front + module.replace(".", "_"), []).append(module)
    names = dict.fromkeys(key.partition(".")[0] for key in keys)
    facts = [f"{name}: {', '.join(spelled.get(name, ['no module is spelled so']))}" for name in names]
    wrong = [fact for fact, name in zip(facts, names, strict=True) if len(spelled.get(name, ())) != 1]
    if wrong:
        hint = "is the model in the layout that the file was trained on? convert the folder further by its mapping"
        raise MappingError("names that are not those of just one module", where=where, facts=wrong[:20], hint=hint)
    return {name: spelled[name][0] for name in names}


def _update(tensors: Mapping[str, dict[str, Any]], tree: KeyTree, notes: dict[str, Any]) -> Update:
    bases = {leaf.key.removesuffix(".weight"): leaf.shape for leaf in tree.leaves}
    found = Update({module: _named(parts) for module, parts in tensors.items()}, {}, {}, {"kohya": notes})
    shapes, faults = {}, [f"{m}.{tail}: PEFT has no such part" for m, parts in tensors.items() for tail in _odd(parts)]
    for module, parts in found.tensors.items():
        for tail, tensor in parts.items():
            fitted = _fitted(tail, tensor, bases.get(module))
            if fitted is None:
                faults.append(f"{module}.{tail}: a shape of {tuple(tensor.shape)} has no place in PEFT")
            elif fitted.shape != tensor.shape:
                shapes[f"{module}.{tail}"] = list(tensor.shape)
                parts[tail] = fitted
    faults += _mixed(found)
    if faults:
        raise MappingError("parts that PEFT does not have", facts=faults[:20])
    given = {module: parts[_ALPHA] for module, parts in tensors.items() if _ALPHA in parts}
    whole = _settle_products(found, {module: shape or () for module, shape in bases.items()})
    # without an alpha, kohya and LyCORIS scale by one; so does LyCORIS where both factors are whole
    found.alphas.update({m: float(rank if m in whole else given.get(m, rank)) for m, rank in found.ranks.items()})
    notes |= {"alphas": {module: float(given[module]) for module in whole if module in given}}
    notes |= {
        "without alpha": [module for module in tensors if module not in given],
        "alpha dtypes": {module: str(alpha.dtype).removeprefix("torch.") for module, alpha in given.items()},
        "shapes": shapes,
    }
    return found


def _mixed(update: Update) -> list[str]:
    """PEFT's adapters are of one kind."""
    kinds = {kind: module for module, parts in update.tensors.items() for kind in {part[:5] for part in parts}}
    return [f"{module} has {kind}…, others are of another kind" for kind, module in kinds.items()] * (len(kinds) > 1)


def _settle_products(update: Update, bases: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Ranks and settings of Kronecker products; the modules of which both factors are whole.

    Raises
    ------
    MappingError
        PEFT has no settings that give such parts.
    """
    own = {m: parts for m, parts in update.tensors.items() if any(name in LOKR for name in parts)}
    if not own:
        return []
    told = {module: product_of(parts, bases[module]) for module, parts in own.items()}
    facts = [f"{module}: {one}" for module, one in told.items() if isinstance(one, str)]
    products = {module: one for module, one in told.items() if isinstance(one, Product)}
    settled = "" if facts else settings_of(products, bases)
    if isinstance(settled, str):
        raise MappingError("Kronecker products that PEFT does not have", facts=[*facts, settled][:20])
    update.given_ranks.update(settled[0])
    update.settings.update(settled[1])
    return [module for module, one in products.items() if one.rank is None]


def _named(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {_PARTS.get(tail, tail): tensor for tail, tensor in parts.items() if tail in (*_PARTS, *_SAME)}


def _odd(parts: Iterable[str]) -> list[str]:
    return [tail for tail in parts if tail not in (*_PARTS, *_SAME, _ALPHA)]


def _fitted(tail: str, tensor: Any, base: tuple[int, ...] | None) -> Any:
    """A part in the shape that PEFT gives it; None where it has another meaning."""
    if tail == "lora_magnitude_vector":
        return tensor.reshape(-1) if tensor.ndim == 2 and tensor.shape[1] == 1 else None
    if tail.startswith("lora_") and base is not None and len(base) == 2 and tensor.ndim == 4:
        return tensor.reshape(tensor.shape[:2]) if tensor.shape[2:] == (1, 1) else None
    if tail in _HADAMARD and tensor.ndim != 2:
        return None
    return tensor


def peft_to_kohya(
    adapter: str | PathLike[str], destination: str | PathLike[str], front: str = "lora_unet_"
) -> tuple[str, ...]:
    """Write a folder of PEFT as one file of kohya's; its keys.

    What `kohya_to_peft` has made goes back as it came: keys, dtypes, shapes, metadata. Of others, each module gets its
    alpha; with `use_rslora`, the one that gives the same scale.

    Raises
    ------
    FormatError
        There is no adapter, or it holds more than updates of modules.
    MappingError
        Kohya's format has no counterpart for a part, or two modules would get one name.
    """
    import torch
    from safetensors.torch import save

    update = read_peft(adapter)
    notes = update.notes.get("kohya", {})
    front = notes.get("front", front)
    ranks, made = update.ranks, dict[str, Any]()
    for module, parts in update.tensors.items():
        flat = front + module.replace(".", "_")
        for tail, tensor in parts.items():
            shape = notes.get("shapes", {}).get(f"{module}.{tail}", _shape(tail, tensor))
            made[f"{flat}.{_tail(module, tail)}"] = tensor.reshape(shape)
        if module not in notes.get("without alpha", ()):
            alpha, rank = notes.get("alphas", {}).get(module, update.alphas[module]), ranks[module]
            scaled = alpha * rank**0.5 if update.config.get("use_rslora") else alpha
            dtype = getattr(torch, notes.get("alpha dtypes", {}).get(module, "float32"))
            made[f"{flat}.{_ALPHA}"] = torch.tensor(scaled, dtype=dtype)
    if len(made) < sum(map(len, update.tensors.values())):
        raise MappingError("two modules would get one name", where=str(adapter))
    metadata = notes.get("metadata", {"ss_network_module": "networks.lora", "format": "pt"})
    path = Path(destination)
    write_files(path.parent, {path.name: save({k: t.contiguous() for k, t in made.items()}, metadata)}, single=True)
    return tuple(made)


def _tail(module: str, tail: str) -> str:
    back = {new: old for old, new in _PARTS.items()}
    if tail not in back and tail not in _SAME:
        raise MappingError("kohya's format has no such part", facts=[f"{module}.{tail}"])
    return back.get(tail, tail)


def _shape(tail: str, tensor: Any) -> list[int]:
    return [len(tensor), 1] if tail == "lora_magnitude_vector" and tensor.ndim == 1 else list(tensor.shape)
