"""Single files of diffusion models against diffusers: what its own converters were found to do on numbered elements."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from treealign import KeyTree, suggest
from treealign.align.knowledge import entries, reading, recognising, saying
from treealign.align.knowledge.entries import layouts
from treealign.mapping.operations import Reorder, Split

CORPUS = Path(__file__).parent.parent / "data/corpus/single_files.jsonl.xz"
with lzma.open(CORPUS, "rt", encoding="utf-8") as file:
    CASES = [json.loads(line) for line in file]


def aligned(case):
    made, model = (
        [(key, tuple(shape), dtype) for key, shape, dtype, *_ in case[side]] for side in ("checkpoint", "model")
    )
    return suggest(KeyTree.from_leaves(made), KeyTree.from_leaves(model, ordered=True))


def wrong(case, suggestion):
    """Certain matches that are not what the converter does, parts in their order and halves swapped or not."""
    gold = {key: (parts, said) for (key,), parts, said in case["gold"]}
    return [m for m in suggestion.matches if m.certain and not is_so(m, *gold[m.checkpoint[0]])]


def is_so(match, parts, said):
    if said != "split":
        return list(match.model) == parts and bool(match.operations) == (said == "halves swapped")
    order = next((o.order for o in match.operations if isinstance(o, Reorder)), range(len(parts)))
    return isinstance(match.operations[0], Split) and [parts[at] for at in order] == list(match.model)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_what_is_certain_of_a_single_file_is_what_diffusers_own_converter_does(case):
    suggestion = aligned(case)
    assert wrong(case, suggestion) == []
    assert 2 * sum(m.certain for m in suggestion.matches) > len(case["gold"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_single_file_that_no_entry_knows_is_asked_about_and_never_certain_and_wrong(case, monkeypatch):
    own = case["id"].partition("/")[2]
    known = {name: entry for name, entry in layouts().items() if own not in name}
    for module in (entries, reading, recognising, saying):
        monkeypatch.setattr(module, "layouts", lambda: known)
    suggestion = aligned(case)
    assert wrong(case, suggestion) == []
    assert suggestion.questions
