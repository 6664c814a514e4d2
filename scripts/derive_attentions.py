"""Derive which attentions of transformers turn the rows of q and k by position, and how, by running each.

    python scripts/derive_attentions.py [--only TEXT] [--write]

Every model class is built small; of each class of attention with q and k apart, one is run with scaled rows (see
`derive_layouts`). An attention on which the outputs do not depend, or that cannot be run so, says nothing. One class
name that says two things in two families says nothing either. `--write` puts the names into the table of layouts.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import signal
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from derive_layouts import CLOSE, FAR, WAYS, Attention, change, factors, outputs, parameters
from tiny_models import tiny_config

from treealign.align.knowledge import entries

TABLE = Path(entries.__file__).parent / "layouts.json"
ENTRIES = {"none": "attention that nothing turns", "half split": "halves turned", "interleaved": "neighbours turned"}
PAIRS = (("q_proj", "k_proj"), ("query", "key"), ("q", "k"), ("q_lin", "k_lin"), ("query_proj", "key_proj"))
ROTARY = re.compile("rotary|rope")  # some layers of such a class may turn rows where this one does not
SECONDS = 15  # for one model: the rest is left out


def attentions(model: torch.nn.Module) -> Iterator[tuple[str, str, str, str]]:
    """One attention of each class: its class and path, and what q and k are called in it."""
    seen = set()
    for path, module in model.named_modules():
        name = type(module).__name__
        for q, k in PAIRS:
            both = getattr(module, q, None), getattr(module, k, None)
            if name not in seen and path and all(isinstance(m, torch.nn.Linear) for m in both):
                seen.add(name)
                yield name, path, q, k


def size_of(module: torch.nn.Module, config: Any, rows: int) -> int:
    """Rows of a head, as the module or its config says."""
    for name in ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "dim_head"):
        if isinstance(size := getattr(module, name, None), int) and size and rows % size == 0:
            return size
    for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"):
        if isinstance(heads := getattr(module, name, None), int) and heads and rows % heads == 0:
            return rows // heads
    heads = getattr(config, "num_attention_heads", None)
    return rows // heads if isinstance(heads, int) and heads and rows % heads == 0 else 0


def scaled(model: torch.nn.Module, path: str, parts: tuple[str, str], a: Attention, way: str, only_q: bool) -> Any:
    """Scale q and k against each other as is lost where rows are paired this way; gives back what undoes it.

    Where norms of the heads stand behind q and k, these are scaled, not the rows.
    """
    c, kept = factors(way, a), []
    module = model.get_submodule(path)
    norms = [getattr(module, f"{part}_norm", None) for part in "qk"]
    for n, part in enumerate(parts[:1] if only_q else parts):
        norm = norms[n]
        if norm is not None and getattr(norm, "weight", None) is not None and norm.weight.shape == (a.size,):
            kept.append((norm.weight.data, norm.weight.data.clone()))
            norm.weight.data *= c[0] if n == 0 else 1 / c[0]
            continue
        for p in parameters(model, f"{path}.{part}"):
            kept.append((p, p.clone()))
            factor = c.repeat_interleave(a.heads // a.groups, 0) if n == 0 else 1 / c
            p.mul_(factor.reshape((-1,) + (1,) * (p.dim() - 1)).to(p.dtype))
    return lambda: [p.copy_(old) for p, old in reversed(kept)] and None


def way_of(model: torch.nn.Module, inputs: Any, path: str, parts: tuple[str, str], size: int) -> str:
    """How position turns the rows of this attention; empty where that cannot be told."""
    q, k = (model.get_submodule(f"{path}.{part}").weight.shape[0] for part in parts)
    if not size or q % size or k % size or (q // size) % (k // size):
        return ""
    a = Attention((f"{path}.{parts[0]}", f"{path}.{parts[1]}"), q // size, k // size, size)
    before = outputs(model, inputs)
    undo = scaled(model, path, parts, a, "none", only_q=True)
    moved = change(before, outputs(model, inputs)) > FAR
    undo()
    ways = []
    for way in WAYS if moved else ():
        undo = scaled(model, path, parts, a, way, only_q=False)
        ways += [way] if change(before, outputs(model, inputs)) < CLOSE else []
        undo()
    return ways[0] if "none" in ways or len(ways) == 1 else ""  # in heads of two rows halves are neighbours


def _stop(*_: Any) -> None:
    raise TimeoutError


def ways_of(kind: Any) -> dict[str, str]:
    """The attentions of one model class, each with how position turns its rows."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    config._attn_implementation = "eager"
    with torch.no_grad():
        model = kind(config).double().eval()
        for p in model.parameters():  # biases and tables that begin at zero tell nothing
            p.copy_(torch.randn_like(p) * 0.2)
        inputs = {name: _inputs(x) for name, x in model.dummy_inputs.items()}
        found = {}
        for name, path, q, k in attentions(model):
            module = model.get_submodule(path)
            size = size_of(module, config, module.get_submodule(q).weight.shape[0])
            way = way_of(model, inputs, path, (q, k), size)
            found[name] = "" if way == "none" and ROTARY.search(inspect.getsource(type(module))) else way
    return found


def _inputs(x: Any) -> Any:
    return x.double() if torch.is_floating_point(x) else x[:, :7] if x.dim() == 2 else x


def kinds(only: str) -> Iterator[Any]:
    """The base class of each family."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    for config in sorted(MODEL_MAPPING.keys(), key=lambda c: c.__name__):
        if only.lower() in config.__name__.lower():
            kind = MODEL_MAPPING[config]
            yield kind[0] if isinstance(kind, tuple) else kind


def main() -> None:
    """Run all families; print a line for each class of attention."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    given, found = parser.parse_args(), defaultdict(set)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    for kind in kinds(given.only):
        signal.alarm(SECONDS)
        try:
            for name, way in ways_of(kind).items():
                print(f"{kind.__name__:40} {name:40} {way or 'cannot be told'}", flush=True)
                found[name].add(way)
        except Exception as error:
            print(f"{kind.__name__:40} left out: {type(error).__name__} {str(error)[:60]!r}", flush=True)
        signal.alarm(0)
    if given.write:
        write({name: way for name, ways in found.items() for way in ways if len(ways) == 1 and way})


def write(found: Mapping[str, str]) -> None:
    """Put the classes into the entries of the table."""
    lines = TABLE.read_text("utf-8").splitlines(keepends=True)
    for at, line in enumerate(lines):
        row = json.loads(line.strip().rstrip(",")) if line.strip().startswith('{"name"') else {}
        way = next((way for way, name in ENTRIES.items() if row.get("name") == f"transformers, {name}"), None)
        if way is not None:
            kept = {name for name in row["classes"] if found.get(name, way) == way}
            row["classes"] = sorted(kept | {name for name, said in found.items() if said == way})
            lines[at] = f"    {json.dumps(row)}{',' if line.rstrip().endswith(',') else ''}\n"
    TABLE.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
