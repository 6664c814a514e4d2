"""Renaming in the files themselves: only headers are written, and the index."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.parts import CONFIG
from treealign.checkpoint.conversion.finishing import write_file
from treealign.checkpoint.conversion.planned_conversion import ConvertOptions, PlannedConversion
from treealign.checkpoint.conversion.side_files import turned
from treealign.checkpoint.conversion.undoing import ORIGINALS
from treealign.checkpoint.conversion.verifying import forget
from treealign.checkpoint.record_file import BEFORE, NAME
from treealign.errors import FormatError, TreealignError
from treealign.formats.flushing import flush_all
from treealign.formats.legible import legible
from treealign.formats.safetensors_writer import Shard, header_bytes, index_bytes
from treealign.formats.stamps import refuse_changed
from treealign.formats.transaction.journal import Patch
from treealign.formats.transaction.transaction import Transaction
from treealign.mapping.mapping_json import mapping_to_data


def request_of(options: ConvertOptions) -> dict[str, Any]:
    """A mapping and a direction, as a journal holds them."""
    request: dict[str, Any] = {"mapping": mapping_to_data(options.mapping.transforms), "reverse": options.reverse}
    return dict(json.loads(json.dumps(request)))


def rename_in_place(found: PlannedConversion, options: ConvertOptions, held: Transaction) -> list[str]:
    """Rename in the files of a checkpoint.

    Returns
    -------
    list of str
        The files that were changed.

    Raises
    ------
    TreealignError
        It takes more than other names in the headers, they do not fit, or the files are not this folder's alone.
        Nothing was changed.
    FormatError
        The checkpoint has changed since it was read, or the system refuses to write. What was changed is taken back.
    """
    folder = held.at.folder
    _refuse(found, folder)
    patches = _patches(found, folder)
    if all(before == after for before, after in patches.values()):
        return []
    files = dict(_small_files(found, folder))
    moves = _moves(found, folder)
    changed = [name for name, content in files.items() if content != _content(folder / name)]
    for name in changed:
        if (content := files[name]) is not None:
            write_file(held.stage / name, content, _mode(folder / name))
    for before, after in moves.items():
        _link(folder / before, held.stage / after)
    refuse_changed(found.source.stamps)
    gone = [*moves, *(name for name in changed if files[name] is None)]
    comes = [*moves.values(), *(name for name in changed if files[name] is not None)]
    held.commit(comes, obsolete=gone, patches=patches, request=request_of(options))
    if options.verify:
        _check(patches, folder)
    return [*patches, *changed]


def _refuse(found: PlannedConversion, folder: Path) -> None:
    reasons = list(_reasons(found, folder))
    if reasons:
        raise TreealignError(
            "this cannot be done in place",
            where=found.source.path,
            facts=reasons[:50],
            hint="name a destination: the bytes are then copied, as fast as the system copies files",
        )


def _patches(found: PlannedConversion, folder: Path) -> dict[str, Patch]:
    """The headers, before and after."""
    patches = {}
    for shard in found.plan.placement.shards:
        size = found.plan.placement.starts[shard.name] - 8
        raw = header_bytes(shard.plan, shard.metadata, header_size=size, where=shard.name)
        patches[shard.name] = Patch(_start_of(folder / shard.name, len(raw)), raw)
    return patches


def _reasons(found: PlannedConversion, folder: Path) -> Iterator[str]:
    files = found.source.layout.files
    if [shard.name for shard in found.plan.placement.shards] != [file.name for file in files]:
        yield "the result has other files"
        return
    for shard, file in zip(found.plan.placement.shards, files, strict=True):
        path = folder / shard.name
        if file.header_size is None or not path.is_file():
            yield f"{shard.name}: a torch file cannot hold the result"
        elif path.is_symlink() or path.stat().st_nlink > 1:
            yield f"{shard.name}: a link, whose file others may use"
        elif not os.access(path, os.W_OK):
            yield f"{shard.name}: not to be written to"
        else:
            yield from _shard_reasons(found, shard, file.keys, file.header_size)


def _shard_reasons(found: PlannedConversion, shard: Shard, keys: tuple[str, ...], size: int) -> Iterator[str]:
    ones = [found.plan.made[tensor.key] for tensor in shard.plan]
    changed = [tensor.key for tensor, one in zip(shard.plan, ones, strict=True) if one.step.operations or one.cast]
    if changed:
        yield f"{shard.name}: {len(changed)} tensors change, {legible(changed[0])} for one"
    elif tuple(one.step.sources[0] for one in ones) != keys:
        yield f"{shard.name}: its tensors change their order"
    else:
        needed = len(header_bytes(shard.plan, shard.metadata, header_size=0, where=shard.name)) - 8
        if needed > size:
            yield f"{shard.name}: the header takes {needed} bytes, and has room for {size}"


def _small_files(found: PlannedConversion, folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """The index and the records, as they are to be; None for one that is to go."""
    source, placement = found.source, found.plan.placement
    single = f"{Path(source.path).name}." if source.folder is None else ""
    for name in (NAME, BEFORE):
        content = found.beside.get(name)
        if content is not None or (folder / f"{single}{name}").exists():
            yield f"{single}{name}", content
    if CONFIG in found.beside:
        yield CONFIG, found.beside[CONFIG]
    if placement.index is not None and any(path.endswith(".index.json") for path in source.files):
        content = index_bytes(placement.shards, placement.index, placement.index_name, placement.text)
        yield placement.index_name, content


def _moves(found: PlannedConversion, folder: Path) -> Mapping[str, str]:
    """Originals that an earlier conversion kept step back, or come forward."""
    if found.source.folder is None:
        return {}
    recalled = found.route.recalled is not None
    # in such an order that each name is free when it is taken
    names = sorted((path.name for path in folder.glob(f"{ORIGINALS}*")), key=len, reverse=not recalled)
    return {name: to for name in names for to in turned(name, recalled=recalled)}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if path.exists() else 0o666


def _link(path: Path, to: Path) -> None:
    """The same file under another name; a copy where the file system has no such links."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)
        flush_all([to])


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _check(patches: Mapping[str, Patch], folder: Path) -> None:
    """Read the headers again."""
    for name, patch in patches.items():
        with (folder / name).open("rb") as file:
            forget(file.fileno())
            if file.read(len(patch.after)) != patch.after:
                raise FormatError("what was written reads otherwise", where=name, hint="is the disk failing?")
