"""Derive how the authors of a model spell it, by running transformers' own converters of releases before 5.

    python scripts/derive_renames.py SOURCES [--only TEXT] [--write] [--pairs FILE]

SOURCES is a folder with `transformers/models`. Of a converter only the functions and tables are executed: the list of
pairs that it makes, or what it does to each key. The keys that it is given are those of the list, or those of a case of
the corpora; each is numbered row by row, so that where its rows end up says what became of it. The names that come out
are led to those of the present release by what its own registry makes of a small model, and what is no key of that is
dropped. No text of a converter is kept.

`--write` puts the entry of each family into the table of layouts; `--pairs` writes the two trees of each as a corpus,
with the correspondence that was run. Without either, prints what `suggest` makes of the two trees: how many leaves are
right, how many of these certain, how many certain and wrong, how many questions; exits 1 where anything certain is
wrong.
"""

from __future__ import annotations

import argparse
import ast
import json
import lzma
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from cases import read_cases
from derive_single_files import Asked, Pieces, traced, write
from folding_paths import alike, folded, grouped, is_weight, last_of, module, modules, roles_of
from renamed_families import FAMILIES, Family

from treealign import suggest
from treealign.tree.keytree import KeyTree

SOURCE = "transformers 4.46.3 models/{}, run on numbered rows; names of transformers 5.24.0 by its registry"
Shapes = dict[str, tuple[int, ...]]


def functions(path: Path) -> dict[str, Any]:
    """What a converter defines, without what it would import or load."""
    held: dict[str, Any] = {"__name__": path.stem, "torch": torch, "re": re}
    for node in ast.parse(path.read_text("utf-8")).body:
        try:
            exec(compile(ast.Module([node], []), str(path), "exec"), held)
        except Exception:  # an import of what is not installed, or of an older release
            continue
    return held


