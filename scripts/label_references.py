"""Label references by the code of those who read them: writes data/references/untuned.yaml.

python scripts/label_references.py

What people write stands here, by setting; which tensors it means in the old and in the new tree of a model is asked of
the reader itself (transformers' `should_convert_module`, peft's `check_target_module_exists`, Python's `re`, `fnmatch`
and texts), and what the update did to names is stated by hand. Nothing of treealign is asked, and nothing in it was
changed after these labels for what they showed, but what the table in treealign/changes says.
"""

from __future__ import annotations

import fnmatch
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

DATA = Path(__file__).parent.parent / "data"
Rows = list[str]
Matches = Callable[[str, str], bool]

LLAVA = [
    ("language_model.lm_head", "lm_head"),
    ("language_model.model", "model.language_model"),
    ("vision_tower.vision_model", "model.vision_tower"),
    ("vision_tower", "model.vision_tower"),
    ("multi_modal_projector", "model.multi_modal_projector"),
    ("image_newline", "model.image_newline"),
    ("video_tower.vision_model", "model.video_tower"),
    ("video_tower", "model.video_tower"),
    ("image_tower.vision_model", "model.image_tower"),
    ("image_tower", "model.image_tower"),
]
# what the updates did: the start of a name in the old tree, and in the new one; the longest counts
RENAMED = {
    "paligemma": LLAVA,
    "vipllava": LLAVA,
    "llava_next": LLAVA,
    "video_llava": LLAVA,
    "qwen2_vl": [("model", "model.language_model"), ("visual", "model.visual")],
    "siglip_vision": [("vision_model.", ""), ("vision_model", "")],
    "qwen2_moe": [],
}


def renamed(pair: str, name: str) -> str | None:
    """The name in the new tree; None for a module that is gone."""
    if pair == "qwen2_moe":
        fused = re.sub(r"experts\.\d+\.(gate|up)_proj\.weight", "experts.gate_up_proj", name)
        fused = re.sub(r"experts\.\d+\.down_proj\.weight", "experts.down_proj", fused)
        return None if re.search(r"experts\.\d+", fused) else fused
    if name in ("language_model", "vision_tower.vision_model") and pair != "qwen2_vl":
        return None if name == "language_model" else renamed(pair, name.rpartition(".")[0])
    for old, new in sorted(RENAMED[pair], key=lambda one: -len(one[0])):
        if name == old or name.startswith(old if old.endswith(".") else f"{old}."):
            return (new + name.removeprefix(old)) or None
    return name


def skipped(text: str, name: str) -> bool:
    from transformers.quantizers.quantizers_utils import should_convert_module

    return not should_convert_module(name, [text])


def adapted(text: str, name: str) -> bool:
    from peft.tuners.tuners_utils import check_target_module_exists

    plain = re.fullmatch(r"[\w.]+", text)
    config = {"target_modules": [text] if plain else text, "exclude_modules": None}
    found = check_target_module_exists(SimpleNamespace(**config, layers_to_transform=None, layers_pattern=None), name)
    return bool(found)


def ignored(text: str, name: str) -> bool:
    """compressed-tensors' `match_name`."""
    return bool(re.match(text.removeprefix("re:"), name)) if text.startswith("re:") else text == name


# reader: which names it is asked about, and what it finds
READERS: dict[str, tuple[str, Matches]] = {
    "skip": ("layers", skipped),
    "ignore": ("layers", ignored),
    "peft": ("modules", adapted),
    "glob": ("layers", lambda text, name: fnmatch.fnmatch(name, text)),
    "path": ("modules", lambda text, name: name == text or name.startswith(f"{text}.")),
    "contains": ("keys", lambda text, name: text in name),
    "startswith": ("keys", lambda text, name: name.startswith(text)),
    "endswith": ("keys", lambda text, name: name.endswith(text)),
    "search": ("keys", lambda text, name: bool(re.search(text, name))),
    "match": ("keys", lambda text, name: bool(re.match(text, name))),
    "exact": ("all", lambda text, name: text == name),
    "class": ("classes", lambda text, name: text == name),
}


def as_json(path: str, items: Rows) -> tuple[str, str]:
    value: Any = items
    for name in path.split()[::-1]:
        value = {name: value}
    return "config.json", json.dumps(value, indent=2) + "\n"


def as_text(path: str, items: Rows) -> tuple[str, str]:
    return "config.json", json.dumps({path: items[0]}, indent=2) + "\n"


def as_yaml(setting: str, items: Rows) -> tuple[str, str]:
    return "recipe.yaml", yaml.safe_dump({"stage": {"modifier": {setting: items}}}, sort_keys=False)


