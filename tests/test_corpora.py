"""Nothing of what is known is silently wrong: certain matches on layouts that other people chose."""

from __future__ import annotations

import pytest
from cases import read_cases

from treealign.align.alignment import align

LEAST = {"originals": 0.9, "pairs": 0.98, "real_text": 0.92, "real_vision": 0.75}


@pytest.fixture(scope="module", params=LEAST)
def corpus(request):
    """Its name, and each case with its matches: keys of the checkpoint, of the model, and whether it is certain."""
    found = []
    for case in read_cases(request.param):
        alignment = align(*case.trees(False))
        left, right = alignment.checkpoint.keys, alignment.model.keys
        matches = [
            (frozenset(left[at] for at in group.left), frozenset(right[at] for at in group.right), link.certain)
            for link in alignment.links
            for group in link.expand()
        ]
        found.append((case, matches))
    return request.param, found


def test_no_certain_match_contradicts_the_known_answer(corpus):
    wrong = []
    for case, matches in corpus[1]:
        answers = {key: set(group.model) for group in case.groups for key in group.checkpoint}
        for sources, targets, certain in matches:
            wrong += [
                (case.name, key, targets) for key in sources if certain and not targets <= answers.get(key, set())
            ]
    assert wrong == []


def test_most_answers_are_found(corpus):
    name, found = corpus
    right = total = 0
    for case, matches in found:
        made = {(sources, targets) for sources, targets, _ in matches}
        total += len(case.groups)
        right += sum((frozenset(g.checkpoint), frozenset(g.model) - set(case.tied)) in made for g in case.groups)
    assert right >= LEAST[name] * total