def today(family: Family) -> tuple[dict[str, str], Shapes, str, Any]:
    """The older name of each key of a small model to its name now, the shapes, and the prefix of its base model."""
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = getattr(transformers, family.model)(family.config())
    held, start = {}, 1
    for key, tensor in model.state_dict().items():
        held[key] = torch.arange(start, start + tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        start += tensor.numel()
    first = {tensor.flatten()[0].item(): key for key, tensor in held.items() if tensor.numel()}
    older = revert_weight_conversion(model, dict(held))
    names = {key: first[tensor.flatten()[0].item()] for key, tensor in older.items() if tensor.numel()}
    names |= {key: key for key in held if key not in names}
    return names, {key: tuple(tensor.shape) for key, tensor in held.items()}, model.base_model_prefix, model


def correspondence(sources: Path, family: Family) -> tuple[dict[str, Pieces], Shapes, dict[str, str]]:
    """What the converter makes each key of the model of, the model's shapes, and the classes of its modules."""
    names, shapes, prefix, model = today(family)
    path = sources / "transformers/models" / family.file
    held = functions(path)
    pairs = family.pairs(held, model.config) if family.pairs else []
    asked = [old for old, _ in pairs] or _keys(family)
    checkpoint = Asked(dict.fromkeys(asked), family.rows)
    state = dict(checkpoint)
    for old, new in pairs:
        if old in state:
            state[new] = state.pop(old)
    checkpoint.clear()
    checkpoint.update(state)
    made = family.run(held, checkpoint, model)
    found = traced(made, checkpoint.names)
    told = {}
    for key, pieces in found.items():
        if len(made[key]) != sum(end - start for _, start, end in pieces):
            continue  # turned
        target = next((names[k] for k in (key, f"{prefix}.{key}") if k in names), None)
        if target is not None and pieces:
            told[target] = pieces
    return told, shapes, {path: type(part).__name__ for path, part in model.named_modules()}


def _keys(family: Family) -> list[str]:
    """The keys of the case that a converter is given."""
    (case, *_) = read_cases(*family.case.split("/", 1))
    return [key for key, *_ in case.checkpoint]


class Sides(NamedTuple):
    """The leaves of the model that each of the checkpoint is made of, in order of rows, and what the two sides hold."""

    groups: dict[str, list[str]]
    checkpoint: Shapes
    model: Shapes
    classes: dict[str, str]


def sides(sources: Path, family: Family) -> Sides:
    """Run the converter, and put together what it makes of one leaf."""
    found, shapes, classes = correspondence(sources, family)
    whole: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for target, pieces in found.items():
        if len({key for key, *_ in pieces}) == 1:
            whole[pieces[0][0]].append((pieces[0][1], target))
    groups = {key: [target for _, target in sorted(parts)] for key, parts in whole.items()}
    if family.case:
        given = set(_keys(family))
        groups = {key: parts for key, parts in groups.items() if key in given}
    groups = {key: parts for key, parts in groups.items() if len({start for start, _ in whole[key]}) == len(parts)}
    made = {}
    for key, parts in groups.items():
        first = shapes[parts[0]]
        made[key] = (sum(shapes[part][0] for part in parts), *first[1:]) if len(parts) > 1 else first
    return Sides(groups, made, shapes, classes)


def case_of(sources: Path, family: Family) -> dict[str, Any]:
    """The two trees as a case of a corpus, with the correspondence."""
    groups, made, shapes, classes = sides(sources, family)
    return {
        "id": f"renamed/{family.name}",
        "source": SOURCE.format(family.file),
        "checkpoint": [[key, shape, "float32"] for key, shape in made.items()],
        "model": [[key, shape, "float32", "parameter"] for key, shape in shapes.items()],
        "modules": classes,
        "tied": {},
        "gold": [[[key], parts, "split" if len(parts) > 1 else "copy"] for key, parts in groups.items()],
        "unused_checkpoint": [],
    }


def entry_of(sources: Path, family: Family) -> dict[str, Any]:
    """The entry: what is spelled otherwise, and how the rows of wholes stand."""
    groups, _, _, classes = sides(sources, family)
    below = {key: key.removeprefix(family.above) for key in groups}
    rows = {module(below[key]): f"{told} by part" for key, parts in groups.items() if (told := roles_of(parts))}
    linear = {
        last_of(key) for key, (part, *_) in groups.items() if classes.get(module(part)) == "Linear" and is_weight(key)
    }
    names = folded(dict(modules(below[key], parts[0]) for key, parts in groups.items() if len(parts) == 1))
    return {
        "name": family.name,
        "has": list(family.marks),
        **({"lacks": list(family.lacks)} if family.lacks else {}),
        **({"numbers": list(family.numbers)} if family.numbers else {}),
        **({"anywhere": list(family.anywhere)} if family.anywhere else {}),
        **({"rows": alike(rows)} if rows else {}),
        **({"rotary": family.rotary} if family.rotary else {}),
        **({"axes": {f"**.{last}": "outputs first" for last in grouped(linear)}} if linear else {}),
        "names": {mine: theirs for mine, theirs in names.items() if mine != theirs},
        "source": SOURCE.format(family.file),
        "checked": "run",
    }


def checked(case: Mapping[str, Any]) -> SimpleNamespace:
    """What `suggest` makes of a case by its keys."""
    given = KeyTree.from_leaves([tuple(leaf) for leaf in case["checkpoint"]])
    model = KeyTree.from_leaves([tuple(leaf) for leaf in case["model"]], modules=case["modules"], ordered=True)
    suggestion = suggest(given, model)
    by = {key: match for match in suggestion.matches for key in match.model}
    told = SimpleNamespace(groups=len(case["gold"]), right=0, sure=0, wrong=0, asked=len(suggestion.questions))
    for (key,), parts, _ in case["gold"]:
        matches = [by.get(part) for part in parts]
        right = all(match is not None and set(match.checkpoint) == {key} for match in matches)
        told.right += right
        told.sure += right and all(match.certain for match in matches)
        told.wrong += any(match is not None and match.certain and set(match.checkpoint) != {key} for match in matches)
    return told


def runs(sources: Path, family: Family) -> bool:
    """Whether the converter runs here; says what it lacks where it does not."""
    try:
        return bool(sides(sources, family).groups)
    except Exception as error:  # whatever a converter of an older release raises
        print(f"{family.name:40} left out: {type(error).__name__} {str(error)[:100]}", file=sys.stderr, flush=True)
        return False


def main() -> int:
    """Print what comes of each family, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--only", default="", help="families whose names contain this")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--pairs", type=Path)
    given, wrong = parser.parse_args(), 0
    families = [family for family in FAMILIES if given.only in family.name and runs(given.sources, family)]
    if given.write:
        write([entry_of(given.sources, family) for family in families])
        return 0
    cases = [case_of(given.sources, family) for family in families]
    if given.pairs:
        with lzma.open(given.pairs, "wt", encoding="utf-8") as file:
            file.write("".join(json.dumps(case) + "\n" for case in cases))
        return 0
    for case in cases:
        told = checked(case)
        wrong += told.wrong
        of = f"{told.groups} groups of {len(case['model'])} keys: {told.right} right, {told.sure} certain"
        print(f"{case['id']:40} {of}, {told.wrong} certain and wrong, {told.asked} questions", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
