"""How well `treealign audit --scan` finds stale references: recall and precision on those labelled in data/references.

python scripts/references.py
"""

from __future__ import annotations

import json
import lzma
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import treealign
from treealign import KeyTree
from treealign.changes.auditing import Audit, Reference
from treealign.changes.results import NOTHING, OTHER

DATA = Path(__file__).parent.parent / "data"
VERDICTS = {NOTHING: "stale", OTHER: "other"}


class Label(NamedTuple):
    """What a person says of one reference in a line."""

    line: int
    verdict: str
    new: str | None


class Score(NamedTuple):
    """Counts over all cases; `faults` says what went wrong."""

    labelled: int
    stale: int
    found: int
    reported: int
    right: int
    spelled: int
    spelled_right: int
    faults: tuple[str, ...]

    @property
    def recall(self) -> float:
        """Of the references that lost their meaning, those reported in their line with the right status."""
        return self.found / self.stale

    @property
    def precision(self) -> float:
        """Of the reported references, those that did lose their meaning."""
        return self.right / self.reported


# -- the pairs of trees


def repeated(form: str, count: int, leaves: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {form.format(i) + name: shape for i in range(count) for name, shape in leaves.items()}


DECODER = {
    **{f"self_attn.{part}_proj.weight": (16 if part in "qo" else 8, 16) for part in "qkvo"},
    **{f"mlp.{part}_proj.weight": (48, 16) for part in ("gate", "up")},
    "mlp.down_proj.weight": (16, 48),
    "input_layernorm.weight": (16,),
    "post_attention_layernorm.weight": (16,),
}
BLOCK = {
    "attn.qkv.weight": (36, 12),
    "attn.proj.weight": (12, 12),
    "mlp.fc1.weight": (40, 12),
    "mlp.fc2.weight": (12, 40),
}


def qwen(text: str, visual: str) -> dict[str, tuple[int, ...]]:
    return {
        f"{visual}patch_embed.proj.weight": (12, 3, 2, 2),
        f"{visual}merger.mlp.0.weight": (16, 24),
        **repeated(visual + "blocks.{}.", 2, BLOCK),
        f"{text}embed_tokens.weight": (99, 16),
        f"{text}norm.weight": (16,),
        "lm_head.weight": (99, 16),
        **repeated(text + "layers.{}.", 4, DECODER),
    }


def mixtral(fused: bool) -> dict[str, tuple[int, ...]]:
    leaves = {name: shape for name, shape in DECODER.items() if not name.startswith("mlp")}
    if fused:
        leaves |= {
            "mlp.gate.weight": (4, 16),
            "mlp.experts.gate_up_proj": (4, 96, 16),
            "mlp.experts.down_proj": (4, 16, 48),
        }
    else:
        leaves |= {"block_sparse_moe.gate.weight": (4, 16)}
        for part, shape in (("w1", (48, 16)), ("w3", (48, 16)), ("w2", (16, 48))):
            leaves |= repeated("block_sparse_moe.experts.{}.", 4, {f"{part}.weight": shape})
    return {
        "model.embed_tokens.weight": (99, 16),
        **repeated("model.layers.{}.", 2, leaves),
        "lm_head.weight": (98, 16),
    }


def bert(scale: str, shift: str) -> dict[str, tuple[int, ...]]:
    norm = {f"LayerNorm.{scale}": (16,), f"LayerNorm.{shift}": (16,)}
    layer = {
        "attention.self.query.weight": (16, 16),
        "attention.self.query.bias": (16,),
        "intermediate.dense.weight": (40, 16),
    }
    layer |= {f"attention.output.{name}": shape for name, shape in norm.items()}
    embeddings = {f"embeddings.{name}": shape for name, shape in norm.items()}
    return {
        "embeddings.word_embeddings.weight": (99, 16),
        **embeddings,
        **repeated("encoder.layer.{}.", 3, layer),
        "pooler.dense.weight": (16, 17),
    }


def tree(leaves: dict[str, tuple[int, ...]], root: str) -> KeyTree:
    rows = [(key, shape, "float32") for key, shape in leaves.items()]
    return KeyTree.from_leaves(rows, modules={"": root}, ordered=True)


def shifted(first: int) -> dict[str, tuple[int, ...]]:
    return {"trunk.head.weight": (9, 3), **{f"trunk.norm{i + first}.weight": (3 + 2 * i,) for i in range(3)}}


def version_pair(name: str) -> tuple[KeyTree, KeyTree]:
    """A model as two releases of transformers build it."""
    with lzma.open(DATA / "version-pairs.jsonl.xz", "rt") as file:
        found = next(one for one in map(json.loads, file) if one["name"] == name)
    old, new = (
        KeyTree.from_leaves(found[side]["leaves"], found[side]["modules"], found[side]["tied"], ordered=True)
        for side in ("old", "new")
    )
    return old, new


@cache
def pair(name: str) -> Audit:
    """The audit of a pair of trees."""
    llava = DATA / "llava-1.5-7b"
    new = llava / "transformers-5.24.json"
    qwen_class, mixtral_class = "Qwen2VLForConditionalGeneration", "MixtralForCausalLM"
    sides: dict[str, tuple[Any, Any]] = {
        "llava": (llava / "transformers-4.52.json", new),
        "published": (llava / "checkpoint.json", new),
        "qwen": (
            tree(qwen("model.", "visual."), qwen_class),
            tree(qwen("model.language_model.", "model.visual."), qwen_class),
        ),
        "mixtral": (tree(mixtral(False), mixtral_class), tree(mixtral(True), mixtral_class)),
        "bert": (tree(bert("gamma", "beta"), "BertModel"), tree(bert("weight", "bias"), "BertModel")),
        "shifted": (tree(shifted(0), "Trunk"), tree(shifted(1), "Trunk")),
    }
    return treealign.audit(*(sides[name] if name in sides else version_pair(name)))


# -- the score


@cache
def cases(name: str = "labelled") -> list[dict[str, Any]]:
    """The labelled files: those that the scan was made with, or the ``untuned`` ones."""
    loaded: list[dict[str, Any]] = yaml.safe_load((DATA / "references" / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def references(case: dict[str, Any], folder: Path) -> list[Reference]:
    path = folder / case["file"]
    path.write_text(case["text"], encoding="utf-8")
    return list(pair(case["pair"]).scan([path]).references)


def judged(case: dict[str, Any], found: list[Reference]) -> Iterator[tuple[str, str]]:
    """(figure, what it is about) for each label and each report."""
    left = [one for one in found if one.changed]
    for label in (Label(*row) for row in case["labels"]):
        where = f"{case['pair']}/{case['file']}:{label.line} {label.verdict} -> {label.new}"
        yield "labelled", where
        if label.verdict not in VERDICTS.values():
            continue
        yield "stale", where
        here = [one for one in left if one.line == label.line and VERDICTS[one.status] == label.verdict]
        hit = next((one for one in here if one.new == label.new), here[0] if here else None)
        if hit is None:
            yield "fault", f"missed: {where}"
            continue
        left.remove(hit)
        yield "found", where
        if label.new is not None:
            yield "spelled", where
            yield ("spelled_right", where) if hit.new == label.new else ("fault", f"spelled {hit.new}: {where}")
    yield from (("fault", f"false: {case['pair']}/{one.file}:{one.line} {one.old} {one.status}") for one in left)
    yield from (("reported", "") for one in found if one.changed)
    yield from (("wrong", "") for _ in left)


@cache
def score(name: str = "labelled") -> Score:
    """All cases, scanned and held against their labels."""
    with tempfile.TemporaryDirectory() as folder:
        results = [one for case in cases(name) for one in judged(case, references(case, Path(folder)))]
    count = {name: sum(figure == name for figure, _ in results) for name in (*Score._fields, "wrong")}
    faults = tuple(what for figure, what in results if figure == "fault")
    return Score(
        *(count[name] for name in ("labelled", "stale", "found", "reported")),
        count["reported"] - count["wrong"],
        count["spelled"],
        count["spelled_right"],
        faults,
    )


def main() -> None:
    for name in ("labelled", "untuned"):
        show(name, score(name))


def show(name: str, one: Score) -> None:
    print(f"{name} references".ljust(27) + str(one.labelled))
    print(f"lost their meaning         {one.stale}, found {one.found}, recall {one.recall:.1%}")
    print(f"reported                   {one.reported}, right {one.right}, precision {one.precision:.1%}")
    print(f"with a new spelling        {one.spelled}, as labelled {one.spelled_right}")
    print("\n".join(one.faults), file=sys.stderr)


if __name__ == "__main__":
    main()
