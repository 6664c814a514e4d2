"""What could not be written is no match: all matches of a suggestion are made by its mapping, there and back."""

from __future__ import annotations

import pytest
from cases import read_cases

from treealign import suggest

SAMPLE = {"pairs": 6, "originals": 24, "real_text": 61, "real_vision": 31, "transformers": 68, "synthetic": 32}


def sampled():
    """Each so-many-th case of each corpus."""
    for corpus, step in SAMPLE.items():
        for at, case in enumerate(read_cases(corpus)):
            if at % step == 3:
                yield pytest.param(case, id=f"{corpus}-{case.name}")


@pytest.mark.parametrize("case", list(sampled()))
def test_the_mapping_makes_every_match_and_no_other_there_and_back(case):
    found = suggest(*case.trees())
    mapping = found.synthesis.mapping
    forward: dict[str, set[str]] = {}
    backward: dict[str, set[str]] = {}
    for match in found.matches:
        for key in match.checkpoint:
            forward.setdefault(key, set()).update(match.model)
        for key in match.model:
            backward.setdefault(key, set()).update(match.checkpoint)
    made, back = mapping.map_keys(case.trees()[0]), mapping.reverse.map_keys(sorted(backward))
    assert {key: set(made[key]) for key in forward} == forward
    assert {key: set(back[key]) for key in backward} == backward
    assert all(backward.keys().isdisjoint(targets) for key, targets in made.items() if key not in forward)
    assert forward.keys().isdisjoint(found.synthesis.lost)
