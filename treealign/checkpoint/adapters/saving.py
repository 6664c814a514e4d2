"""Saving an adapter: its own tensors and no others, under the names of its file, or PEFT's."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from treealign.checkpoint.adapters.config import migrated_config
from treealign.checkpoint.adapters.parts import CONFIG, WEIGHTS
from treealign.checkpoint.adapters.scope import Scope, adapted, chosen, scopes
from treealign.checkpoint.claims import Claims, find_claims
from treealign.checkpoint.layouts import SINGLE, Layout
from treealign.checkpoint.naming import Emission, Naming, original_names
from treealign.checkpoint.places import Places
from treealign.errors import LoadError


def as_adapter(layout: Layout) -> Layout:
    """The layout with the name that PEFT gives to a single file."""
    if len(layout.files) != 1 or layout.files[0].name != SINGLE:
        return layout
    return replace(layout, files=(replace(layout.files[0], name=WEIGHTS),))


def scope_to_save(model: nn.Module, places: Places, wanted: str, where: str) -> Scope | None:
    """The adapter that a save writes alone: the one that is named, or the only thing that was loaded; else None.

    Raises
    ------
    LoadError
        There is no such adapter, or several were loaded.
    """
    found = scopes(model, places)
    if wanted:
        return _widened(chosen(found, wanted, where), places, find_claims(places))
    if not found:
        return None
    claims = find_claims(places)
    roots = {name: _roots(scope, claims) for name, scope in found.items()}
    loaded = [name for name, own in roots.items() if own]
    of_adapters = set().union(*roots.values())
    if not loaded or any(of_adapters.isdisjoint(claim.root for claim in held) for held in claims.claims.values()):
        return None
    if len(loaded) > 1:
        hint = f"adapter={loaded[0]!r} says which is saved"
        names = [", ".join(map(repr, loaded))]
        raise LoadError(
            "several adapters were loaded, each has a folder of its own", where=where, facts=names, hint=hint
        )
    return _widened(found[loaded[0]], places, claims)


def _roots(scope: Scope, claims: Claims) -> set[int]:
    """The loads that filled an adapter."""
    return {claim.root for key in scope.saved.values() for claim in claims.claims.get(key, ())[:1]}


def _widened(scope: Scope, places: Places, claims: Claims) -> Scope:
    """With what else its file had: biases and embeddings of the base model."""
    roots, own = _roots(scope, claims), set(scope.saved.values())
    more: dict[str, str] = {}
    for key, held in claims.claims.items():
        if held[0].root in roots and key not in own:
            step = claims.roots[held[0].root].record.by_model[held[0].key]
            more |= {step.sources[0]: key} if len(step.sources) == len(step.targets) == 1 else {}
    return scope.also(places, more)


def adapter_names(scope: Scope, *, original: bool) -> Naming:
    """Under which names an adapter is saved: those of the file that it was loaded from; PEFT's where it was not."""
    claimed = find_claims(scope.places).claims if original else {}
    own = {key: place for key, place in scope.places.places.items() if key in claimed}
    naming = original_names(replace(scope.places, places=own)) if own else Naming()
    naming.kept.clear()  # what the base model's load kept
    fresh = [(name, key) for name, key in scope.saved.items() if key not in own]
    naming.emissions += [Emission((name,), (scope.places.places[key],)) for name, key in fresh]
    naming.layouts = [as_adapter(layout) for layout in naming.layouts]
    return naming


def config_beside(model: nn.Module, scope: Scope, naming: Naming) -> dict[str, bytes]:
    """The config of an adapter, as PEFT writes it; the modules in it are called as they are in the file."""
    config = copy.deepcopy(scope.config)
    config.inference_mode = True
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder, auto_mapping_dict=_auto_mapping(model, config))
        text = (Path(folder) / CONFIG).read_text(encoding="utf-8")
    names = {key: name for name, key in scope.saved.items()}
    pairs = [(names[e.places[0].key], e.keys[0]) for e in naming.emissions if len(e.keys) == len(e.places) == 1]
    return {CONFIG: migrated_config(text, pairs).text.encode()}


def _auto_mapping(model: nn.Module, config: Any) -> dict[str, str] | None:
    """Which class the base model is, where no task says it; as `PeftModel.save_pretrained` does."""
    holder: Any = adapted(model)
    if config.task_type is not None or not hasattr(holder, "_get_base_model_class"):
        return config.auto_mapping  # type: ignore[no-any-return]  # PEFT is not typed
    base = holder._get_base_model_class(is_prompt_tuning=config.is_prompt_learning)
    return {"base_model_class": base.__name__, "parent_library": base.__module__}
