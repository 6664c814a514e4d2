"""Renaming in the files themselves: only headers are written, and the index."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from treealign.checkpoint.conversion.design import Design, Wishes
from treealign.checkpoint.conversion.journal import Change, Journal, pending
from treealign.checkpoint.conversion.origin import refuse_changed
from treealign.checkpoint.conversion.others import turned
from treealign.checkpoint.conversion.undoing import NAME, ORIGINALS
from treealign.checkpoint.conversion.verifying import forget
from treealign.checkpoint.conversion.writing import refusals
from treealign.checkpoint.record_file import NAME as SAVED
from treealign.errors import FormatError, TreealignError
from treealign.formats.legible import legible
from treealign.formats.safetensors_writer import Shard, header_bytes, index_bytes
from treealign.mapping.mapping_json import mapping_to_data


def end_pending(folder: Path, wishes: Wishes) -> bool:
    """End what a run that was killed has begun in a folder; the folder's lock is held.

    A renaming is finished, or taken back where the opposite of it is wished for.

    Returns
    -------
    bool
        Whether nothing of what is wished for is left to do.

    Raises
    ------
    FormatError
        The journal cannot be read, its files are not what they were, or the system refuses to write.
    """
    done = False
    request = request_of(wishes)
    for journal in pending(folder):
        opposite = {**journal.request, "reverse": not journal.request.get("reverse")} == request
        done = done or opposite or journal.request == request
        with refusals(folder):
            (journal.undone if opposite else journal).carry_out()
            journal.remove()
    return done


def request_of(wishes: Wishes) -> dict[str, Any]:
    """A mapping and a direction, as a journal holds them."""
    request: dict[str, Any] = {"mapping": mapping_to_data(wishes.mapping.transforms), "reverse": wishes.reverse}
    return dict(json.loads(json.dumps(request)))


def rename_in_place(found: Design, wishes: Wishes) -> list[str]:
    """Rename in the files of a checkpoint; the lock of their folder is held.

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
    journal = make_journal(found, wishes)
    if all(change.before == change.after for change in journal.headers.values()):
        return []
    refuse_changed(found.origin.stamps)
    with refusals(journal.folder):
        journal.write()
        try:
            journal.carry_out()
            _check(journal, wishes.verify)
        except BaseException:
            journal.undone.carry_out()
            journal.remove()
            raise
        journal.remove()
    return [*journal.headers, *journal.files]


def make_journal(found: Design, wishes: Wishes) -> Journal:
    """Everything that is to be changed, if it can be changed in place.

    Raises
    ------
    TreealignError
        With all that stands against it.
    """
    origin = found.origin
    folder = origin.folder or Path(origin.path).parent
    reasons = list(_reasons(found, folder))
    if reasons:
        raise TreealignError(
            "this cannot be done in place",
            where=origin.path,
            facts=reasons[:50],
            hint="name a destination: the bytes are then copied, as fast as the system copies files",
        )
    headers = {}
    for shard in found.placement.shards:
        size = found.placement.starts[shard.name] - 8
        raw = header_bytes(shard.plan, shard.metadata, header_size=size, where=shard.name)
        headers[shard.name] = Change(_start_of(folder / shard.name, len(raw)), raw)
    files = {name: Change(_content(folder / name), after) for name, after in _small_files(found, folder)}
    changed = {name: change for name, change in files.items() if change.before != change.after}
    return Journal(folder, headers, changed, _moves(found, folder), request_of(wishes))


def _reasons(found: Design, folder: Path) -> Iterator[str]:
    files = found.origin.layout.files
    if [shard.name for shard in found.placement.shards] != [file.name for file in files]:
        yield "the result has other files"
        return
    for shard, file in zip(found.placement.shards, files, strict=True):
        path = folder / shard.name
        if file.header_size is None or not path.is_file():
            yield f"{shard.name}: a torch file cannot hold the result"
        elif path.is_symlink() or path.stat().st_nlink > 1:
            yield f"{shard.name}: a link, whose file others may use"
        elif not os.access(path, os.W_OK):
            yield f"{shard.name}: not to be written to"
        else:
            yield from _shard_reasons(found, shard, file.keys, file.header_size)


def _shard_reasons(found: Design, shard: Shard, keys: tuple[str, ...], size: int) -> Iterator[str]:
    ones = [found.made[tensor.key] for tensor in shard.plan]
    changed = [tensor.key for tensor, one in zip(shard.plan, ones, strict=True) if one.step.operations or one.cast]
    if changed:
        yield f"{shard.name}: {len(changed)} tensors change, {legible(changed[0])} for one"
    elif tuple(one.step.sources[0] for one in ones) != keys:
        yield f"{shard.name}: its tensors change their order"
    else:
        needed = len(header_bytes(shard.plan, shard.metadata, header_size=0, where=shard.name)) - 8
        if needed > size:
            yield f"{shard.name}: the header takes {needed} bytes, and has room for {size}"


def _small_files(found: Design, folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """The index and the records, as they are to be; None for one that is to go."""
    origin, placement = found.origin, found.placement
    single = f"{Path(origin.path).name}." if origin.folder is None else ""
    for name in (NAME, SAVED) if not single else (NAME,):
        content = found.beside.get(name)
        if content is not None or (folder / f"{single}{name}").exists():
            yield f"{single}{name}", content
    if placement.index is not None and any(path.endswith(".index.json") for path in origin.read):
        yield placement.index_name, index_bytes(placement.shards, placement.index, placement.index_name)


def _moves(found: Design, folder: Path) -> Mapping[str, str]:
    """Originals that an earlier conversion kept step back, or come forward."""
    if found.origin.folder is None:
        return {}
    recalled = found.route.recalled is not None
    # in such an order that each name is free when it is taken
    names = sorted((path.name for path in folder.glob(f"{ORIGINALS}*")), key=len, reverse=not recalled)
    return {name: to for name in names for to in turned(name, recalled=recalled)}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _check(journal: Journal, verify: bool) -> None:
    """Read the headers again."""
    for name, change in journal.headers.items() if verify else ():
        with (journal.folder / name).open("rb") as file:
            forget(file.fileno())
            if file.read(len(change.after or b"")) != change.after:
                raise FormatError("what was written reads otherwise", where=name, hint="is the disk failing?")
