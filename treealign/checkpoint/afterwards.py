"""The door from a load to what stands above it: libraries whose models remember on their own how to be saved.

Each is told only where the library is imported already, for otherwise no model can be one of its models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

from torch import nn

_LISTENERS = {"transformers.modeling_utils": "treealign.dialects.transformers.remembering"}


def tell(modules: Mapping[str, nn.Module]) -> None:
    """Tell the libraries that a load has filled a model, given all its modules by path."""
    for library, home in _LISTENERS.items():
        if library in sys.modules:
            import_module(home).after_load(modules)
