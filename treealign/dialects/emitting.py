"""`emit`: a conversion mapping in the words of another loader."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

from treealign.dialects.registry import find, function
from treealign.errors import TreealignError
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import ConversionMapping, as_mapping
from treealign.mapping.marking import mapping_source, refuse_open


def emit(
    mapping: ConversionMapping | str | PathLike[str] | Iterable[Any],
    dialect: str = "transformers",
    *,
    model: Any = None,
    checkpoint: Any = None,
    name: str | None = None,
    live: bool = False,
    tests: bool = False,
    reference: Any = None,
) -> Any:
    """Write a mapping for another loader.

    Parameters
    ----------
    mapping : ConversionMapping, path of its JSON, or transforms
        From the checkpoint to the model.
    dialect : str
        ``"transformers"`` for a registry entry, ``"key_mapping"`` for ``from_pretrained(key_mapping=…)``,
        ``"vllm"`` for a `WeightsMapper`, ``"mmengine"`` for `revise_keys`, ``"torchtitan"`` for a `StateDictAdapter`,
        ``"timm"`` for a `checkpoint_filter_fn`, ``"python"`` for two functions that need only torch, ``"json"`` for
        our own JSON.
    model : optional
        The model that it is for: an nn.Module, or whatever `read_tree` takes. Its keys, its classes and, of a model of
        transformers, its config are used.
    checkpoint : optional
        The checkpoint that it is for: whatever `read_tree` takes.
    name : str, optional
        Class name or model type to register under; by default the class of the model.
    live : bool
        The objects themselves, to be used as they are, in place of source.
    tests : bool
        A pytest file for what is emitted otherwise: round trip, idempotence, coverage. It passes.
    reference : path, optional
        With `tests`: the file of a recorded run of the original (see `treealign.record`), with which the pytest file
        keeps the proof: what transformers loads by the entry computes what the original computed.

    Returns
    -------
    str, dict or list
        Source text, a dict for ``key_mapping``, or the list of live objects. It has been run: the rules load and save
        the keys of both sides, by the library's own code, just as the mapping says. Without either side, the keys are
        made up from the patterns of the mapping, and only rules that say exactly the same are taken; with a side,
        shorter rules may do.

    Raises
    ------
    MappingError
        The mapping still guesses; or the other loader cannot express it, or cannot undo it: the message says which
        transform, and why.
    TreealignError
        There is no such dialect, or its library is not installed.
    """
    check_arguments("emit", mapping, dialect)
    transforms = as_mapping(mapping)
    refuse_open(transforms, "nothing was emitted", mapping_source(mapping))
    spoken = find(dialect)
    if live and not spoken.live:
        raise TreealignError(f"{dialect} has no live form", hint="leave out live=True")
    if live:
        return function(spoken.live)(transforms, checkpoint, model)
    if tests and not spoken.tests:
        raise TreealignError(f"there are no tests to emit for {dialect}", hint="leave out tests=True, or --tests")
    if reference is not None and not tests:
        raise TreealignError("a reference is for the tests of what is emitted", hint="tests=True, or --tests")
    more = {} if reference is None else {"reference": reference}
    made = function(spoken.tests if tests else spoken.write)(transforms, checkpoint, model, name, **more)
    return _telling(made, transforms) if dialect != "json" else made


def _telling(made: Any, mapping: ConversionMapping) -> Any:
    """Source that says, before anything else, what in it was a guess and was taken as it is."""
    if not isinstance(made, str):
        return made
    return "".join(f"# taken as guessed, settled by nothing: {question}\n" for question in mapping.accepted) + made
