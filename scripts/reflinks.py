"""Convert on one file system and say what was shared, whether it came back, and what a full disk left.

python scripts/reflinks.py FOLDER KIND

FOLDER is on the file system, of KIND btrfs, xfs or ext4; `scripts/reflinks.sh` mounts them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from treealign import ConversionMapping, Convert, PrefixChange, Rename, convert_checkpoint, operations
from treealign.errors import FormatError
from treealign.formats.safetensors_header import read_header
from treealign.formats.safetensors_writer import Shard, index_bytes, plan_of

RENAMED = ConversionMapping([PrefixChange(add="model.language_model")])
SHORTER = ConversionMapping([Rename("layers", "h")])
TURNED = ConversionMapping([Convert("layers.{i}.w3", "layers.{i}.t3", operations.Permute((1, 0)))])
SHARDS, TENSORS, WIDTH = 4, 8, 1 << 11
PAGE, MEGABYTE = 4096, 1 << 20


def main() -> None:
    """Check, and print figures; an AssertionError says what does not hold."""
    base, kind = Path(sys.argv[1]), sys.argv[2]
    shares = kind != "ext4"
    source = write_checkpoint(base / "source")
    size = sum(path.stat().st_size for path in source.iterdir()) / MEGABYTE
    print(f"{kind}: {SHARDS} shards, {size:.0f} MiB", flush=True)
    renamed(base, source, shares)
    turned(base, source, shares)
    times(base, source)
    full(base, source, shares)


def renamed(base: Path, source: Path, shares: bool) -> None:
    before = used(base)
    convert_checkpoint(source, base / "out", RENAMED)
    there = used(base) - before
    convert_checkpoint(base / "out", base / "back", RENAMED, reverse=True)
    both = used(base) - before
    assert digests(base / "back") == digests(source), "not the bytes that were there"
    for path in weights(source):
        starts = {read_header(base / folder / path.name).data_start % PAGE for folder in ("source", "out")}
        assert len(starts) == 1, f"{path.name}: the data are not congruent"
        for folder in ("out", "back") if shares else ():
            shared, blocks = extents(base / folder / path.name)
            assert blocks - shared <= 4, f"{folder}/{path.name}: {shared} of {blocks} blocks are shared"
    shared, blocks = extents(weights(base / "out")[0])
    print(f"  renamed, and back byte for byte: {shared} of {blocks} blocks of a shard are shared")
    print(f"  the disk holds {there / MEGABYTE:.1f} MiB more, with the way back {both / MEGABYTE:.1f}")
    remove(base / "out", base / "back")


def turned(base: Path, source: Path, shares: bool) -> None:
    convert_checkpoint(source, base / "out", TURNED)
    convert_checkpoint(base / "out", base / "back", TURNED, reverse=True)
    assert digests(base / "back") == digests(source), "not the bytes that were there"
    shared, blocks = extents(weights(base / "out")[0])
    assert not shares or shared > 0.8 * blocks, f"{shared} of {blocks} blocks are shared"
    print(f"  one tensor in eight turned, and back byte for byte: {shared} of {blocks} blocks are shared")
    remove(base / "out", base / "back")


def times(base: Path, source: Path) -> None:
    ways: dict[str, Callable[[Path], object]] = {
        "convert": lambda out: convert_checkpoint(source, out, RENAMED),
        "cp --reflink=auto, sync": lambda out: copied(source, out, "auto"),
        "cp --reflink=never, sync": lambda out: copied(source, out, "never"),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(5):
        for way, run in ways.items():
            os.sync()
            start = time.perf_counter()
            run(base / "timed")
            found[way].append(time.perf_counter() - start)
            remove(base / "timed")
    for way, seconds in found.items():
        print(f"  {way:<26} {statistics.median(seconds):6.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")


def copied(source: Path, out: Path, reflink: str) -> None:
    subprocess.run(["cp", "-r", f"--reflink={reflink}", source, out], check=True)
    subprocess.run(["sync", "-f", out], check=True)


def full(base: Path, source: Path, shares: bool) -> None:
    """Less room than is needed, down to none: refused, and everything is as it was."""
    before, refused = digests(source), 0
    for room in (0, 1, 4, 12, 40):
        with filled(base, room * MEGABYTE):
            for mapping in (TURNED,) if shares else (TURNED, RENAMED):
                if is_refused(lambda mapping=mapping: convert_checkpoint(source, base / "out", mapping)):
                    refused += 1
                else:
                    remove(base / "out")
                left = {path.name for path in base.iterdir()} - {"lost+found"}
                assert left == {"filler", "source"}, f"something was left: {left}"
            if is_refused(lambda: convert_checkpoint(source, None, SHORTER, in_place=True)):
                refused += 1
            else:
                convert_checkpoint(source, None, SHORTER, reverse=True, in_place=True)
        assert digests(source) == before, "the source has changed"
    convert_checkpoint(source, None, SHORTER, in_place=True)
    convert_checkpoint(source, None, SHORTER, reverse=True, in_place=True)
    assert digests(source) == before, "a later run in place does not come back"
    assert refused, "there was room enough"
    print(f"  full disk: {refused} conversions refused, nothing lost, nothing left", flush=True)


def is_refused(run: Callable[[], object]) -> bool:
    try:
        run()
    except FormatError as error:
        assert "No space left" in str(error), error
        return True
    return False


@contextmanager
def filled(base: Path, room: int) -> Iterator[None]:
    """A file system with no more than so much room."""
    filler = base / "filler"
    os.sync()
    with filler.open("wb", buffering=0) as file:
        held, piece = 0, 64 * MEGABYTE
        while piece >= PAGE:
            try:
                os.posix_fallocate(file.fileno(), held, piece)
                held += piece
            except OSError:
                piece //= 4
        os.truncate(file.fileno(), max(0, held - room))
        os.fsync(file.fileno())
    os.sync()
    try:
        yield
    finally:
        filler.unlink()
        os.sync()


def extents(path: Path) -> tuple[int, int]:
    """Blocks that the file shares with another, and all of its blocks."""
    text = subprocess.run(["filefrag", "-v", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split(":") for line in text.splitlines()]
    lengths = [(int(row[3]), "shared" in row[-1]) for row in rows if row[0].strip().isdigit()]
    return sum(length for length, shared in lengths if shared), sum(length for length, _ in lengths)


def used(base: Path) -> int:
    os.sync()
    found = os.statvfs(base)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder)
    os.sync()


def write_checkpoint(folder: Path) -> Path:
    """Four shards of 64 MiB with an index, as transformers would write them."""
    folder.mkdir()
    torch.manual_seed(0)
    shards = []
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        keys = [f"layers.{number}.w{at}" for at in range(TENSORS)]
        save_file({key: torch.randn(WIDTH, WIDTH).half() for key in keys}, folder / name, {"format": "pt"})
        shards.append(Shard(name, plan_of(read_header(folder / name)), {"format": "pt"}))
    (folder / "model.safetensors.index.json").write_bytes(index_bytes(shards))
    (folder / "config.json").write_text("{}")
    os.sync()
    return folder


if __name__ == "__main__":
    main()
