"""What is suggested depends neither on the order of the keys nor on PYTHONHASHSEED."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from cases import read_cases

from treealign import KeyTree, suggest

HERE = Path(__file__).parent
SEEDS = range(10)
KNOWN = {
    "pairs": ("beit_timm__hf", "gguf_mixtral__hf", "tf4_5_llava"),
    "originals": ("gpt2_megatron__hf", "mixtral_consolidated__hf", "phi2_microsoft__hf"),
    "real_text": ("bert_hf__curated",),
}
RANDOM = (3, 11)  # seeds of `random_trees`


def results(cases: dict[str, list[list]], seed: int) -> dict[str, str]:
    """A digest of all that is said of each case, whose keys are shuffled on both sides."""
    return {name: _digest([_shuffled(side, seed) for side in sides]) for name, sides in cases.items()}


def _shuffled(leaves: list, seed: int) -> KeyTree:
    mixed = [(key, shape if shape is None else tuple(shape), *rest) for key, shape, *rest in leaves]
    random.Random(seed).shuffle(mixed)
    return KeyTree.from_leaves(mixed)


def _digest(sides: list[KeyTree]) -> str:
    found = suggest(*sides)
    matches = ((m.checkpoint, m.model, tuple(map(str, m.operations)), m.certain, m.evidence) for m in found.matches)
    questions = ((q.about, q.checkpoint, q.model, q.why, tuple(o.hint for o in q.options)) for q in found.questions)
    left = sorted(found.missing_keys), sorted(found.unexpected_keys), found.findings
    said = sorted(matches), sorted(questions), list(map(str, found.mapping)), left
    return hashlib.sha256(repr(said).encode()).hexdigest()


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    from random_trees import truth_of

    found = {
        case.name: [case.checkpoint, case.model]
        for corpus, names in KNOWN.items()
        for case in read_cases(corpus)
        if case.name in names
    }
    for seed in RANDOM:
        truth = truth_of(seed)
        found[f"random {seed}"] = [
            [(key, tuple(value.shape), "float32") for key, value in side.items()]
            for side in (truth.checkpoint, truth.model)
        ]
    assert len(found) == sum(map(len, KNOWN.values())) + len(RANDOM)
    path = tmp_path_factory.mktemp("cases") / "cases.json"
    path.write_text(json.dumps(found))
    return path


def test_keys_in_any_order_give_the_same_result_under_every_hash_seed(cases):
    said = {}
    for seed in SEEDS:
        known = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, __file__, str(cases), str(seed)]
        said[seed] = json.loads(subprocess.check_output(command, text=True, env=known, cwd=HERE))
    for name, digest in said[0].items():
        assert {seed: said[seed][name] for seed in SEEDS} == dict.fromkeys(SEEDS, digest), name


if __name__ == "__main__":
    print(json.dumps(results(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))))
