"""Modules as wholes: what is guessed of the leaves of one module is one guess, and one question."""

from __future__ import annotations

from functools import cache

from cases import read_cases

import treealign
from treealign.suggestion import Suggestion


@cache
def suggested(corpus: str, name: str) -> tuple[Suggestion, dict[str, tuple[str, ...]]]:
    """A case of a corpus, and the model's keys with what the truth is."""
    (case,) = [case for case in read_cases(corpus, name) if case.name == name]
    return treealign.suggest(*case.trees()), {key: group.checkpoint for group in case.groups for key in group.model}


def module(key: str) -> str:
    return key.rpartition(".")[0]


def test_a_weight_that_is_reshaped_goes_where_its_bias_goes():
    """FocalNet: both convolutions of a modulation have one shape, and one of them is a linear layer in transformers."""
    suggestion, _ = suggested("real_vision", "focalnet_tiny_timm__hf")
    found = {m.checkpoint[0]: m.model[0] for m in suggestion.matches}
    convolutions = [key for key in found if key.endswith((".h.weight", ".modulation.proj.weight"))]
    assert convolutions
    assert all(module(found[key]) == module(found[f"{module(key)}.bias"]) for key in convolutions)


def test_which_of_two_modules_is_which_is_one_question_and_its_answer_settles_all_of_both():
    suggestion, truth = suggested("real_vision", "focalnet_tiny_timm__hf")
    (question,) = suggestion.questions
    right = [o for o in question.options if all(truth[k] == m.checkpoint for m in o.matches for k in m.model)]
    answered = suggestion.answer(question, right[0])
    assert not answered.questions
    assert all(m.certain and truth[k] == m.checkpoint for m in answered.matches for k in m.model)


def test_equal_modules_are_guessed_by_the_blocks_that_they_stand_in():
    """LeViT: timm begins a stage with what transformers ends the stage before it with."""
    suggestion, truth = suggested("real_vision", "levit_timm__hf")
    found = {key: m.checkpoint for m in suggestion.matches for key in m.model}
    assert {key: of for key, of in truth.items() if ".stages." in key} == {
        key: of for key, of in found.items() if ".stages." in key
    }


def test_rows_that_a_known_layout_says_stand_by_part_are_offered_in_no_other_order_than_rotary():
    """Bamba in fms: parts one after the other, in turns; of a head of 8 rows 4 rotate."""
    suggestion, _ = suggested("real_text", "fms__bamba_hf")
    (question,) = suggestion.questions
    hints = [option.hint.rpartition(": ")[2] for option in question.options]
    assert "rows from interleaved to half split, heads of 8, 4 rotated" in hints
    assert not any("by head" in hint or "then" in hint for hint in hints)
