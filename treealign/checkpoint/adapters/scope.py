"""An adapter in a model: which tensors are its own, and under which names PEFT saves them.

The names are not spelled here: PEFT's own `get_peft_model_state_dict` is given a stand-in for each tensor of the model,
and what comes back under which name says it, for every kind of adapter that renames only (LoRA, DoRA, LoHa, LoKr, IA3,
VeRA, modules to save, and others). Prompts are kept by a module beside the base model and saved under one name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from treealign.checkpoint.adapters.parts import PREFIX, is_adapter
from treealign.checkpoint.places import Places
from treealign.errors import LoadError
from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree

_HOPS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True, eq=False)
class Scope:
    """The tensors of one adapter of a model.

    Attributes
    ----------
    name : str
        What the adapter is called in the model.
    config : PeftConfig
        Its config in the model.
    places : Places
        The model's, those of the adapter alone.
    saved : mapping of str to str
        Key in the adapter's file to key of the model.
    """

    name: str
    config: Any
    places: Places
    saved: Mapping[str, str]

    def also(self, places: Places, keys: Mapping[str, str]) -> Scope:
        """With more tensors of the model, by their names in the file."""
        saved = {**self.saved, **keys}
        return replace(self, saved=saved, places=_restricted(places, set(saved.values())))

    @cached_property
    def spelled(self) -> Places:
        """The places under the names of the adapter's file."""
        places = {name: self.places.places[key]._replace(key=name) for name, key in self.saved.items()}
        names = {key: name for name, key in self.saved.items()}
        tied = {names[key]: names[head] for key, head in self.places.tied.items()}
        return replace(self.places, places=places, tied=tied)

    @cached_property
    def tree(self) -> KeyTree:
        """The adapter under the names of its file."""
        return self.spelled.tree


def adapted(model: nn.Module) -> nn.Module | None:
    """The module that holds configs of adapters, wrappers looked through: PEFT's own, or one it was injected into."""
    while not isinstance(getattr(model, "peft_config", None), Mapping):
        inner = next((model._modules[hop] for hop in _HOPS if model._modules.get(hop) is not None), None)
        if inner is None:
            return None
        model = inner
    return model if model.peft_config else None


def scopes(model: nn.Module, places: Places, keys: Iterable[str] = ()) -> dict[str, Scope]:
    """The adapters of a model by name; under the names that the `keys` of a file use, with or without PEFT's levels."""
    holder = adapted(model)
    if holder is None:
        return {}
    inside = {place.raw: key for key, place in places.places.items()}
    raw = {name: key for full, key in inside.items() if (name := _below(full, inside, holder, model)) is not None}
    listed = tuple(keys)
    configs: Mapping[str, Any] = holder.peft_config  # type: ignore[assignment]
    found = {}
    for name, config in configs.items():
        saved = _saved(holder, name, config, raw, {key: places.places[key].tensor for key in raw.values()})
        if saved:
            named = _spelled(saved, listed) | _beside(raw, set(saved.values()), listed)
            found[name] = Scope(name, config, _restricted(places, set(named.values())), named)
    return found


def _beside(raw: Mapping[str, str], own: set[str], keys: Iterable[str]) -> dict[str, str]:
    """What the file has of the base model itself: biases that were trained, embeddings that were resized."""
    found = {key: raw.get(key) or raw.get(key.removeprefix(PREFIX)) for key in keys}
    return {name: key for name, key in found.items() if key is not None and key not in own}


def _below(full: str, known: Iterable[str], holder: nn.Module, model: nn.Module) -> str | None:
    """A name in the state dict of the model, in that of the module that holds the adapters."""
    path = next((path for path, module in model.named_modules() if module is holder), "")
    return full if not path else full[len(path) + 1 :] if full.startswith(f"{path}.") else None


