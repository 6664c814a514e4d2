"""Give the program what anybody may have written, and see that each is done with, or refused, within five seconds.

python scripts/hostile.py                 all of them, as a table
python scripts/hostile.py --only keys     those whose names hold the word

Each is built in one process and read in another, whose time (of the processor, without imports) and memory (with torch,
some 300 MB) are measured. It ends with 1 if anything took more than five seconds or 1 GB, or raised what is no error of
ours.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import treealign
from treealign import ConversionMapping, Convert, Rename, TreealignError, operations
from treealign.align import alignment as _alignment  # noqa: F401  imports are not what is measured
from treealign.checkpoint.conversion import converting as _converting  # noqa: F401
from treealign.dialects import emitting as _emitting  # noqa: F401

SECONDS, BYTES = 5.0, 1 << 30
PATIENCE = 100.0  # of the clock: others may use the machine
RENAMED = ConversionMapping([Rename("a", "b")])
Case = tuple[Callable[[Path], None], Callable[[Path], object]]


def main(only: Annotated[str, typer.Option(help="A part of the names.")] = "") -> None:
    """Read what is hostile, one process each."""
    context = multiprocessing.get_context("fork")
    wrong = 0
    print("| what | outcome | seconds | MB |\n|---|---|---|---|")
    for name, (build, read) in CASES.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            built = context.Process(target=build, args=(Path(folder),))
            built.start()
            built.join()
            ours, theirs = context.Pipe(duplex=False)
            run = context.Process(target=measured, args=(read, Path(folder), theirs))
            run.start()
            answer = ours.recv() if ours.poll(PATIENCE) else ("WRONG: no answer", PATIENCE, 0)
            run.kill()
            run.join()
        outcome, seconds, size = answer
        fault = outcome.startswith("WRONG") or seconds > SECONDS or size > BYTES or built.exitcode
        wrong += bool(fault)
        print(f"| {name} | {outcome} | {seconds:.1f} | {size >> 20} |{' !' * bool(fault)}", flush=True)
    sys.exit(bool(wrong))


def measured(read: Callable[[Path], object], folder: Path, answer: Any) -> None:
    """What came of reading, the seconds, and the most memory that it took."""
    start = time.process_time()
    try:
        outcome = f"done: {read(folder)}"[:60]
    except TreealignError as error:
        outcome = f"refused: {' '.join([error.what, *error.facts[:1]])[:90]}".replace("\n", " ")
    except BaseException as error:
        outcome = f"WRONG: {type(error).__name__}: {str(error)[:90]}"
    seconds = time.process_time() - start
    answer.send((outcome.replace("|", "/"), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))


# -- how they are built ------------------------------------------------------------------------------------------------


def nothing(_: Path) -> None:
    pass


def header(keys: Iterable[str], metadata: dict[str, str] | None = None, shape: Iterable[int] = (0,)) -> bytes:
    """A safetensors file of empty tensors."""
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}
    data = {**({"__metadata__": metadata} if metadata else {}), **dict.fromkeys(keys, entry)}
    text = json.dumps(data, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text


def safetensors(keys: Callable[[], Iterable[str]], **more: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / "x.safetensors").write_bytes(header(keys(), **more)) and None


def text(name: str, content: Callable[[], str]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content()) and None


def torch_file(content: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda folder: torch.save(content(), folder / "x.pt")


def compressed(folder: Path) -> None:
    """A torch file whose 1.6 GB of zeros were compressed."""
    held = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, held)
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(folder / "x.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(b"K\x01tq", b"J\x00\x00\x00\x18tq")
            with new.open(entry.filename, "w", force_zip64=True) as file:
                for _ in range(100 if entry.filename.endswith("data/0") else 0):
                    file.write(bytes(1 << 24))
                file.write(content)


def laughing(folder: Path) -> None:
    """Lists that hold one list a thousand times, which holds another: a few kilobytes, and 10^24 members."""
    held: Any = [torch.zeros(1)]
    for _ in range(8):
        held = [held] * 1000
    torch.save({"a": [[1] * 3, *[deep(1000)] * 1000]}, folder / "y.pt")
    torch.save({"a": held}, folder / "x.pt")


def deep(width: int) -> Any:
    held: Any = [0]
    for _ in range(6):
        held = [held] * width
    return held


def many_entries(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "x.pt")
    with zipfile.ZipFile(folder / "x.pt", "a") as file:
        for at in range(100_000):
            file.writestr(f"x/{at}", b"")


def nested(depth: int = 200_000) -> str:
    return "[" * depth + "]" * depth


def beside_weights(name: str) -> Callable[[Path], None]:
    """A checkpoint, and beside it a file of nested lists."""

    def build(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(header(["a"]))
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(nested())

    return build


def index_of(shards: int) -> str:
    names = {f"a.{at}": f"m-{at}.safetensors" for at in range(shards)}
    return json.dumps({"metadata": {}, "weight_map": names})


def many_files(folder: Path) -> None:
    for at in range(50_000):
        (folder / f"f{at}.safetensors").touch()


def sparse(folder: Path) -> None:
    with (folder / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 99_000_000))
        file.truncate(1 << 40)


def adapter(folder: Path) -> None:
    """A pattern that takes exponentially long on the names of its own modules."""
    keys = {f"base_model.model.{'a' * 40}.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    from safetensors.torch import save_file

    save_file(keys, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": "(a+)+b"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "model.safetensors")


def endless(folder: Path) -> None:
    (folder / "model.safetensors").symlink_to("/dev/zero")


# -- how they are read -------------------------------------------------------------------------------------------------


def tree(name: str = "x.safetensors") -> Callable[[Path], object]:
    return lambda folder: treealign.read_tree(folder / name)


def folds(folder: Path) -> object:
    return f"{len(treealign.read_tree(folder / 'x.safetensors').folds)} folds"


def converted(mapping: Callable[[], ConversionMapping], name: str = "x.safetensors") -> Callable[[Path], object]:
    def convert(folder: Path) -> object:
        return treealign.convert_checkpoint(folder / name, folder / "out", mapping()).keys

    return convert


def suggested(folder: Path) -> object:
    return len(treealign.suggest(folder / "x.safetensors", folder / "x.safetensors").matches)


def mapping(folder: Path) -> object:
    return len(ConversionMapping.from_json(folder / "x.json"))


def rules(*transforms: dict[str, Any]) -> str:
    return json.dumps({"format": "treealign.mapping", "version": 1, "transforms": list(transforms)})


def full_disk(folder: Path) -> object:
    """A mapping whose file can be written in part only."""
    import signal

    path = folder / "m.json"
    RENAMED.to_json(path)
    before = path.read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        ConversionMapping([Rename(f"a{at}", f"b{at}") for at in range(1000)]).to_json(path)
    finally:
        assert path.read_bytes() == before
        assert [found.name for found in folder.iterdir()] == ["m.json"]
    return "written"


def loaded(folder: Path) -> object:
    count = 20_000
    targets = [f"t{at}" for at in range(count)]
    model = torch.nn.ParameterDict({name: torch.zeros(1, 2) for name in targets})
    split = Convert("w", targets, [operations.Split(0, (1,) * count)])
    result = treealign.load(model, {"w": torch.arange(2.0 * count).view(count, 2)}, [split])
    return len(result.mapping)


def split_converted(folder: Path) -> object:
    count = 20_000
    torch.save({"w": torch.zeros(count, 2)}, folder / "x.pt")
    split = Convert("w", [f"t{at}" for at in range(count)], [operations.Split(0, (1,) * count)])
    return treealign.convert_checkpoint(folder / "x.pt", folder / "out", [split]).keys


PADDED = [f"a.{at:09d}.w" for at in range(10)]
CASES: dict[str, Case] = {
    "a million zero-padded keys": (safetensors(lambda: (f"a.{at:07d}" for at in range(10**6))), tree()),
    "190,000 zero-padded keys": (safetensors(lambda: (f"a.{at:07d}" for at in range(190_000))), folds),
    "190,000 zero-padded keys, converted": (
        safetensors(lambda: (f"a.{at:07d}" for at in range(190_000))),
        converted(lambda: RENAMED),
    ),
    "300,000 shards in an index": (text("x.index.json", lambda: index_of(300_000)), tree("x.index.json")),
    "19,000 absent shards": (text("model.safetensors.index.json", lambda: index_of(19_000)), tree("")),
    "two million entries of metadata": (
        safetensors(lambda: ["a"], metadata={str(at): "" for at in range(2 * 10**6)}),
        tree(),
    ),
    "keys of 2,000 levels": (safetensors(lambda: (".".join([f"a{n}"] * 2000) for n in range(100))), suggested),
    "keys of 2,000 levels, converted": (
        safetensors(lambda: (".".join(["a"] * (2000 + n)) for n in range(100))),
        converted(lambda: RENAMED),
    ),
    "an index of 5,000 digits": (safetensors(lambda: [f"a.{'9' * 5000}.w", "a.1.w"]), suggested),
    "an index of 5,000 digits, converted": (
        safetensors(lambda: [f"a.{'9' * 5000}.w", "a.1.w"]),
        converted(lambda: ConversionMapping([Rename("a.{i}", "b.{i+1}")])),
    ),
    "a range of a billion": (
        nothing,
        lambda _: Convert("a.{i:0..999999999}.w", "a.w", operations.Stack(0, 10**9)),
    ),
    "two ranges of 100,000": (
        nothing,
        lambda _: Convert("a.{i:0..99999}.{j:0..99999}.w", "a.w", operations.Stack(0, 10**10)),
    ),
    "20,000 targets of a split, loaded": (nothing, loaded),
    "20,000 targets of a split, converted": (nothing, split_converted),
    "a stride-0 tensor of 4 TB": (
        torch_file(lambda: {"a": torch.zeros(1).expand(10**6, 10**6)}),
        converted(lambda: RENAMED, "x.pt"),
    ),
    "1.6 GB compressed to 1.6 MB": (compressed, tree("x.pt")),
    "a mapping on a full disk": (nothing, full_disk),
    "lists within lists, 10^24 members": (laughing, tree("x.pt")),
    "the same without a tensor": (laughing, tree("y.pt")),
    "a torch file of 100,002 entries": (many_entries, tree("x.pt")),
    "a torch file of 150,000 tensors": (
        torch_file(lambda: {f"a.{at}": torch.empty(0) for at in range(150_000)}),
        tree("x.pt"),
    ),
    "nested index": (text("x.index.json", nested), tree("x.index.json")),
    "nested tree": (text("x.json", lambda: '{"format": "treealign.tree", "a": ' + nested() + "}"), tree("x.json")),
    "nested mapping": (text("x.json", nested), mapping),
    "nested record": (
        beside_weights("treealign_record.json"),
        lambda folder: treealign.convert_checkpoint(folder, folder.with_name("out"), RENAMED, reverse=True).keys,
    ),
    "nested journal": (
        beside_weights(".treealign-partial/.journal.json"),
        tree(""),
    ),
    "a stack of a billion": (
        safetensors(lambda: ["a.0"]),
        converted(lambda: ConversionMapping([Convert("a.0", "b", operations.Stack(0, 10**9))])),
    ),
    "a padding of a billion rows": (
        safetensors(lambda: ["a"], shape=(0, 4)),
        converted(lambda: ConversionMapping([Convert("a", "b", operations.Pad(0, 0, 10**12))])),
    ),
    "a shape of 100,000 dimensions": (safetensors(lambda: ["a"], shape=(1,) * 99_999 + (0,)), tree()),
    "a shape beyond 64 bits": (safetensors(lambda: ["a"], shape=(0, 1 << 70)), tree()),
    "a key of 50 MB": (safetensors(lambda: ["a" * 50_000_000]), suggested),
    "a sparse file of a terabyte": (sparse, tree()),
    "50,000 files in a folder": (many_files, tree("")),
    "a pipe": (fifo, tree("")),
    "a link to /dev/zero": (endless, tree("")),
    "an adapter's pattern that backtracks": (
        adapter,
        lambda folder: treealign.convert_checkpoint(folder, folder / "../out", [Rename("a" * 40, "a" * 41)]).notes,
    ),
}

if __name__ == "__main__":
    typer.run(main)
