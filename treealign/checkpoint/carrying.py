"""The record on the model: each module carries the slices of what was loaded into it or below it.

A slice is plain data (two texts, a path, a dict of tensors) in one attribute, so that it survives `copy.deepcopy`,
pickling and `torch.save` of a module, here or where treealign is not installed, and whatever wraps the module. The
texts are one object for all modules of a load.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from treealign.checkpoint.layouts import Layout
from treealign.checkpoint.load_record import Record
from treealign.checkpoint.record_file import moved

ATTRIBUTE = "_treealign_record"
_CACHE_SIZE = 32


class Slice(NamedTuple):
    """What a module carries of one load.

    Attributes
    ----------
    record : str
        The record of the whole load, as JSON text.
    layout : str
        The layout of the loaded files, as JSON text.
    path : str
        Where the module was in the model that was loaded.
    kept : dict of str to torch.Tensor
        Tensors of the checkpoint that the model does not hold, by key of the checkpoint.
    """

    record: str
    layout: str
    path: str
    kept: dict[str, torch.Tensor]

    def read_record(self) -> Record:
        """The record, read from its text once."""
        if self.record not in _records:
            remember(self.record, Record.from_data(json.loads(self.record)))
        return _records[self.record]

    def read_layout(self) -> Layout:
        """The layout."""
        return Layout.from_json(json.loads(self.layout))


_records: OrderedDict[str, Record] = OrderedDict()


def remember(text: str, record: Record) -> None:
    """Keep a record at hand that was just written as text."""
    _records[text] = record
    while len(_records) > _CACHE_SIZE:
        _records.popitem(last=False)


def slices(module: nn.Module) -> tuple[Slice, ...]:
    """What a module carries, the newest load first."""
    held = module.__dict__.get(ATTRIBUTE)
    return tuple(Slice(*entry) for entry in held) if held else ()


def carry(
    modules: Mapping[str, nn.Module],
    record: Record,
    layout: Layout,
    kept: dict[str, torch.Tensor],
    *,
    at: str = "",
    path: str = "",
) -> None:
    """Let the modules that a load filled, and those around them, carry it.

    Parameters
    ----------
    modules : mapping of str to nn.Module
        All modules by path, from the module that was loaded.
    record, layout, kept
        What to carry; see `Slice`.
    at : str
        The module in `modules` to which the record's keys belong, if it is not the root.
    path : str
        Where that module stands in the record's keys.

    Notes
    -----
    What a load fills is taken from earlier loads; those of which nothing is left are dropped.
    """
    text, layout_text = record.to_text(), json.dumps(layout.to_json(), ensure_ascii=False, separators=(",", ":"))
    remember(text, record)
    filled = _filled(record.by_model, at, path)
    around = _above(filled)
    stale = {text, *_overtaken(modules, filled)}
    marked: set[int] = set()  # a module shared under two names carries the first of its places
    for place, module in modules.items():
        if place not in around or id(module) in marked:
            continue
        here = moved(place, at, path) if at or path else place
        if here is not None:
            marked.add(id(module))
            old = [carried for carried in slices(module) if carried.record not in stale]
            put(module, [Slice(text, layout_text, here, kept), *old])


def put(module: nn.Module, carried: Iterable[Slice]) -> None:
    """Let a module carry these and nothing else."""
    entries = tuple([tuple(entry) for entry in carried])
    if entries:
        module.__dict__[ATTRIBUTE] = entries
    else:
        module.__dict__.pop(ATTRIBUTE, None)


def _filled(keys: Iterable[str], at: str, path: str) -> set[str]:
    """The record's keys, as keys of the module that was loaded."""
    if not path and not at:
        return set(keys)
    found = (moved(key, path, at) for key in keys)
    return {key for key in found if key is not None}


def _above(keys: Iterable[str]) -> set[str]:
    """Paths of all modules above the keys, the root included; each is met once, however much is below it."""
    found: set[str] = set()
    level = {key.rpartition(".")[0] for key in keys}
    while level - found:
        level -= found
        found |= level
        level = {path.rpartition(".")[0] for path in level}
    return found


def _overtaken(modules: Mapping[str, nn.Module], filled: set[str]) -> set[str]:
    """The earlier records that have nothing left below the module where they are first met."""
    seen: dict[str, bool] = {}
    for place, module in modules.items():
        for carried in slices(module) if ATTRIBUTE in module.__dict__ else ():
            if carried.record not in seen:
                own = _filled(carried.read_record().by_model, place, carried.path)
                seen[carried.record] = own <= filled
    return {text for text, gone in seen.items() if gone}
