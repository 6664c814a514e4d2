"""The laws of questions on a fixed sample of each corpus; `benchmark.py laws` looks at all of them."""

from __future__ import annotations

import pytest
from cases import read_cases
from question_laws import broken_laws

STEPS = {  # every so many-th, from the first
    "transformers": 69,
    "originals": 29,
    "pairs": 13,
    "real_text": 93,
    "real_vision": 43,
    "single_files": 4,
    "synthetic": 43,
}
SAMPLE = {corpus: [case.name for case in read_cases(corpus)][::step] for corpus, step in STEPS.items()}
NAMED = [(corpus, name) for corpus, names in SAMPLE.items() for name in names]


@pytest.fixture(scope="module")
def cases():
    return {(corpus, case.name): case for corpus in SAMPLE for case in read_cases(corpus)}


@pytest.mark.parametrize(("corpus", "name"), NAMED, ids=str)
def test_questions_keep_their_laws(cases, corpus, name):
    looked, broken = broken_laws(cases[corpus, name])
    assert looked["few"] == 1
    assert broken == []


def test_the_laws_notice_what_they_are_about(cases, monkeypatch):
    """A question without its true option, and a hint that settles nothing, are told."""
    from treealign.align.asking.question import Question
    from treealign.suggestion import Suggestion

    case = cases["originals", "llava_original__hf"]
    case = case if broken_laws(case)[0]["complete"] else cases["originals", "opt_metaseq__hf"]
    plain = Suggestion.questions.func

    def crippled(suggestion):
        found = plain(suggestion)
        return tuple(
            Question(q.about, q.options[1:2] * 2, q.why, q.settled_by, q.links, q.sides, q.trees) for q in found
        )

    monkeypatch.setattr(Suggestion, "questions", property(crippled))
    laws = {text.partition(":")[0] for text in broken_laws(case)[1]}
    assert {"complete", "few"} <= laws


def test_names_without_a_dot_are_asked_of_in_as_few_questions_as_others():
    """Marian's own file: layers numbered within the names, vectors stored as rows, three attentions of one shape."""
    (case,) = read_cases("originals", "marian_npz__hf")
    assert broken_laws(case, most=0)[0]["complete"] <= 13
