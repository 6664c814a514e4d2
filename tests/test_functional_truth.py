"""Functional truth: what was loaded computes what the source computes, bit for bit, and goes back as it came.

Architectures of transformers with random weights, their checkpoints in real files under the published names.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest
import torch
from real_conversions import CONVERSIONS
from real_models import Architecture, build, outputs, without_memory
from real_renames import RENAMES
from weights import unchanged, values

from treealign import load, read_tree, save
from treealign.align.alignment import align
from treealign.checkpoint.sources import open_source
from treealign.errors import LoadError
from treealign.mapping import execution
from treealign.suggestion import Suggestion


class Trip:
    """A model, its checkpoint, another model that is loaded from it, and what that one saves: made when asked for."""

    def __init__(self, architecture: Architecture, folder: Path):
        self.architecture, self.folder = architecture, folder

    def outputs(self, model):
        return outputs(model, self.architecture.inputs)

    def other(self):
        """A model with other weights."""
        return build(self.architecture.make, seed=1)

    def load(self, model):
        mapping = self.architecture.mapping
        given = None if mapping is None else mapping(self.checkpoint, model)
        return load(model, self.checkpoint, given, **self.architecture.options)

    def read_by_transformers(self):
        return self.architecture.read(self.source, self.checkpoint)

    @cached_property
    def source(self):
        return build(self.architecture.make, seed=0).to(self.architecture.dtype)

    @cached_property
    def expected(self):
        return self.outputs(self.source)

    @cached_property
    def checkpoint(self):
        path = self.folder / "published"
        path.mkdir(exist_ok=True)
        self.architecture.write(self.source, path)
        return path

    @cached_property
    def loaded(self):
        model = self.other()
        self.load(model)
        return model

    @cached_property
    def saved(self):
        save(self.loaded, self.folder / "saved")
        return self.folder / "saved"


@pytest.fixture(scope="module")
def trips():
    return {}


@pytest.fixture
def trip(request, trips, tmp_path_factory):
    """One for all tests of an architecture, whichever of them comes first."""
    name = request.param.name
    if name not in trips:
        trips[name] = Trip(request.param, tmp_path_factory.mktemp("trip"))
    return trips[name]


def each(architectures):
    return pytest.mark.parametrize("trip", architectures, ids=lambda a: a.name, indirect=True)


def equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def not_arrived(trip):
    """The keys whose values in the loaded model are not those of the source."""
    state, arrived = trip.source.state_dict(), trip.loaded.state_dict()
    return [key for key in state if not torch.equal(state[key], arrived[key]) or state[key].dtype != arrived[key].dtype]


def files(folder, names):
    return {name: (folder / name).read_bytes() for name in names}


def weights_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith((".safetensors", ".index.json")))


def wrong_but_certain(trip):
    """Certain matches that would put something else into the model than it held when the checkpoint was written."""
    alignment = align(read_tree(trip.checkpoint), read_tree(trip.source))
    matches = Suggestion(alignment).matches  # no mapping is asked for: that would take its time
    state = trip.source.state_dict()
    with open_source(trip.checkpoint) as source:
        return [match for match in matches if match.certain and not _holds(match, source, state)]


def _holds(match, source, state):
    given = [source.read(key) for key in match.checkpoint]
    made = execution.run(match.operations, given) if match.operations else given
    return equal([state[key] for key in match.model], list(made))


# -- names -------------------------------------------------------------------------------------------------------------


@each([a for a in RENAMES if a.read])
def test_transformers_reads_the_published_names(trip):
    assert equal(trip.outputs(trip.read_by_transformers()), trip.expected)


@each(RENAMES)
def test_the_published_names_are_not_those_of_the_model(trip):
    assert set(read_tree(trip.checkpoint).keys) - set(read_tree(trip.source).keys)


@each(RENAMES)
def test_a_model_that_was_not_loaded_computes_something_else(trip):
    assert not equal(trip.outputs(trip.other().to(trip.architecture.dtype)), trip.expected)


@each(RENAMES)
def test_a_loaded_model_computes_what_the_source_computes(trip):
    assert equal(trip.outputs(trip.loaded), trip.expected)


@each(RENAMES)
def test_every_tensor_of_the_source_arrives(trip):
    assert not_arrived(trip) == []


@each(RENAMES)
def test_a_model_without_memory_computes_it_too(trip):
    model = without_memory(trip.other())
    trip.load(model)
    assert equal(trip.outputs(model), trip.expected)


@each([a for a in RENAMES if a.name in ("vit", "deit", "gpt2")])
def test_a_model_made_on_the_meta_device_computes_it_too(trip):
    with torch.device("meta"):
        model = trip.architecture.make().eval()
    trip.load(model)
    assert equal(trip.outputs(model), trip.expected)


@each([a for a in RENAMES if a.name != "bert"])
def test_files_come_back_byte_for_byte(trip):
    names = weights_in(trip.checkpoint)
    assert files(trip.saved, names) == files(trip.checkpoint, names)


@each([a for a in RENAMES if a.name == "bert"])
def test_a_pickled_checkpoint_comes_back_key_by_key(trip):
    given = torch.load(trip.checkpoint / "pytorch_model.bin", weights_only=True)
    with open_source(trip.saved) as source:
        assert set(source.tree.keys) == set(given)
        assert all(torch.equal(source.read(key), tensor) for key, tensor in given.items())


@each([a for a in RENAMES if a.name == "llava"])
def test_one_of_them_comes_in_several_shards(trip):
    assert len(weights_in(trip.checkpoint)) > 3


@each(RENAMES)
def test_no_certain_match_moves_a_tensor_elsewhere(trip):
    assert wrong_but_certain(trip) == []


# -- tensors -----------------------------------------------------------------------------------------------------------


@each(CONVERSIONS)
def test_a_converted_model_computes_what_transformers_computes(trip):
    assert equal(trip.outputs(trip.loaded), trip.outputs(trip.read_by_transformers()))


@each(CONVERSIONS)
def test_every_converted_tensor_arrives(trip):
    assert not_arrived(trip) == []


@each(CONVERSIONS)
def test_converted_files_come_back_byte_for_byte(trip):
    names = weights_in(trip.checkpoint)
    assert files(trip.saved, names) == files(trip.checkpoint, names)


@each([a for a in CONVERSIONS if not a.name.endswith(("inkling", "nomic bert"))])
def test_no_certain_conversion_is_wrong(trip):
    assert wrong_but_certain(trip) == []


# -- doubts ------------------------------------------------------------------------------------------------------------


@each([a for a in RENAMES + CONVERSIONS if a.refused])
def test_what_names_and_shapes_cannot_show_is_refused_and_nothing_touched(trip):
    model = trip.other()
    before = values(model)
    with pytest.raises(LoadError):
        load(model, trip.checkpoint)
    assert unchanged(model, before)
