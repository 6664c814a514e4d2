"""Converting checkpoints beside copying them and beside loading and saving them; pairs run side by side, in turns."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from speed import MEBIBYTE, Figure, _forget_peak, _peak

from treealign import ConversionMapping, Convert, PrefixChange, Rename, operations

SHARDS, LAYERS, WIDTH = 8, 4, 4096  # 4.3 GB in bfloat16
EXPERTS, INNER = 16, 1024
RENAMES = ConversionMapping([PrefixChange(add="model"), Rename("**.attn", "**.self_attn")])
SHORTER = ConversionMapping([Rename("layers", "h"), Rename("**.attn", "**.a")])
HEADS = (WIDTH, WIDTH // 4, WIDTH // 4)
CONVERSIONS = ConversionMapping(
    [
        Convert(
            ["layers.{i}.e.{j:0..15}.gate", "layers.{i}.e.{j:0..15}.up"],
            "layers.{i}.gate_up",
            [operations.Stack(0, EXPERTS), operations.Concat(1, (INNER, INNER))],
        ),
        Convert("layers.{i}.e.{j:0..15}.down", "layers.{i}.down", operations.Stack(0, EXPERTS)),
        Convert("layers.{i}.qkv", ["layers.{i}.q", "layers.{i}.k", "layers.{i}.v"], operations.Split(0, HEADS)),
    ]
)
# the same checkpoint, whose experts have to be turned round: nothing of them can be moved as bytes
TURNED = ConversionMapping(
    [
        Convert(
            [f"layers.{{i}}.e.{{j:0..15}}.{name}"],
            f"layers.{{i}}.{name}",
            [operations.Permute((1, 0)), operations.Stack(0, EXPERTS)],
        )
        for name in ("gate", "up", "down")
    ]
)


class Run(NamedTuple):
    """One run: seconds, and bytes of memory above what the process had before."""

    seconds: float
    memory: int = 0


def convert_figures(folder: Path | None = None, rounds: int = 3) -> Iterator[Figure]:
    """All figures; `folder` is where 13 GB find room for a while."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        yield from _renaming(base, rounds)
        yield from _converting(base, rounds)
        yield from _beside_transformers(base, rounds)


