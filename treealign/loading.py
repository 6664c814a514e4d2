"""`load`: a checkpoint into a model, by a mapping, by the record beside it, or by what is suggested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from treealign.mapping.arguments import check_arguments, check_hints
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision

if TYPE_CHECKING:
    from torch import nn

    from treealign.checkpoint.loading import LoadResult


def load(
    model: nn.Module,
    checkpoint: str | PathLike[str] | Mapping[str, Any] | nn.Module,
    mapping: ConversionMapping | str | PathLike[str] | Iterable[Any] | None = None,
    strict: bool = True,
    *,
    dtype: str = "checkpoint",
    allow_lossy: bool = False,
    hints: Any = None,
    converted: bool | GuardDecision | None = None,
    assign: bool = False,
    select: str = "",
    adapter: str = "",
    original_names: bool = True,
) -> LoadResult:
    """Load a checkpoint into a model.

    The file of an adapter, into a model that has adapters (of PEFT), is loaded into that adapter: `strict` speaks of
    the adapter's keys, and the base model is not touched.

    Parameters
    ----------
    model : nn.Module
        On any devices, wrapped or not. Parameters on the meta device are made; others stay the objects they are.
    checkpoint : path, state dict or nn.Module
        Whatever `read_tree` reads and has tensors.
    mapping : ConversionMapping, path of its JSON, or transforms, optional
        Settles what would be ambiguous, unless it carries open questions itself: then only what they do not speak of
        can be loaded, with ``strict=False``. Without one, the record that `save` left beside the files is followed if
        it fits; otherwise a mapping is suggested.
    strict : bool
        Refuse unless every key of both sides has its place and nothing is ambiguous. Otherwise certain matches are
        loaded and the rest is listed, untouched.
    dtype : {"checkpoint", "model"}
        Whether parameters take the dtypes of the file, or the file's tensors are cast to those of the model.
    allow_lossy : bool
        Use conversions that cannot be undone from their result; the model then keeps the originals for `save`.
    hints : optional
        Passed on to `treealign.suggest`.
    converted : bool or GuardDecision, optional
        Overrides the guards of the mapping; see `ConversionMapping.map_keys`.
    assign : bool
        Take tensors as they lie where nothing but their names changes: mapped into memory from the file, read when they
        are used, written to in memory only; shared with the state dict that is loaded. The files have to stay as they
        are for as long as the model is used. Parameters on other devices than the meta device and the CPU are filled.
    select : str
        The name of one of several state dicts that stand together; for a path, the same as ``path#name``.
    adapter : str
        What the adapter to load into is called in the model, where the file fits several.
    original_names : bool
        Whether plain `save_pretrained` of a model of transformers writes the names of the checkpoint, too: by a
        conversion among the attributes of this model (`treealign.checkpoint.save_pretrained`). False leaves it to
        transformers.

    Returns
    -------
    LoadResult
        The record in it is carried by the model from now on, and undone by `save`.

    Raises
    ------
    LoadError
        The verdict is against the load, with everything that speaks against it; not one tensor was touched. Or a
        tensor could not be read midway: the message says what had been changed (nothing, for a model on the meta
        device). Or another library keeps the parameters elsewhere.
    MappingError
        The mapping makes one key of two, was made for another model, or cannot tell what was converted already.
    FormatError
        The checkpoint cannot be read.

    Notes
    -----
    Tensors are read one by one, so that memory beyond the model's is that of one conversion at most. That is why a
    load that is interrupted by a failing disk is not undone: the old values would have to be kept. Files are checked
    against their headers beforehand, so only the disk itself can still fail.
    """
    from treealign.checkpoint.loading import LoadOptions, load_tensors
    from treealign.suggestion import suggest

    check_arguments("load", model, checkpoint, mapping)
    check_hints(hints)
    given = LoadOptions(
        mapping, strict, dtype, allow_lossy, hints, converted, assign, select, adapter, original_names, suggest
    )
    return load_tensors(model, checkpoint, given)
