"""Conversion mappings as JSON: they come back equal, and what is malformed is refused with everything that is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import json_values, marked_mappings

from treealign import ConversionMapping, Convert, PrefixChange, Rename
from treealign.errors import MappingError
from treealign.mapping.mapping_json import mapping_from_data, mapping_to_data
from treealign.mapping.operations import SizeTable, Stack

SIZES = SizeTable.by("i", {0: 4, 1: 8})
EVERYTHING = ConversionMapping(
    [
        PrefixChange(add="é", under="**.vision"),
        Rename({"**.a": "**.b", "**.b": "**.c"}, before="**.a", after="**.c"),
        Convert("l.{i}.e.{j:0..7}", "l.{i}.e", [Stack(0, SIZES)], counts={"j": SIZES}),
    ]
)


def refusal(data):
    with pytest.raises(MappingError) as raised:
        mapping_from_data(data)
    return raised.value


def document(*items, **other):
    return {"format": "treealign.mapping", "version": 1, "transforms": list(items), **other}


def test_a_mapping_comes_back_from_its_file(tmp_path):
    EVERYTHING.to_json(tmp_path / "mapping.json")
    assert ConversionMapping.from_json(tmp_path / "mapping.json") == EVERYTHING


@given(marked_mappings())
def test_any_mapping_comes_back_from_json_text_with_its_marks(mapping):
    text = json.dumps(mapping_to_data(mapping))
    assert mapping_from_data(json.loads(text)) == mapping


def test_a_file_without_marks_gives_a_mapping_without_them():
    assert not mapping_from_data(document({"kind": "PrefixChange", "add": "m"})).marked


@given(st.dictionaries(st.sampled_from(["about", "checkpoint", "options", "why", "settled_by", "odd"]), json_values()))
def test_a_damaged_question_is_refused_and_never_dropped(fields):
    try:
        assert len(mapping_from_data(document(questions=[fields])).questions) == 1
    except MappingError as error:
        assert error.what == "a malformed mapping"


def test_everything_that_is_wrong_with_a_question_is_listed():
    odd = {"about": "luck", "checkpoint": ["a.{x}"], "model": 3, "options": [{"hint": "a=b"}], "sure": True}
    assert refusal(document(questions=[odd], answers=[1])).facts == (
        "questions[0]: unknown field `sure`",
        "questions[0]: `about` is none of names, belongs, order, rows, axes",
        "questions[0]: `checkpoint` holds a text that is no folded key",
        "questions[0]: `model` is no list of texts",
        "questions[0]: `options` is no list of objects with `text` and `hint`",
        "`answers` is no list of texts",
    )


def test_empty_fields_are_left_out():
    assert mapping_to_data([PrefixChange(add="m")])["transforms"] == [{"kind": "PrefixChange", "add": "m"}]


@given(json_values())
def test_other_data_is_no_mapping(data):
    assert "no conversion mapping" in refusal(data).what


@given(st.dictionaries(st.sampled_from(["kind", "add", "pairs", "under", "before", "sources"]), json_values()))
def test_damaged_transforms_are_refused_and_nothing_worse(fields):
    for kind in ("PrefixChange", "Rename", "Convert"):
        try:
            mapping_from_data(document(fields | {"kind": kind}))
        except MappingError as error:
            assert error.what == "a malformed mapping"


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_an_unknown_version_is_refused(version):
    error = refusal(document(version=version))
    assert error.what == "unknown version of a mapping"
    assert error.facts == (f"the file says {version!r}", "this treealign reads 1")


def test_everything_that_is_wrong_is_listed():
    error = refusal(
        document(
            {"kind": "Renaming"},
            {"kind": "Rename", "under": 3, "befor": []},
            {"kind": "Rename", "pairs": [["a", "a"]]},
            {"kind": "PrefixChange", "add": "m"},
            {"kind": "PrefixChange", "add": "m", "remove": "n"},
            {"kind": "Convert", "sources": ["a"], "targets": ["b"], "operations": [{"operation": "Melt"}]},
            7,
            extra=1,
        )
    )
    assert error.facts == (
        "unknown field `extra`",
        "transforms[0] is no transform: its `kind` is none of PrefixChange, Rename, Convert",
        "transforms[1], Rename: unknown field `befor`",
        "transforms[1], Rename: no field `pairs`",
        "transforms[1], Rename: `under` is not text",
        "transforms[2], Rename: Rename('a', 'a') is no transform; nothing changes in `a` -> `a`",
        "transforms[4], PrefixChange: PrefixChange(add='m') is no transform; it takes either `add` or `remove`",
        "transforms[5], Convert: an operation cannot be read; {'operation': 'Melt'}",
        "transforms[6] is no transform: its `kind` is none of PrefixChange, Rename, Convert",
    )


@pytest.mark.parametrize("transforms", [None, {}, "Rename"])
def test_transforms_stand_in_a_list(transforms):
    assert refusal(document() | {"transforms": transforms}).facts == ("`transforms` is no list",)


def test_a_pair_is_not_given_twice():
    error = refusal(document({"kind": "Rename", "pairs": [["a", "b"], ["a", "c"]]}))
    assert error.facts == ("transforms[0], Rename: a source stands in it twice; a",)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "this is no JSON"),
        (b"{", "this is no JSON"),
        (b"\xff\xfe", "this is no JSON"),
        (b"[" * 100_000, "this is no JSON"),
        (b'{"version": 1, "version": 1}', "this is no JSON"),
        (b"[]", "this is no conversion mapping"),
        (b'{"format": "treealign.tree"}', "this is no conversion mapping"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content, what):
    path = tmp_path / "mapping.json"
    path.write_bytes(content)
    with pytest.raises(MappingError) as raised:
        ConversionMapping.from_json(path)
    assert (raised.value.what, raised.value.where) == (what, str(path))


def test_an_absent_file_is_a_clear_error(tmp_path):
    with pytest.raises(MappingError, match="cannot be read"):
        ConversionMapping.from_json(tmp_path / "absent.json")