def as_map(setting: str, items: Rows) -> tuple[str, str]:
    return "run.yml", yaml.safe_dump({setting: dict.fromkeys(items, 0)}, sort_keys=False)


def as_toml(setting: str, items: Rows) -> tuple[str, str]:
    lines = ["[job]", "name = 'a run'", "", "[model]", f"{setting} = [", *(f"  {json.dumps(one)}," for one in items)]
    return "train.toml", "\n".join([*lines, "]"]) + "\n"


def as_loop(condition: str, items: Rows) -> tuple[str, str]:
    """A loop over the parameters of a model, a line a text."""
    lines = ["import re", "", "def freeze(model):", "    for name, parameter in model.named_parameters():"]
    for one in items:
        lines += [f"        if {condition.format(text=quoted(one))}:", "            parameter.requires_grad_(False)"]
    return "freeze.py", "\n".join(lines) + "\n"


def as_notebook(condition: str, items: Rows) -> tuple[str, str]:
    code = as_loop(condition, items)[1].splitlines(keepends=True)
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Training\n"]},
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": code},
    ]
    return "train.ipynb", json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def as_calls(_: str, items: Rows) -> tuple[str, str]:
    lines = [f"        model.get_submodule({quoted(one)})," for one in items]
    return "parts.py", "\n".join(["def parts(model):", "    return [", *lines, "    ]"]) + "\n"


def quoted(text: str) -> str:
    return f'r"{text}"' if "\\" in text else json.dumps(text)


FORMS = {
    "json": as_json,
    "text": as_text,
    "yaml": as_yaml,
    "map": as_map,
    "toml": as_toml,
    "loop": as_loop,
    "notebook": as_notebook,
    "calls": as_calls,
}


def names_of(tree: dict[str, Any]) -> dict[str, list[str]]:
    keys = [row[0] for row in tree["leaves"]]
    modules = [path for path in tree["modules"] if path]
    layers = sorted({key.rpartition(".")[0] for key in keys if "." in key})
    classes = sorted(set(tree["modules"].values()))
    return {"keys": keys, "modules": modules, "layers": layers, "all": [*keys, *modules], "classes": classes}


def label(pair: str, reader: str, text: str, sides: list[dict[str, list[str]]]) -> tuple[str, str | None]:
    """The verdict, and the new spelling where it is a name and the whole of one."""
    kind, matches = READERS[reader]
    before, after = ([name for name in side[kind] if matches(text, name)] for side in sides)
    if not before:
        return "lookalike", None
    if kind == "classes":
        return "holds" if after else "stale", None
    meant = {new for name in before if (new := renamed(pair, name)) is not None}
    there = set(sides[1][kind])
    counterparts = {new for name in sides[0][kind] if (new := renamed(pair, name)) is not None}
    if set(after) & counterparts == meant & there and meant:
        return "holds", None
    verdict = "other" if set(after) & counterparts else "stale"
    whole = text in sides[0]["all"] and reader in ("exact", "path", "ignore")
    return verdict, renamed(pair, text) if whole and verdict == "stale" else None


def labelled(case: dict[str, Any], sides: list[dict[str, list[str]]]) -> dict[str, Any]:
    """The file of a case, with a label for each text in it, by the line in which it stands."""
    form, _, setting = case["form"].partition(" ")
    name, text = FORMS[form](setting, case["written"])
    lines, labels, at = text.splitlines(), [], 0
    for item in case["written"]:
        shown = item if name.endswith((".py", ".yaml", ".yml")) else json.dumps(item)[1:-1]
        at = next(n for n in range(at, len(lines)) if shown in lines[n])
        labels.append([at + 1, *label(case["pair"], case["reader"], item, sides)])
        at += 1
    return {"pair": case["pair"], "kind": case["kind"], "file": name, "text": text, "labels": labels}


def main() -> None:
    trees = {}
    with lzma.open(DATA / "version-pairs.jsonl.xz", "rt") as file:
        for line in file:
            one = json.loads(line)
            trees[one["name"]] = [names_of(one["old"]), names_of(one["new"])]
    written = yaml.safe_load((DATA / "references" / "written.yaml").read_text(encoding="utf-8"))
    made = [labelled(case, trees[case["pair"]]) for case in written]
    path = DATA / "references" / "untuned.yaml"
    text = yaml.safe_dump(made, sort_keys=False, width=120)
    path.write_text(f"# made by scripts/label_references.py\n{text}", encoding="utf-8")
    count = [row[1] for case in made for row in case["labels"]]
    print(len(count), {verdict: count.count(verdict) for verdict in set(count)})


if __name__ == "__main__":
    main()