def save_figures(folder: Path | None = None, rounds: int = 5) -> Iterator[Figure]:
    """A model saved, beside safetensors' own writer; `folder` is where 5 GB find room for a while."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for what, old in (("to nothing", False), ("over a checkpoint", True)):
            ours, theirs = _in_turns(
                Path(name),
                rounds,
                lambda out, old=old: _apart("save", out, old),
                lambda out, old=old: _apart("save_file", out, old),
            )
            size = _model_size() / 1e9
            yield _beside(f"save, {size:.1f} GB, {what}, fsynced", ours, ("save_file and sync -f", theirs))
            yield Figure("  … memory above the model", max(run.memory for run in ours) / MEBIBYTE, "MiB")


def _renaming(base: Path, rounds: int) -> Iterator[Figure]:
    source = base / "source"
    _apart("write_dense", source)
    size = sum(path.stat().st_size for path in source.iterdir()) / 1e9
    ours, copies, theirs = _in_turns(
        base,
        rounds,
        lambda out: _apart("convert", source, out, "RENAMES"),
        lambda out: _copied(source, out),
        lambda out: _apart("load_and_save", source, out, "RENAMES"),
    )
    yield _beside(f"convert, renames only, {size:.1f} GB, fsynced", ours, ("cp -r and sync -f", copies))
    yield _beside("  … beside loading and saving, synced too", ours, ("load_file, save_file and sync -f", theirs))
    yield Figure("  … memory above the interpreter", max(run.memory for run in ours) / MEBIBYTE, "MiB")
    there = [_apart("in_place", source, source, "SHORTER") for _ in range(rounds * 2)]
    yield Figure(f"convert --in-place, {size:.1f} GB", _median(there), "s", _range("runs", there))
    shutil.rmtree(source)


def _converting(base: Path, rounds: int) -> Iterator[Figure]:
    source = base / "source"
    _apart("write_experts", source)
    size = sum(path.stat().st_size for path in source.iterdir()) / 1e9
    for what, mapping in (("experts stacked, qkv split", "CONVERSIONS"), ("experts turned and stacked", "TURNED")):
        ours, theirs = _in_turns(
            base,
            rounds,
            lambda out, mapping=mapping: _apart("convert", source, out, mapping),
            lambda out: _apart("load_and_save", source, out, "RENAMES"),
        )
        yield _beside(f"convert, {what}, {size:.1f} GB", ours, ("load_file, save_file and sync -f", theirs))
        yield Figure("  … memory above the interpreter", max(run.memory for run in ours) / MEBIBYTE, "MiB", _largest())
    shutil.rmtree(source)


def _beside_transformers(base: Path, rounds: int) -> Iterator[Figure]:
    source, mapping = base / "source", base / "mapping.json"
    _apart("write_mixtral", source, mapping)
    size = sum(path.stat().st_size for path in source.iterdir()) / 1e9
    ours, theirs = _in_turns(
        base,
        rounds,
        lambda out: _apart("convert", source, out, mapping),
        lambda out: _apart("load_and_save_pretrained", source, out),
    )
    yield _beside(f"convert, a Mixtral, {size:.1f} GB", ours, ("from_pretrained, save_pretrained, sync -f", theirs))
    shutil.rmtree(source)


def _largest() -> str:
    return f"largest transform: {EXPERTS * 2 * INNER * WIDTH * 2 / MEBIBYTE:.0f} MiB out of as much"


def _in_turns(base: Path, rounds: int, *works: Callable[[Path], Run]) -> list[list[Run]]:
    """Each work in each round, in an order that changes, into a fresh place on a disk that is at rest."""
    runs: list[list[Run]] = [[] for _ in works]
    for at in range(rounds):
        for work in range(len(works)):
            which = (at + work) % len(works)
            with tempfile.TemporaryDirectory(dir=base) as folder:
                os.sync()
                runs[which].append(works[which](Path(folder) / "out"))
    return runs


def _beside(what: str, ours: Sequence[Run], theirs: tuple[str, Sequence[Run]]) -> Figure:
    ratios = [mine.seconds / yours.seconds for mine, yours in zip(ours, theirs[1], strict=True)]
    ratio = f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return Figure(what, _median(ours), "s", f"{_range(*theirs)}, {ratio}")


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _range(what: str, runs: Sequence[Run]) -> str:
    seconds = [run.seconds for run in runs]
    return f"{what}: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"


def _copied(source: Path, out: Path) -> Run:
    start = time.perf_counter()
    subprocess.run(["cp", "-r", source, out], check=True)
    subprocess.run(["sync", "-f", out], check=True)
    return Run(time.perf_counter() - start)


def _apart(work: str, *arguments: object) -> Run:
    """Work in a process of its own; start-up and imports are not counted."""
    command = [sys.executable, __file__, work, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Run(*json.loads(done.stdout))


# -- in a process of its own -------------------------------------------------------------------------------------------


def measured(work: Callable[[], Any]) -> Run:
    before = _forget_peak()
    start = time.perf_counter()
    work()
    return Run(time.perf_counter() - start, _peak() - before)


def convert(source: str, out: str, mapping: str) -> Run:
    from treealign import convert_checkpoint

    if mapping != "RENAMES":
        import treealign.mapping.execution.execute  # noqa: F401  start-up
    return measured(lambda: convert_checkpoint(source, out, globals().get(mapping, mapping)))


def in_place(source: str, _: str, mapping: str) -> Run:
    """A renaming and its undoing; the time of one, less that of reading the headers."""
    from treealign import convert_checkpoint
    from treealign.formats.checkpoints import open_checkpoint

    header = measured(lambda: open_checkpoint(source)).seconds
    there = measured(lambda: convert_checkpoint(source, None, globals()[mapping], in_place=True))
    convert_checkpoint(source, None, globals()[mapping], reverse=True, in_place=True)
    return Run(there.seconds - header, there.memory)


def _model_size() -> int:
    return LAYERS * 8 * WIDTH * WIDTH * 2


def _model() -> Any:
    import torch

    tensors = {f"w{at}": torch.full((WIDTH, WIDTH), float(at), dtype=torch.bfloat16) for at in range(LAYERS * 8)}
    return torch.nn.ParameterDict(tensors)


def save(out: str, old: str) -> Run:
    import treealign

    model = _model()
    if old == "True":
        treealign.save(model, out)
        os.sync()
    return measured(lambda: treealign.save(model, out))


def save_file(out: str, old: str) -> Run:
    from safetensors.torch import save_file as write

    model, path = _model(), Path(out) / "model.safetensors"
    Path(out).mkdir()
    if old == "True":
        write(model.state_dict(), path, metadata={"format": "pt"})
        os.sync()

    def work() -> None:
        write(model.state_dict(), path, metadata={"format": "pt"})
        subprocess.run(["sync", "-f", out], check=True)

    return measured(work)


def load_and_save(source: str, out: str, mapping: str) -> Run:
    from safetensors.torch import load_file, save_file

    def work() -> None:
        Path(out).mkdir()
        for path in sorted(Path(source).glob("*.safetensors")):
            tensors = load_file(path)
            names = globals()[mapping].map_keys(tensors)
            save_file({names[key][0]: tensor for key, tensor in tensors.items()}, Path(out) / path.name)
        shutil.copy(Path(source) / "model.safetensors.index.json", out)
        subprocess.run(["sync", "-f", out], check=True)

    return measured(work)


def write_mixtral(folder: str, mapping: str) -> Run:
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from treealign import suggest

    config = MixtralConfig(
        hidden_size=1024, intermediate_size=3584, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=4
    )
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = MixtralForCausalLM(config)

    def work() -> None:
        real = model.to(torch.bfloat16).to_empty(device="cpu")
        for parameter in real.parameters():
            parameter.data.fill_(0.5)
        real.save_pretrained(folder, max_shard_size="500MB")
        found = suggest(folder, real)
        assert found.ok, found
        found.mapping.to_json(mapping)

    return measured(work)


def load_and_save_pretrained(source: str, out: str) -> Run:
    from transformers import MixtralForCausalLM

    def work() -> None:
        model = MixtralForCausalLM.from_pretrained(source)
        model.save_pretrained(out, max_shard_size="500MB")
        subprocess.run(["sync", "-f", out], check=True)

    return measured(work)


def write_dense(folder: str) -> Run:
    import torch

    def layer(number: int) -> dict[str, Any]:
        names = [f"layers.{number * LAYERS + at}.attn.{part}.weight" for at in range(LAYERS) for part in "qkvo"]
        return {name: torch.full((WIDTH, WIDTH), float(number), dtype=torch.bfloat16) for name in names}

    return measured(lambda: _write_shards(Path(folder), layer))


def write_experts(folder: str) -> Run:
    import torch

    def layer(number: int) -> dict[str, Any]:
        shapes = {f"e.{j}.{part}": (INNER, WIDTH) for j in range(EXPERTS) for part in ("gate", "up")}
        shapes |= {f"e.{j}.down": (WIDTH, INNER) for j in range(EXPERTS)}
        shapes["qkv"] = (sum(HEADS), WIDTH)
        return {f"layers.{number}.{k}": torch.full(s, 0.5, dtype=torch.bfloat16) for k, s in shapes.items()}

    return measured(lambda: _write_shards(Path(folder), layer))


def _write_shards(folder: Path, layer: Callable[[int], dict[str, Any]]) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    weight_map, total = {}, 0
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = layer(number)
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
