"""The load path: a sharded checkpoint onto a model on the meta device, renamed on the way."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from speed import MEBIBYTE, Figure

from treealign import ConversionMapping, PrefixChange, Rename, load

ROUNDS = 12
SIZES = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 16384,
}
# from the checkpoint's names to the model's
MAPPING = ConversionMapping([PrefixChange(remove="net"), Rename("**.attn", "**.self_attn")])


def load_figures() -> Iterator[Figure]:
    """`load(..., assign=True)` beside what one writes with safetensors and torch, and beside transformers."""
    with tempfile.TemporaryDirectory() as base:
        renamed, plain = written(Path(base))
        size = sum(path.stat().st_size for path in renamed.glob("*.safetensors")) / MEBIBYTE
        for what, use in ((f"{size:,.0f} MiB read once", read_all), ("mapped, nothing read", lambda _: None)):
            yield from beside(what, renamed, plain, use)


def beside(what: str, renamed: Path, plain: Path, use: Callable[[Any], object]) -> Iterator[Figure]:
    """All kinds of loading in turn, round after round, so that a busy moment strikes each of them."""
    kinds = {
        "ours": (on_meta, lambda model: load(model, renamed, MAPPING, assign=True)),
        "by hand": (on_meta, lambda model: by_hand(model, renamed)),
        "ours, model made": (lambda: None, lambda _: loaded(on_meta(), renamed)),
        "from_pretrained": (lambda: None, lambda _: pretrained(plain)),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for round_ in range(ROUNDS):
        # each comes after each of the others in turn: what the one before left in the caches is not the same for all
        turn = round_ % len(kinds)
        for kind, (prepare, act) in [*kinds.items()][turn:] + [*kinds.items()][:turn]:
            made = model = None  # what the last one mapped goes before the clock runs
            model = prepare()
            start = time.perf_counter()
            made = act(model)
            use(made if kind in ("ours, model made", "from_pretrained") else model)
            times[kind].append(time.perf_counter() - start)
    for ours, theirs, name in (
        ("ours", "by hand", "load_file + load_state_dict(assign=True)"),
        ("ours, model made", "from_pretrained", "from_pretrained, nothing to rename"),
    ):
        ratios = sorted(a / b for a, b in zip(times[ours], times[theirs], strict=True))
        said = f"{name}: {statistics.median(times[theirs]):.3f} s, ratio {statistics.median(ratios):.2f}"
        label = "load, renamed" if ours == "ours" else "meta model + load"
        yield Figure(
            f"{label}, {what}", statistics.median(times[ours]), "s", f"{said} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def written(base: Path) -> tuple[Path, Path]:
    """A model of transformers in shards, under other names and under its own.

    Both by one writer: how fast mapped pages come depends on how they got into the cache.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    made = base / "made"
    LlamaForCausalLM(LlamaConfig(**SIZES)).to(torch.bfloat16).save_pretrained(made, max_shard_size="500MB")
    return rewritten(made, base / "renamed", other_name), rewritten(made, base / "plain", str)


def rewritten(made: Path, folder: Path, name: Callable[[str], str]) -> Path:
    """The same shards, with other keys."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    index = json.loads((made / "model.safetensors.index.json").read_text())
    for shard in set(index["weight_map"].values()):
        tensors = {name(key): tensor for key, tensor in load_file(made / shard).items()}
        save_file(tensors, folder / shard, metadata={"format": "pt"})
    index["weight_map"] = {name(key): shard for key, shard in index["weight_map"].items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_bytes((made / "config.json").read_bytes())
    return folder


def other_name(key: str) -> str:
    return f"net.{key.replace('self_attn', 'attn')}"


def on_meta() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    # what the model computes itself is in no checkpoint
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    return model


def loaded(model: Any, folder: Path) -> Any:
    load(model, folder, MAPPING, assign=True)
    return model


def by_hand(model: Any, folder: Path) -> None:
    """The few lines that one writes without treealign; they check nothing."""
    from safetensors.torch import load_file

    index = json.loads((folder / "model.safetensors.index.json").read_text())
    state: dict[str, Any] = {}
    for shard in sorted(set(index["weight_map"].values())):
        for key, tensor in load_file(folder / shard).items():
            state[key.removeprefix("net.").replace(".attn.", ".self_attn.")] = tensor
    model.load_state_dict(state, assign=True)


def pretrained(folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder)


def read_all(model: Any) -> int:
    import torch

    # as fast as memory gives them, so that reading hides nothing
    return sum(int(tensor.detach().view(-1).view(torch.int64).sum()) for tensor in model.parameters())
