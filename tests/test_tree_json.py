"""The tree JSON: it comes back equal, it can be diffed, and what is wrong with it is said."""

from __future__ import annotations

import json

import pytest
from byte_builders import write
from hypothesis import HealthCheck, given, settings
from strategies import key_trees

from treealign import KeyTree, read_tree
from treealign.errors import FormatError
from treealign.formats.tree_json import installed_libraries, read_tree_json

TREE = KeyTree.from_leaves(
    [("embed.weight", (10, 4), "bfloat16"), ("norm.mean", (4,), "float32", "buffer"), ("head.weight", (10, 4), None)],
    modules={"": "Model", "embed": "Embedding"},
    tied={"head.weight": "embed.weight"},
    ordered=True,
)
WHOLE = {
    "format": "treealign.tree",
    "version": 1,
    "ordered": True,
    "libraries": {},
    "modules": {},
    "tied": {},
    "leaves": [["a", [1], "float32"]],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tree.json"


def refusal(path, value):
    contents = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(FormatError) as caught:
        read_tree_json(write(path, contents))
    assert caught.value.where == str(path)
    assert caught.value.hint
    return str(caught.value)


def test_a_tree_comes_back_equal(path):
    TREE.to_json(path)
    assert read_tree(path) == TREE


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key_trees())
def test_any_tree_comes_back_equal(path, tree):
    tree.to_json(path)
    assert read_tree(path) == tree


def test_each_leaf_and_each_module_has_its_own_line(path):
    TREE.to_json(path)
    lines = path.read_text().splitlines()
    assert '["norm.mean", [4], "float32", "buffer"],' in lines
    assert '"embed": "Embedding"' in lines


def test_a_parameter_s_line_does_not_say_so(path):
    TREE.to_json(path)
    assert '["embed.weight", [10, 4], "bfloat16"],' in path.read_text().splitlines()


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    TREE.to_json(tmp_path / "a.json")
    read_tree(tmp_path / "a.json").to_json(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_versions_of_libraries_are_kept(path):
    TREE.to_json(path, libraries={"torch": "2.13"})
    assert read_tree_json(path).libraries == {"torch": "2.13"}


def test_versions_of_absent_libraries_are_left_out():
    assert list(installed_libraries(["pytest", "no-such-library"])) == ["pytest"]


def test_the_name_of_the_file_does_not_matter(tmp_path):
    TREE.to_json(tmp_path / "layout")
    assert read_tree(tmp_path / "layout") == TREE


def test_a_write_that_fails_leaves_the_old_file(path):
    TREE.to_json(path)
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        KeyTree.from_leaves([("\ud800", (1,), "float32")]).to_json(path)
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [(path.name, before)]


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_another_version_is_refused(path, version):
    text = refusal(path, {**WHOLE, "version": version})
    assert f"version {version!r}" in text
    assert "reads version 1" in text


def test_a_file_without_a_version_is_refused(path):
    assert "version None" in refusal(path, {"format": "treealign.tree"})


@pytest.mark.parametrize(
    "contents", [b"", b"[]", b"{", b"\xff", b'{"format": "other"}', b"\xef\xbb\xbf{}", b"[" * 100_000]
)
def test_what_is_no_tree_is_refused(path, contents):
    assert "not a tree JSON" in refusal(path, contents)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ordered": 1}, "ordered: no truth value"),
        ({"modules": {"a": 1}}, "modules: no object of texts"),
        ({"tied": []}, "tied: no object of texts"),
        ({"libraries": None}, "libraries: no object of texts"),
        ({"leaves": {}}, "leaves: no list"),
        ({"leaves": ["a"]}, "leaves: 'a' is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [1]]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [-1], "float32"]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [1.5], "float32"]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [True], "float32"]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [1], 32]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", [1], "float32", "weight"]]}, "is no [key, shape, dtype, kind]"),
        ({"leaves": [["a", None, None], ["a", None, None]]}, "a: named twice"),
        ({"tied": {"b": "a"}}, "b: tied, but no leaf"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
    ids=str,
)
def test_malformed_content_is_refused(path, change, reason):
    text = refusal(path, {**WHOLE, **change})
    assert "a malformed tree JSON" in text
    assert reason in text


def test_a_field_stated_twice_is_refused(path):
    contents = json.dumps(WHOLE).replace('"tied": {}', '"tied": {}, "tied": {}').encode()
    assert "tied: stated twice" in refusal(path, contents)


def test_all_findings_come_at_once(path):
    text = refusal(path, {**WHOLE, "ordered": 1, "leaves": [1, 2]})
    assert all(reason in text for reason in ("ordered: ", "leaves: 1 ", "leaves: 2 "))


def test_an_absent_file_is_refused(path):
    with pytest.raises(FormatError, match="cannot read the file"):
        read_tree_json(path)