def _saved(
    holder: Any, name: str, config: Any, raw: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Name in the file to key of the model, as PEFT itself names them."""
    if getattr(config, "is_prompt_learning", False):
        return _prompt(name, raw)
    from peft import get_peft_model_state_dict

    tokens = {
        full: torch.empty(tensors[key].shape, dtype=tensors[key].dtype, device="meta") for full, key in raw.items()
    }
    keys = {id(token): raw[full] for full, token in tokens.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # embeddings that were resized are not asked for: that would look the base model up on the hub
        named = get_peft_model_state_dict(holder, state_dict=tokens, adapter_name=name, save_embedding_layers=False)
    return {saved: keys[id(token)] for saved, token in named.items() if id(token) in keys}


def _prompt(name: str, raw: Mapping[str, str]) -> dict[str, str]:
    """Prompts: the file holds what the encoder gives, so one that computes (a projection) is not filled from it."""
    level = f"prompt_encoder.{name}."
    own = {full.removeprefix(level): key for full, key in raw.items() if full.startswith(level)}
    return {"prompt_embeddings" if tail == "embedding.weight" else tail: key for tail, key in own.items()}


def _spelled(saved: Mapping[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    """The names with PEFT's levels where the file has them: a model that adapters were injected into has them not."""
    prefixed = bool(keys) and all(key.startswith(PREFIX) for key in keys)
    if prefixed and not any(name.startswith(PREFIX) for name in saved):
        return {PREFIX + name: key for name, key in saved.items()}
    if keys and not any(key.startswith(PREFIX) for key in keys):
        return {name.removeprefix(PREFIX): key for name, key in saved.items()}
    return dict(saved)


def _restricted(places: Places, keys: set[str]) -> Places:
    tied = {key: head for key, head in places.tied.items() if key in keys and head in keys}
    return replace(places, places={k: p for k, p in places.places.items() if k in keys}, recomputed={}, tied=tied)


def scope_of(model: nn.Module, places: Places, tree: KeyTree, folder: Path | None, wanted: str = "") -> Scope | None:
    """The adapter that a checkpoint is to be loaded into; None where it is no adapter's, or the model has none.

    Parameters
    ----------
    model, places
        The model.
    tree : KeyTree
        The checkpoint.
    folder : Path or None
        Where the checkpoint is: PEFT saves an adapter that is not called ``default`` in a folder of its name.
    wanted : str
        What the adapter is called in the model, where that is said.

    Raises
    ------
    LoadError
        There is no adapter of that name, or the checkpoint fits several.
    """
    found = scopes(model, places, tree.keys)
    if not is_adapter(tree.keys) and not any(set(scope.saved) == set(tree.keys) for scope in found.values()):
        if wanted:
            raise LoadError("the checkpoint is no adapter's alone", where=tree.source, hint="load it without `adapter`")
        return None
    if wanted:
        return chosen(found, wanted, tree.source)
    return _fitting(found, tree, folder)


def chosen(found: Mapping[str, Scope], wanted: str, where: str) -> Scope:
    """The adapter of a name; raises `LoadError` where there is none."""
    if wanted in found:
        return found[wanted]
    names = ", ".join(map(repr, found)) or "none"
    hint = f"adapter={next(iter(found))!r}" if found else "add it with PEFT first: `get_peft_model`, `add_adapter`"
    raise LoadError(f"the model has no adapter {wanted!r}", where=where, facts=[f"it has {names}"], hint=hint)


def _fitting(found: Mapping[str, Scope], tree: KeyTree, folder: Path | None) -> Scope | None:
    fitting = {name: scope for name, scope in found.items() if _fits(scope.tree, tree)}
    several = fitting or found
    if len(several) <= 1:
        return next(iter(several.values()), None)
    if folder is not None and folder.name in several:
        return several[folder.name]
    raise LoadError(
        "the model has several adapters that this could be",
        where=tree.source,
        facts=[", ".join(map(repr, several))],
        hint=f"adapter={next(iter(several))!r} says which",
    )


def _fits(adapter: KeyTree, tree: KeyTree) -> bool:
    return set(adapter.keys) == set(tree.keys) and all(adapter.leaf(k).shape == tree.leaf(k).shape for k in tree.keys)
