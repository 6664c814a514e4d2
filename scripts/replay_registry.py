"""Every entry of transformers' registry, found again: hidden, suggested from the files, emitted, registered, used.

For each class of the corpus a small model with random numbers is written twice: under its own names, and under those
that its hand-written entries make of them in reverse. Then the registry forgets all entries, `suggest` sees the files,
`emit` writes source, the source is run, and `from_pretrained` and `save_pretrained` do the rest alone. A class passes
if nothing is missing or unexpected, every number is where it was, and the file comes back byte for byte.

What names and shapes cannot settle, such as the order of rotary rows, `suggest` lists as ambiguous. Where just that
came out wrong, the class is replayed with the numbers of the model at hand, as a porter has them (`values=True`); the
table says which classes needed it.

With ``--write``, all that was emitted becomes one file, a conversion mapping generated from trees, and the rules in it
are counted against those that are written by hand; with ``--with``, every class is loaded and saved by that file alone.

python scripts/replay_registry.py                    all classes
python scripts/replay_registry.py --sample 30        every ninth or so, as the tests do
python scripts/replay_registry.py --only Llava       those whose name contains it
python scripts/replay_registry.py --write made.py    and keep what was emitted
python scripts/replay_registry.py --with made.py     use it
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cases import read_cases
from tiny_models import model_class, tiny_config

BY_VALUES = "pass by values"
LISTED = "all listed as ambiguous"


class FaultError(Exception):
    """Why a class does not pass."""


class Replayed(NamedTuple):
    """How a class passes, or why not; what was emitted for it; how many rules that are, and how many by hand."""

    result: str
    text: str = ""
    rules: int = 0
    by_hand: int = 0


def class_names() -> list[str]:
    """The classes of the corpus, each once."""
    return list(dict.fromkeys(case.name.split("/")[1] for case in read_cases("transformers")))


def sample(count: int) -> list[str]:
    """A fixed sample, spread over all."""
    names = class_names()
    return names[:: max(1, len(names) // count)][:count]


def replay(name: str) -> str:
    """Replay one class; gives ``"pass"``, how it passes, or the reason why not."""
    return replayed(name).result


def replayed(name: str, text: str = "") -> Replayed:
    """Replay one class, by emitted source where that is given."""
    found = _replayed(name, text, values=False)
    if not found.result.endswith(LISTED):
        return found
    settled = _replayed(name, text, values=True)
    if settled.result == "pass":
        return settled._replace(result=BY_VALUES)
    return found._replace(result=f"{found.result}; with values: {settled.result}")


def _replayed(name: str, text: str, values: bool) -> Replayed:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _replay(name, Path(folder), text, values)
    except FaultError as fault:
        return Replayed(str(fault))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).splitlines()[0] if str(error) else ""
        return Replayed(f"{type(error).__name__}: {said} ({where.name})")


def _replay(name: str, folder: Path, given: str, values: bool) -> Replayed:
    import torch

    model = built(name)
    numbers = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    write_published(model, folder / "published")
    by_hand = _rule_count(model)
    text, doubted = (given, set[str]()) if given else _emitted(model, folder / "published", values)
    with _forgetful():
        exec(compile(text, "<emitted>", "exec"), {"__name__": "emitted"})
        rules = _rule_count(model)
        loaded, info = _loaded(type(model), folder / "published")
        _refuse_gaps(info)
        loaded.save_pretrained(folder / "again")
    other = [k for k, v in loaded.state_dict().items() if k in numbers and not torch.equal(v, numbers[k])]
    if other:
        _refuse_own_change(model, folder / "own", other)
        listed = LISTED if doubted.issuperset(other) else f"{len({*other} - doubted)} not listed as ambiguous"
        raise FaultError(f"suggestion: {len(other)} keys hold other numbers, such as {other[0]}, {listed}")
    files = [(folder / side / "model.safetensors").read_bytes() for side in ("published", "again")]
    if files[0] != files[1]:
        raise FaultError("the file comes back otherwise")
    return Replayed("pass", text, rules, by_hand)


def _rule_count(model: Any) -> int:
    from transformers.conversion_mapping import get_model_conversion_mapping

    return len(get_model_conversion_mapping(model, add_legacy=False))


def together(texts: Iterable[str]) -> str:
    """Emitted sources as one file: what they import and define once, each entry once."""
    imports, entries = dict[str, set[str]](), dict[str, str]()
    for text in texts:
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom):
                imports.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                entries.setdefault(_name_of(node), str(ast.get_source_segment(text, node)))
    lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in imports.items()]
    return "\n\n".join(['"""Conversion mappings generated from trees."""', "\n".join(lines), *entries.values()]) + "\n"


def _name_of(node: ast.stmt) -> str:
    """Under what name source registers an entry, or what function it defines."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.args[0])
    return ast.unparse(node).partition("(")[0]


