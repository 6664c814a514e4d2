"""Arguments in the wrong order or of the wrong kind are said at once, with the call that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import treealign
from treealign import ConversionMapping, PrefixChange, TreealignError

NET = nn.Linear(2, 3)
STATE = {f"model.{key}": value for key, value in NET.state_dict().items()}
MAPPING = ConversionMapping([PrefixChange(remove="model")])

SWAPPED = [
    (treealign.load, (STATE, NET), "treealign.load(model, state_dict)"),
    (treealign.load, ("there.safetensors", NET), "treealign.load(model, 'there.safetensors')"),
    (treealign.load, (NET, MAPPING, STATE), "treealign.load(model, state_dict, mapping)"),
    (treealign.load, (NET, STATE, False), "treealign.load(model, state_dict, strict=False)"),
    (treealign.save, ("out", NET), "treealign.save(model, 'out')"),
    (treealign.save, (Path("out"), NET), "treealign.save(model, 'out')"),
    (treealign.attach, (MAPPING, NET), "treealign.attach(model, mapping)"),
    (treealign.suggest, (NET, STATE), "treealign.suggest(state_dict, model)"),
    (treealign.suggest, (NET, "there.safetensors"), "treealign.suggest('there.safetensors', model)"),
    (treealign.emit, ("vllm", MAPPING), "treealign.emit(mapping, 'vllm')"),
    (
        treealign.convert_checkpoint,
        (MAPPING, "a.safetensors", "out"),
        "treealign.convert_checkpoint('a.safetensors', 'out', mapping)",
    ),
]


@pytest.mark.parametrize(("function", "given", "meant"), SWAPPED)
def test_swapped_arguments_are_answered_with_the_call_that_was_meant(function, given, meant):
    with pytest.raises(TreealignError) as raised:
        function(*given)
    assert meant in raised.value.hint


WRONG = [
    (treealign.load, (nn.Linear, STATE), "model is the class Linear, which is not built yet: Linear(…)"),
    (treealign.load, (NET, 3), "checkpoint is of type int, not a torch.nn.Module or a path or a state dict"),
    (treealign.load, (NET, None), "checkpoint is None"),
    (treealign.load, (NET, STATE, 7), "mapping is of type int, not a ConversionMapping"),
    (treealign.suggest, (STATE, None), "model is None"),
    (treealign.suggest, ([1], NET), "checkpoint is of type list"),
    (treealign.save, (STATE, "out"), "model is a state dict, not a torch.nn.Module"),
    (treealign.audit, (NET, 5), "new is of type int"),
    (treealign.emit, (5,), "mapping is of type int"),
    (treealign.attach, (NET, None), "mapping is None"),
]


@pytest.mark.parametrize(("function", "given", "fact"), WRONG)
def test_an_argument_of_a_wrong_kind_is_named_with_what_it_is(function, given, fact):
    with pytest.raises(TreealignError) as raised:
        function(*given)
    assert any(line.startswith(fact) for line in raised.value.facts), raised.value
    assert f"treealign.{function.__name__}(" in raised.value.hint


@pytest.mark.parametrize("function", [treealign.suggest, lambda *given, hints: treealign.load(NET, STATE, hints=hints)])
def test_hints_that_are_no_texts_are_refused_with_what_is_taken(function):
    with pytest.raises(TreealignError) as raised:
        function(STATE, NET, hints=7)
    assert raised.value.hint == "hints=['name=other_name']"


def test_whatever_is_in_order_passes():
    model = nn.Linear(2, 3)
    assert treealign.load(model, STATE, [PrefixChange(remove="model")]).missing_keys == ()
    assert treealign.suggest(NET, model).ok


@pytest.mark.parametrize(
    ("function", "given", "hint"),
    [
        (MAPPING.apply, "there.safetensors", "treealign.load(model, checkpoint, mapping)"),
        (ConversionMapping, PrefixChange(remove="model"), "ConversionMapping([Rename('a', 'b')])"),
        (ConversionMapping, None, "ConversionMapping([Rename('a', 'b')])"),
        (treealign.KeyTree.from_leaves, [("a",)], "(key, shape, dtype)"),
        (treealign.KeyTree.from_leaves, {"ab": (2, 3)}, "(key, shape, dtype)"),
    ],
)
def test_what_a_mapping_or_a_tree_is_made_of_is_said(function, given, hint):
    with pytest.raises(TreealignError) as raised:
        function(given)
    assert hint in raised.value.hint


def test_a_probe_that_is_none_is_refused_also_where_nothing_is_left_to_ask_it():
    with pytest.raises(TreealignError, match=r"package\.module:name"):
        treealign.suggest(NET.state_dict(), NET, probe="nothing")
