"""What is emitted code run with: stand-ins for other loaders, or with TREEALIGN_REAL_LOADERS the real ones.

`scripts/real_loaders` installs those and sets it; the tests are the same.
"""

from __future__ import annotations

import os
import re
import sys
import types
from importlib import import_module

REAL = "TREEALIGN_REAL_LOADERS" in os.environ
VLLM = "vllm.model_executor.models.utils"
TITAN = "torchtitan.protocols.state_dict_adapter"


class WeightsMapper:
    """vLLM's, on names: regular expressions, substrings, what is stacked, prefixes, suffixes; None drops."""

    def __init__(self, **fields):
        known = ("renaming", "regex", "substr", "stacked", "prefix", "suffix")
        for kind in known:
            setattr(self, f"orig_to_new_{kind}", fields.pop(f"orig_to_new_{kind}", [] if kind == "renaming" else {}))
        assert not fields

    def map_name(self, name):
        for regex, new in self.orig_to_new_regex.items():
            if regex.search(name):
                if new is None:
                    return None
                name = regex.sub(new, name)
        parts = {text: new for text, (new, _) in self.orig_to_new_stacked.items()}
        for text, new in [*self.orig_to_new_substr.items(), *parts.items()]:
            if text in name:
                if new is None:
                    return None
                head, tail = name.split(text, 1)
                name = head + new + tail
        for text, new in self.orig_to_new_prefix.items():
            if name.startswith(text):
                if new is None:
                    return None
                name = new + name[len(text) :]
        for text, new in self.orig_to_new_suffix.items():
            if name.endswith(text):
                if new is None:
                    return None
                name = name[: len(name) - len(text)] + new
        return name


class StateDictAdapter:
    """torchtitan's, as far as it is called."""

    def __init__(self, model_config, hf_assets_path):
        pass


def weights_mapper():
    """The class of mappers."""
    if REAL:
        return import_module("vllm_source").weights_mapper()
    return WeightsMapper


def install(monkeypatch):
    """Make what emitted code imports importable."""
    provide(monkeypatch, VLLM, WeightsMapper=weights_mapper())
    if not REAL:
        provide(monkeypatch, TITAN, StateDictAdapter=StateDictAdapter)


def provide(monkeypatch, path, **names):
    parts = path.split(".")
    for n in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: n + 1]), types.ModuleType(path))
    for name, value in names.items():
        setattr(sys.modules[path], name, value)


def revised(pairs, name):
    """What mmengine's load_checkpoint makes of a key."""
    if REAL:
        return import_module("mmengine_keys").revised(pairs, name)
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name