def _refuse_own_change(model: Any, folder: Path, keys: list[str]) -> None:
    """Tell what transformers does to numbers by itself: no rule, and the names of the model on both sides."""
    import torch

    model._weight_conversions = []
    model.save_pretrained(folder)
    del model._weight_conversions
    with _forgetful():
        loaded, _ = _loaded(type(model), folder)
    before, after = model.state_dict(), loaded.state_dict()
    if not any(torch.equal(before[key], after[key]) for key in keys):
        raise FaultError(f"transformers changes {keys[0]} under the model's own names, with no rule at all")


def _loaded(kind: Any, folder: Path) -> Any:
    """The model and what transformers reports; what a class reads besides its weights is left to it."""
    from transformers import PreTrainedModel

    load = PreTrainedModel.from_pretrained.__func__
    return load(kind, folder, output_loading_info=True, dtype="auto")


def built(name: str) -> Any:
    """A small model of a class, with random numbers."""
    try:
        kind = model_class(name)
        return drawn(kind, tiny_config(kind))
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else ""
        raise FaultError(f"no small model: {type(error).__name__}: {said}") from error


def drawn(kind: Any, config: Any) -> Any:
    """A model of a config, with random numbers."""
    import torch

    torch.manual_seed(0)
    model, numbers = kind(config).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=numbers))
    return model


def write_published(model: Any, folder: Path) -> None:
    """Write a model under the names that all hand-written rules make of the model's in reverse."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False)
    try:
        model.save_pretrained(folder)
    except Exception as error:
        raise FaultError(f"its own entry does not save: {type(error).__name__}: {error}") from error
    if not (folder / "model.safetensors").exists():
        raise FaultError("it is saved in several files")
    del model._weight_conversions


def _emitted(model: Any, folder: Path, values: bool) -> tuple[str, set[str]]:
    """Source of the entry, and the keys of the model that the suggestion lists as ambiguous."""
    import treealign
    from treealign.errors import TreealignError

    found = treealign.suggest(folder / "model.safetensors", model, values=values)
    open_keys = found.missing_keys or found.unexpected_keys or found.mismatched_keys
    if open_keys:
        raise FaultError(f"suggestion: {len(open_keys)} keys are left over, such as {open_keys[0]}")
    try:
        with _forgetful():
            # its guesses are judged below, by the keys that the suggestion lists as ambiguous
            rules = found.mapping.accept()
            text = str(treealign.emit(rules, model=model, checkpoint=folder / "model.safetensors"))
    except TreealignError as error:
        raise FaultError(f"emit: {'; '.join([error.what, *error.facts[:2]])}") from error
    return text, {key for one in found.ambiguous for key in one.model}


def _forgetful() -> Any:
    """A registry without entries but for the legacy names; afterwards it is as it was."""
    from contextlib import contextmanager

    from treealign.dialects.transformers.entries import registry_restored

    @contextmanager
    def empty() -> Iterator[None]:
        with registry_restored() as registry:
            for entry in registry.keys() - {"legacy"}:
                del registry[entry]
            yield

    return empty()


def _refuse_gaps(info: dict[str, Any]) -> None:
    gaps = {what: sorted(map(str, keys)) for what, keys in info.items() if keys}
    if gaps:
        what, keys = next(iter(gaps.items()))
        raise FaultError(f"{what}: {len(keys)}, such as {keys[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true", help="one line for each class")
    parser.add_argument("--write", type=Path, help="where to keep what was emitted, as one file")
    parser.add_argument("--with", type=Path, dest="made", help="such a file, in place of suggesting")
    options = parser.parse_args()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    names = [n for n in (sample(options.sample) if options.sample else class_names()) if options.only in n]
    results: dict[str, Replayed] = {}
    start, made = time.perf_counter(), options.made.read_text() if options.made else ""
    for name in names:
        results[name] = replayed(name, made)
        gc.collect()
        result = results[name].result
        if options.json:
            print(json.dumps({"class": name, "result": result}), flush=True)
        elif result != "pass":
            print(f"{name}: {result}", flush=True)
    counts = Counter(one.result for one in results.values())
    passed = counts["pass"] + counts[BY_VALUES]
    share, took = 100 * passed / max(1, len(results)), time.perf_counter() - start
    print(f"transformers {transformers.__version__}: {passed} of {len(results)} classes, {share:.1f} %, {took:.0f} s")
    print(f"by names and shapes: {counts['pass']}; by values: {counts[BY_VALUES]}")
    print(f"rules: {sum(r.rules for r in results.values())}, by hand {sum(r.by_hand for r in results.values())}")
    if options.write:
        options.write.write_text(together(one.text for one in results.values()), encoding="utf-8")
    sys.exit(0 if share >= 95 else 1)


if __name__ == "__main__":
    main()
