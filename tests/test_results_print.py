"""Results print as the command line prints them, within 100 columns; a mapping's repr is the Python that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import transforms
from torch import nn

import treealign
from treealign import ConversionMapping, Convert, PrefixChange, Rename, operations  # noqa: F401  for eval
from treealign.dialects.lint_checks.results import Lint
from treealign.dialects.transformers.reader import read_rules
from treealign.run.results import Verdict

LLAVA = Path(__file__).parent.parent / "data" / "llava-1.5-7b"


def results(folder):
    suggestion = treealign.suggest(LLAVA / "checkpoint.json", LLAVA / "transformers-5.24.json")
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    given = {
        f"model.{key}": value for key, value in nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)).state_dict().items()
    }
    return {
        "suggestion": suggestion,
        "mapping": suggestion.mapping,
        "load": treealign.load(model, given, [PrefixChange(remove="model")]),
        "save": treealign.save(model, folder),
        "proof": treealign.prove(model, model, ConversionMapping([]), inputs=torch.ones(2, 3)),
        "audit": treealign.audit(LLAVA / "transformers-4.52.json", LLAVA / "transformers-5.24.json"),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return results(tmp_path_factory.mktemp("saved"))


SAID = {
    "suggestion": "matched     686 of 686 checkpoint keys, 686 of them certain",
    "mapping": "4 transforms, checkpoint -> model:",
    "load": "loaded      4 keys of the model, by the mapping given",
    "save": "saved       4 keys in model.safetensors",
    "proof": "proved; the outputs differ by 0",
    "audit": "2 changes, old -> new:",
}


@pytest.mark.parametrize("name", SAID)
def test_a_result_prints_for_people_within_100_columns(made, name):
    text = str(made[name])
    assert SAID[name] in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", SAID)
def test_a_result_is_html_in_a_notebook_and_nothing_in_it_is_markup_by_accident(made, name):
    html = made[name]._repr_html_()
    assert html.startswith("<div>")
    assert "->" not in html


@pytest.mark.parametrize("name", SAID)
def test_a_repr_is_short_or_python(made, name):
    assert len(repr(made[name])) < 600


def test_a_proof_lists_the_keys_of_which_it_says_nothing_by_the_reason():
    unproved = {f"layers.{n}.bias": Verdict("unproved", "the outputs do not depend on it") for n in range(3)}
    lines = str(treealign.Proof(True, 0.0, {"norm.weight": Verdict("proved", ""), **unproved})).splitlines()
    assert lines[1:] == ["unproved    3 keys: the outputs do not depend on it", "    layers.{0..2}.bias"]


@pytest.mark.parametrize("result", [Lint("5.24.0", ()), read_rules([])], ids=["lint", "reading"])
def test_what_a_lint_and_a_reading_of_rules_found_prints_for_people(result):
    assert "(" not in str(result)
    assert result._repr_html_().startswith("<div>")
    assert repr(result).startswith("<")


@given(st.lists(transforms(), max_size=4).map(ConversionMapping))
def test_the_repr_of_a_mapping_is_the_python_that_makes_it(mapping):
    assert eval(repr(mapping), {**vars(operations), **globals()}) == mapping
