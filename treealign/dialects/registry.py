"""The dialects by name, and the modules that speak them: imported on first use, like the libraries they belong to."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from treealign.dialects.transformers.installed import require
from treealign.errors import TreealignError


class Dialect(NamedTuple):
    """What a dialect can do.

    Attributes
    ----------
    summary : str
        What it is, for people.
    write : str
        ``module:function`` that takes (mapping, checkpoint, model, name) and gives text or data.
    live : str
        The same, giving objects of the library; empty where it has none.
    read : str
        ``module:function`` that takes what the dialect is given as and gives a `ConversionMapping`; empty for none.
    tests : str
        As `write`, giving a pytest file, with the file of a recorded run as `reference` if given; empty for none.
    """

    summary: str
    write: str
    live: str = ""
    read: str = ""
    tests: str = ""


_HERE = "treealign.dialects"
_FUNCTION = f"{_HERE}.modules:read_function"

DIALECTS: dict[str, Dialect] = {
    "transformers": Dialect(
        "a registry entry for transformers: register_checkpoint_conversion_mapping",
        f"{_HERE}.transformers.writer:write_source",
        f"{_HERE}.transformers.writer:write_live",
        f"{_HERE}.transformers.reader:read_rules",
        f"{_HERE}.transformers.testing:write_tests",
    ),
    "key_mapping": Dialect(
        "the dict for from_pretrained(key_mapping=…) of transformers",
        f"{_HERE}.transformers.key_mapping:write_key_mapping",
        read=f"{_HERE}.transformers.reader:read_rules",
    ),
    "vllm": Dialect("a WeightsMapper for vLLM", f"{_HERE}.vllm:write_mapper", read=f"{_HERE}.vllm:read_mapper"),
    "mmengine": Dialect(
        "the revise_keys of mmengine's load_checkpoint",
        f"{_HERE}.mmengine:write_source",
        f"{_HERE}.mmengine:write_live",
        f"{_HERE}.mmengine:read_pairs",
    ),
    "torchtitan": Dialect(
        "a StateDictAdapter with from_hf and to_hf", f"{_HERE}.modules:write_torchtitan", read=_FUNCTION
    ),
    "timm": Dialect("a checkpoint_filter_fn(state_dict, model)", f"{_HERE}.modules:write_timm", read=_FUNCTION),
    "python": Dialect(
        "two functions on state dicts that need only torch", f"{_HERE}.modules:write_python", read=_FUNCTION
    ),
    "json": Dialect("treealign's own JSON", f"{_HERE}.modules:write_json", read=f"{_HERE}.modules:read_json"),
}


def find(name: str) -> Dialect:
    """The dialect of that name.

    Raises
    ------
    TreealignError
        There is none.
    """
    if name not in DIALECTS:
        raise TreealignError(
            f"there is no dialect {name!r}", facts=[f"{known}: {d.summary}" for known, d in DIALECTS.items()]
        )
    return DIALECTS[name]


def function(place: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.

    Raises
    ------
    TreealignError
        Its library is not installed, or too old.
    """
    module, _, name = place.partition(":")
    if module.startswith(f"{_HERE}.transformers."):
        require()
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except ImportError as error:
        raise TreealignError(f"{error.name} is not installed", hint=f"pip install {error.name}") from error
    return found
