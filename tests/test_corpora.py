"""Nothing of what is known is silently wrong: certain matches on layouts that other people chose."""

from __future__ import annotations

import pytest
from scoring import read_cases

from treealign.align.alignment import align


@pytest.mark.parametrize("corpus", ["originals", "pairs", "real_text", "real_vision"])
def test_no_certain_match_contradicts_the_known_answer(corpus):
    wrong = []
    for case in read_cases(corpus):
        answers = {key: set(group.model) for group in case.groups for key in group.checkpoint}
        alignment = align(*case.trees(False))
        left, right = alignment.checkpoint.keys, alignment.model.keys
        for link in alignment.links:
            for group in link.expand() if link.certain else ():
                targets = {right[at] for at in group.right}
                wrong += [
                    (case.name, left[at], targets) for at in group.left if not targets <= answers.get(left[at], set())
                ]
    assert wrong == []


@pytest.mark.parametrize(
    ("corpus", "least"), [("originals", 0.9), ("pairs", 0.98), ("real_text", 0.92), ("real_vision", 0.75)]
)
def test_most_answers_are_found(corpus, least):
    right = total = 0
    for case in read_cases(corpus):
        alignment = align(*case.trees(False))
        left, right_keys = alignment.checkpoint.keys, alignment.model.keys
        matches = {
            (frozenset(left[at] for at in group.left), frozenset(right_keys[at] for at in group.right))
            for link in alignment.links
            for group in link.expand()
        }
        total += len(case.groups)
        right += sum((frozenset(g.checkpoint), frozenset(g.model) - set(case.tied)) in matches for g in case.groups)
    assert right >= least * total
