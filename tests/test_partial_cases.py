"""Checkpoints that fit in part: what fits is loaded, the rest is listed, and nothing is silently wrong."""

from __future__ import annotations

import re
from functools import cached_property

import pytest
import torch
from real_partial import PARTIAL
from weights import keys, unchanged, values, write

from treealign import load, read_tree, save, suggest
from treealign.checkpoint.sources import open_source
from treealign.errors import LoadError


class Trip:
    """One case, from suggestion to save, each step done once."""

    def __init__(self, case, folder):
        self.case, self.folder = case, folder

    @cached_property
    def tensors(self):
        torch.manual_seed(0)
        return self.case.checkpoint()

    @cached_property
    def path(self):
        return write(self.folder / "given" / "model.safetensors", self.tensors)

    @cached_property
    def model(self):
        return self.case.model()

    @cached_property
    def suggestion(self):
        return suggest(self.path, read_tree(self.model))

    @cached_property
    def truth(self):
        """Keys that have a place, to that place."""
        return {key: there for key in self.tensors if (there := self.case.truth(key)) is not None}

    @cached_property
    def settled(self):
        """Those among them that need no person."""
        return {key: there for key, there in self.truth.items() if not re.search(self.case.doubted, key)}

    @cached_property
    def loaded(self):
        load(self.model, self.path, strict=False)
        return self.model

    @cached_property
    def places(self):
        """The keys of the model, tied weights under one name."""
        tree = read_tree(self.model)
        return set(tree.keys) - set(tree.tied)

    @property
    def whole(self):
        adapter = all(".lora_" in key for key in self.tensors)  # its scope is its own keys
        scope = {place for place in self.places if ".lora_" in place} if adapter else self.places
        return self.settled.keys() == self.tensors.keys() and set(self.truth.values()) == scope


@pytest.fixture(scope="module")
def trips():
    return {}


@pytest.fixture
def trip(request, trips, tmp_path_factory):
    name = request.param.name
    if name not in trips:
        trips[name] = Trip(request.param, tmp_path_factory.mktemp("partial"))
    return trips[name]


each = pytest.mark.parametrize("trip", PARTIAL, ids=lambda case: case.name, indirect=True)


@each
def test_what_belongs_together_is_matched_with_certainty_and_nothing_else_is(trip):
    certain = {m.checkpoint[0]: m.model[0] for m in trip.suggestion.matches if m.certain}
    assert certain == trip.settled


@each
def test_what_has_no_place_is_listed_and_what_is_doubted_is_among_the_rivals(trip):
    asked = {key for question in trip.suggestion.ambiguous for key in (*question.checkpoint, *question.model)}
    sizes = trip.case.mismatched
    shown = {m.model: (m.checkpoint_shape, m.model_shape) for m in trip.suggestion.mismatched_keys}
    assert shown == sizes
    mismatched = {m.checkpoint for m in trip.suggestion.mismatched_keys}
    assert (
        set(trip.suggestion.unexpected_keys) - asked == trip.tensors.keys() - trip.settled.keys() - mismatched - asked
    )
    assert set(trip.suggestion.missing_keys) - asked == trip.places - set(trip.settled.values()) - sizes.keys() - asked
    assert trip.truth.keys() - trip.settled.keys() <= asked
    assert not asked & {*trip.settled, *trip.settled.values()}


@each
def test_a_partial_fit_is_refused_unless_asked_for_and_a_whole_one_is_not(trip):
    model = trip.case.model()
    before = values(model)
    if trip.whole:
        load(model, trip.path)
        assert not unchanged(model, before)
    else:
        with pytest.raises(LoadError):
            load(model, trip.path)
        assert unchanged(model, before)


@each
def test_what_fits_arrives_and_the_rest_of_the_model_stays_as_it_was(trip):
    before = trip.case.model().state_dict()
    after = trip.loaded.state_dict()
    given = {there: trip.tensors[key] for key, there in trip.settled.items()}
    assert [key for key in trip.places if not torch.equal(after[key], given.get(key, before[key]))] == []


@each
def test_what_was_loaded_goes_back_under_its_names_byte_for_byte(trip):
    save(trip.loaded, trip.folder / "saved")
    (saved,) = (trip.folder / "saved").glob("*.safetensors")
    if trip.whole:
        assert saved.read_bytes() == trip.path.read_bytes()
    with open_source(saved) as there:
        assert trip.settled.keys() <= keys(saved)
        assert [key for key in trip.settled if not torch.equal(there.read(key), trip.tensors[key])] == []
