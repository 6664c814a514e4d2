"""The record: compact, plain data, and enough to undo a load exactly."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from treealign import ConversionMapping, Convert, PrefixChange, Rename, convert_checkpoint, operations
from treealign.checkpoint.layouts import FileLayout, Layout
from treealign.checkpoint.load_record import Record, make_record
from treealign.checkpoint.newcomers import Newcomers
from treealign.checkpoint.record_file import WHOLE, Levels, Part, moved, read_parts, to_bytes
from treealign.checkpoint.stripping import levels_above
from treealign.errors import FormatError
from treealign.mapping.guards import GuardDecision
from treealign.mapping.planning import Step

LAYERS = [f"model.layers.{i}.{name}" for i in range(40) for name in ("attn.w", "norm.w")]


def record_of(rules, keys, model_keys=None, dtypes=()):
    mapping = ConversionMapping(rules)
    decision = mapping.decide(keys)
    return make_record(mapping, decision, mapping.plan(keys, decision, model_keys), dict(dtypes))


def names(record):
    return {step.sources: step.targets for step in record.steps}


def read_back(record):
    return Record.from_data(json.loads(record.to_text()))


@pytest.mark.parametrize(
    ("rules", "keys", "model_keys"),
    [
        ([PrefixChange(remove="model")], LAYERS, None),
        ([PrefixChange(remove="bad")], ["bad.a", "b"], None),
        ([PrefixChange(add="model")], ["a", "model.b"], ["model.a", "model.b"]),
        ([Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"}, before="**.norm0", after="**.norm2")],
         ["x.0.norm0", "x.0.norm1", "x.1.norm1", "x.1.norm2"], None),
        ([Convert(["a.{i}.q", "a.{i}.k"], "a.{i}.qk", [operations.Concat(0, (3, 1))])],
         ["a.0.q", "a.0.k", "a.1.qk"], None),
        ([Rename("a", "b")], ["a.{x}", "a.{}.y"], None),
    ],
    ids=["prefix", "mixed", "stays", "chain", "convert", "braces"],
)  # fmt: skip
def test_a_record_comes_back_from_its_text(rules, keys, model_keys):
    record = record_of(rules, keys, model_keys)
    again = read_back(record)
    assert names(again) == names(record)
    assert (again.mapping, again.dtypes) == (record.mapping, record.dtypes)


def test_only_what_the_mapping_does_not_say_is_an_exception():
    record = record_of([PrefixChange(add="model")], ["a", "model.b"], ["model.a", "model.b"])
    assert [step[:2] for step in record.exceptions] == [(("model.b",), ("model.b",))]


def test_a_transform_that_touched_nothing_is_dropped():
    record = record_of([Rename("x", "y"), PrefixChange(remove="model")], LAYERS)
    assert list(record.mapping) == [PrefixChange(remove="model")]


def test_a_record_of_many_keys_is_small():
    keys = [f"model.layers.{i}.experts.{j}.up.w" for i in range(60) for j in range(256)]
    assert len(record_of([PrefixChange(remove="model")], keys).to_text()) < 500


def test_dtypes_are_kept_where_tensors_were_cast():
    record = record_of([], ["a", "b"], dtypes={"a": "bfloat16"})
    assert read_back(record).dtypes == {"a": "bfloat16"}
    assert not record.trivial


def test_a_record_of_nothing_to_undo_is_trivial():
    assert record_of([Rename("x", "y")], LAYERS).trivial


def test_steps_that_no_mapping_makes_are_exceptions():
    steps = [Step(("a", "b"), ("c",), (operations.Concat(0, (1, 2)),)), Step(("d",), ("a",))]
    record = make_record(ConversionMapping(), GuardDecision(()), steps, {})
    assert set(read_back(record).steps) == set(steps)


@pytest.mark.parametrize(
    "data",
    [None, {}, {"format": "treealign.record"}, {"format": "treealign.record", "version": 2},
     {"format": "treealign.record", "version": 1}, {"format": "treealign.record", "version": 1, "keys": [["a.{}", {}]]},
     {"format": "treealign.record", "version": 1, "keys": [], "mapping": 3},
     {"format": "treealign.record", "version": 1, "keys": [], "exceptions": [{"sources": 1}]}],
)  # fmt: skip
def test_a_malformed_record_is_refused(data):
    with pytest.raises(FormatError):
        Record.from_data(data)


def test_the_file_beside_the_weights_comes_back(tmp_path):
    record = record_of([PrefixChange(remove="model")], LAYERS, dtypes={LAYERS[0]: "float16"})
    parts = [Part(record), Part(record, Levels("layers.0", "model.layers.0", "x", "y"))]
    (tmp_path / "treealign_record.json").write_bytes(to_bytes(parts))
    read = read_parts(tmp_path)
    assert [part.levels for part in read] == [WHOLE, parts[1].levels]
    assert names(read[0].record) == names(record)
    assert read[0].record.dtypes == {}  # the weights beside it say them


def test_a_part_translates_its_keys():
    levels = Levels(path="model.vision", strip="vision", mount="tower", module="m")
    step = levels.translate(Step(("vision.a",), ("model.vision.b",)))
    assert step[:2] == (("tower.a",), ("m.b",))
    assert levels.translate(Step(("visions.a",), ("model.vision.b",))) is None


KEYS = st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=4).map(".".join)


@given(KEYS, KEYS, KEYS)
def test_moving_there_and_back_changes_nothing(name, start, to):
    there = moved(f"{start}.{name}", start, to)
    assert there == f"{to}.{name}"
    assert moved(there, to, start) == f"{start}.{name}"


# -- submodules --------------------------------------------------------------------------------------------------------

TOWER = ["vision_tower.vision_model.layers.0.w", "vision_tower.vision_model.layers.1.w", "language_model.w"]


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ([PrefixChange(remove="vision_model", under="vision_tower")], "vision_tower", "vision_tower"),
        ([Rename("vision_tower.vision_model", "vision_tower")], "vision_tower", "vision_tower"),
        ([PrefixChange(remove="vision_model", under="vision_tower"), PrefixChange(add="model")],
         "model.vision_tower", "vision_tower"),
        ([Rename("vision_tower.vision_model", "visual")], "visual", "vision_tower.vision_model"),
        ([Rename("vision_tower", "model.visual")], "model.visual", "vision_tower"),
        ([Rename("vision_tower.vision_model", "model.vision_tower")], "model.vision_tower", "vision_tower"),
        ([Rename("vision_tower.vision_model.layers", "blocks")], "blocks", "vision_tower.vision_model.layers"),
        ([], "vision_tower.vision_model", "vision_tower.vision_model"),
    ],
)  # fmt: skip
def test_what_stood_above_a_module_is_told_from_what_was_inside_it(rules, path, expected):
    assert levels_above(record_of(rules, TOWER), path) == expected


def test_keys_from_different_places_keep_the_whole_of_their_names():
    record = record_of([Rename("a", "m.a"), Rename("b", "m.b")], ["a.w", "b.w"])
    assert levels_above(record, "m") == ""


# -- parameters that no checkpoint had ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "keys", "new", "expected"),
    [
        ([PrefixChange(remove="model")], LAYERS, "extra", "model.extra"),
        ([PrefixChange(remove="model")], LAYERS, "layers.3.extra", "model.layers.3.extra"),
        ([PrefixChange(remove="model")], [*LAYERS, "head"], "extra", "extra"),
        ([PrefixChange(remove="model")], [*LAYERS, "head"], "layers.3.extra", "model.layers.3.extra"),
        ([Rename("**.attn", "**.attention")], LAYERS, "model.layers.3.attention.b", "model.layers.3.attn.b"),
        ([Rename("**.attn", "**.attention")], LAYERS, "model.layers.99.attention.b", "model.layers.99.attention.b"),
        ([], LAYERS, "extra", "extra"),
    ],
)
def test_a_new_parameter_is_renamed_only_as_all_around_it(rules, keys, new, expected):
    assert Newcomers(record_of(rules, keys)).name(new).key == expected


# -- layouts -----------------------------------------------------------------------------------------------------------


def test_a_layout_comes_back():
    files = (
        FileLayout("a.safetensors", ("x.0", "x.1"), metadata={"format": "pt"}, header_size=128),
        FileLayout("b.safetensors", ("z", "y.1", "y.0"), sorted=False),
    )
    layout = Layout(files, {"total_size": 3}, "model.safetensors.index.json", 3)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize("data", [None, {}, {"files": [{}]}, {"files": [{"name": "a", "keys": ["x"], "order": [4]}]}])
def test_a_malformed_layout_is_refused(data):
    with pytest.raises(FormatError):
        Layout.from_json(data)


def test_records_of_two_files_are_still_read(tmp_path):
    """Saves and conversions had a file each, before they were sections of one."""
    source, out, back = (tmp_path / name for name in ("in", "out", "back"))
    source.mkdir()
    save_file({"model.a": torch.ones(2), "b": torch.ones(1)}, source / "model.safetensors")
    rules = [PrefixChange(remove="model")]
    convert_checkpoint(source, out, rules)
    made = out / "treealign_record.json"
    section = json.loads(made.read_text())["conversion"]
    made.unlink()
    before = {"format": "treealign.conversion", "version": 1, **section}
    made.with_name("treealign_conversion.json").write_text(json.dumps(before))
    assert convert_checkpoint(out, back, rules, reverse=True).by == "record"
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    parts = json.loads(to_bytes([Part(record_of([PrefixChange(remove="model")], LAYERS))]))["parts"]
    saved = {"format": "treealign.saved", "version": 1, "parts": parts}
    (tmp_path / "treealign_record.json").write_text(json.dumps(saved))
    assert len(read_parts(tmp_path)) == 1
