"""Packages imported although parts of them are not here: compiled extensions of another torch, and what downloads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

# what the packages import and no pair needs: downloads, sound files, voice activity
_NEEDLESS = ("boto3", "botocore.exceptions", "librosa", "webrtcvad", "resampy", "numba", "ema_pytorch", "jsonargparse")
_OPERATORS = ("qnms", "roi_align", "_roi_align_backward", "roi_pool", "_roi_pool_backward", "ps_roi_align",
              "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d",
              "_deform_conv2d_backward")  # fmt: skip
_LIBRARY: list[Any] = []


class _Needless(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__, self.__path__ = ModuleSpec(name, None), []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **words: None, "__call__": lambda self, one: one})


def package(name: str) -> Any:
    """Import a package, or a module of one, without its compiled extensions where these do not load.

    Raises
    ------
    ImportError
        It is not installed.
    """
    import transformers  # noqa: F401  # it asks what is installed once, before anything pretends to be

    with _tolerant():
        return import_module(name)


@contextmanager
def _tolerant() -> Iterator[None]:
    absent = {part for name in _NEEDLESS if _is_absent(name) for part in (name, name.partition(".")[0])}
    sys.modules.update({name: _Needless(name) for name in absent - sys.modules.keys()})
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _is_absent(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ImportError:
        return True


def _has_operators() -> bool:
    """Whether torchvision loads as it is, with operators of its own."""
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def _declare_operators() -> None:
    """The names of torchvision's operators, so that its Python code imports; none of them is called."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor a) -> Tensor")
    _LIBRARY.append(library)


if not _has_operators():
    _declare_operators()
