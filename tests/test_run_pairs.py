"""Real code of torch, transformers and diffusers, run side by side: everything settled, nobody asked."""

from __future__ import annotations

import pytest
import torch
from code_pairs import PAIRS

import treealign
from treealign.run.outputs import difference, paired


@pytest.mark.parametrize("name", PAIRS)
def test_a_run_settles_what_names_and_shapes_leave_open(name):
    pytest.importorskip("diffusers")
    original, model, run = PAIRS[name]()
    runs = run if isinstance(run, tuple) else (run, run)
    found = treealign.suggest(original.state_dict(), model, original=original, run=run)
    assert found.ok
    # and without the harness: the original's own weights, in float32
    treealign.load(model, original.state_dict(), found.mapping)
    with torch.no_grad():
        assert difference(*paired(runs[0](original.eval()), runs[1](model.eval()))) < 1e-4


@pytest.mark.parametrize("name", ["gpt2_bigcode", "swiglu_phi3", "t5_gated_llama"])
def test_every_other_answer_is_refuted(name):
    pytest.importorskip("diffusers")
    original, model, run = PAIRS[name]()
    right = treealign.suggest(original.state_dict(), model, original=original, run=run)
    truth = {(match.checkpoint, match.model, match.operations) for match in right.matches}
    guess = treealign.suggest(original.state_dict(), model)
    refuted = 0
    for question in guess.questions:
        for option in question.options:
            answer = guess.answer(question, option)
            if not {(match.checkpoint, match.model, match.operations) for match in answer.matches} <= truth:
                proof = treealign.prove(original, model, answer.mapping.accept(), run=run)
                if not proof.proved:
                    refuted += 1
                else:  # what pairs rows for a rotation that neither side makes
                    assert "half split" in option.hint or "interleaved" in option.hint
    assert refuted
