"""Every entry of transformers' registry that converts tensors, read as a conversion mapping and held to transformers.

For each entry a small model with random numbers is written under the names and in the layout that transformers' own
rules make of it in reverse. All rules by which it is loaded are read for that file (`read_mapping`). Then the same file
is loaded twice: by `from_pretrained`, and by `treealign.load` with the mapping read. Every tensor has to be the same,
byte for byte, and `treealign.save` has to give the file back. At last what was read is emitted for transformers, which
`emit` loads and saves before it hands it out: it has to do as the entry does.

python scripts/read_registry.py                     all entries with converters
python scripts/read_registry.py --every             all entries
python scripts/read_registry.py --only qwen2_moe    those whose name contains it
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from replay_registry import FaultError, drawn, write_published
from tiny_models import tiny_config

import treealign
from treealign.dialects.lint_checks.registered_models import classes_of
from treealign.dialects.reading import read_mapping
from treealign.dialects.transformers.entries import existing
from treealign.errors import TreealignError


@dataclass
class Outcome:
    """What became of one entry.

    Attributes
    ----------
    entry, model : str
        The entry, and the class that it was read for.
    converters, read : int
        How many converters of that class touch the file, and how many of them were read.
    unread : list of str
        The others, and renamings that could not be read, with the reason.
    fault : str
        Why the entry does not pass; empty where it does.
    emitted : str
        Why what was read is not emitted; empty where it is.
    """

    entry: str
    model: str = ""
    converters: int = 0
    read: int = 0
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fault: str = ""
    emitted: str = ""


def entries(every: bool = False) -> list[str]:
    """The entries of the registry that convert tensors, or all of them."""
    from transformers.conversion_mapping import _build_checkpoint_conversion_mapping

    table = _build_checkpoint_conversion_mapping()
    return [name for name in table if every or any(map(_converts, table[name]))]


def _converts(rule: Any) -> bool:
    return hasattr(rule, "operations")


# what a small config may have to say for a converter of its entry to have something to do
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"mlp_layer_types": ["dense", "sparse"]},
    {"mlp_only_layers": []},
    {"first_k_dense_replace": 1},
    {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    {"use_swiglu_ffn": True},
)


def check(entry: str) -> Outcome:
    """Read one entry, for the first of its classes that it converts something of."""
    outcome = Outcome(entry, fault="no class of its own")
    for kind in _kinds(entry):
        config = _config(kind, entry)
        if not isinstance(config, FaultError):
            return _checked(entry, kind, config)
        outcome = Outcome(entry, kind.__name__, fault=str(config))
    return outcome


def _kinds(entry: str) -> Iterator[Any]:
    """Those with the most to load first."""
    wanted = ("ConditionalGeneration", "CausalLM", "MaskedLM", "PreTraining")
    yield from sorted(classes_of(entry), key=lambda kind: not kind.__name__.endswith(wanted))


def _config(kind: Any, entry: str) -> Any:
    """A small config with which a converter of the entry, if it has any, has something to do; or why there is none."""
    failure: Exception | None = None
    for settings in SETTINGS:
        try:
            config = tiny_config(kind, settings)
            if _touched(kind, config, entry):
                return config
        except Exception as error:
            failure = failure or error
    said = "no small model has what it converts" if failure is None else f"no small model: {failure}"
    return FaultError(said.partition("\n")[0])


def _touched(kind: Any, config: Any, entry: str) -> bool:
    import torch

    rules = [rule for rule in existing(entry) or () if _converts(rule)]
    with torch.device("meta"):
        model = kind(copy.deepcopy(config))
    back = [rule.reverse_transform() for rule in rules]
    return not rules or any(rule.rename_source_key(key)[1] for rule in back for key in model.state_dict())


def _checked(entry: str, kind: Any, config: Any) -> Outcome:
    outcome = Outcome(entry, kind.__name__)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _check(outcome, kind, config, Path(folder))
    except FaultError as fault:
        outcome.fault = str(fault)
    except TreealignError as error:
        outcome.fault = "; ".join([error.what, *error.facts[:2]])
    return outcome


def _check(outcome: Outcome, kind: Any, config: Any, folder: Path) -> None:
    model = drawn(kind, config)
    write_published(model, folder / "given")
    file = folder / "given" / "model.safetensors"
    reading = read_mapping(model, checkpoint=file)
    used = [rule for rule in reading.rules if _converts(rule) and not any(rule is idle for idle in reading.idle)]
    outcome.converters, outcome.read = len(used), sum(_converts(rule) for rule, _ in reading.read)
    outcome.unread = [f"{rule}: {reason}" for rule, reason in reading.unread]
    outcome.notes = [f"{rule}: {text}" for rule, text in reading.notes]
    if reading.unread:
        raise FaultError(reading.unread[0][1])
    if reading.findings:
        raise FaultError(reading.findings[0])
    _compare(model, folder, reading.mapping)
    outcome.emitted = _emitted(reading.mapping, model, file)


def _compare(model: Any, folder: Path, mapping: Any) -> None:
    import torch

    theirs, info = type(model).from_pretrained(folder / "given", output_loading_info=True, dtype="auto")
    gaps = [f"{what}: {len(keys)}, such as {min(map(str, keys))}" for what, keys in info.items() if keys]
    if gaps:
        raise FaultError(f"transformers does not load what it saves: {gaps[0]}")
    ours = copy.deepcopy(theirs)
    with torch.no_grad():
        for tensor in ours.state_dict().values():
            tensor.zero_()
    treealign.load(ours, folder / "given", mapping, allow_lossy=True)
    state = theirs.state_dict()
    other = [key for key, tensor in ours.state_dict().items() if not torch.equal(tensor, state[key])]
    if other:
        raise FaultError(f"{len(other)} keys hold other numbers, such as {other[0]}")
    treealign.save(ours, folder / "saved")
    name = "model.safetensors"
    if (folder / "saved" / name).read_bytes() != (folder / "given" / name).read_bytes():
        raise FaultError("the file comes back otherwise")


def _emitted(mapping: Any, model: Any, file: Path) -> str:
    try:
        treealign.emit(mapping, live=True, model=model, checkpoint=file)
    except TreealignError as error:
        return "; ".join([error.what, *error.facts[:2]])
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--every", action="store_true", help="entries that only rename, too")
    parser.add_argument("--json", action="store_true", help="one line for each entry")
    options = parser.parse_args()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    start, outcomes = time.perf_counter(), list[Outcome]()
    for entry in entries(options.every):
        if options.only not in entry:
            continue
        outcomes.append(check(entry))
        gc.collect()
        _tell(outcomes[-1], options.json)
    took = time.perf_counter() - start
    counts = Counter(bool(outcome.fault) for outcome in outcomes)
    converters, read = (sum(getattr(o, name) for o in outcomes) for name in ("converters", "read"))
    print(
        f"transformers {transformers.__version__}: {counts[False]} of {len(outcomes)} entries read and right; of "
        f"{converters} converters {read} read; {sum(not (o.fault or o.emitted) for o in outcomes)} emitted again; "
        f"{took:.0f} s"
    )
    sys.exit(0)


def _tell(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(outcome)), flush=True)
        return
    for what, said in (("", outcome.fault), ("not emitted: ", outcome.emitted), *(("", n) for n in outcome.notes)):
        if said:
            print(f"{outcome.entry} ({outcome.model}): {what}{said}", flush=True)


if __name__ == "__main__":
    main()
