"""The door from loads and saves to what stands above: libraries whose models remember on their own how to be saved.

Each is told only where the library is imported already, for otherwise no model can be one of its models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from torch import nn

_LISTENERS = {"transformers.modeling_utils": "treealign.dialects.transformers.remembering"}


def tell(modules: Mapping[str, nn.Module]) -> None:
    """Tell the libraries that a load has filled a model, given all its modules by path."""
    for listener in _listeners():
        listener.after_load(modules)


def wake() -> None:
    """Let the libraries look after models that were loaded elsewhere: unpickled, say."""
    for listener in _listeners():
        listener.listen()


def _listeners() -> Iterator[Any]:
    for library, home in _LISTENERS.items():
        if library in sys.modules:
            yield import_module(home)
