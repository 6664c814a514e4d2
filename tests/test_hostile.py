"""What anybody may have written is done with, or refused in words; `scripts/hostile.py` measures time and memory."""

from __future__ import annotations

import io
import json
import resource
import signal
import zipfile
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from dying import snapshot
from safetensors.torch import save_file

from treealign import (
    ConversionMapping,
    Convert,
    KeyTree,
    Rename,
    TreealignError,
    convert_checkpoint,
    load,
    operations,
    read_tree,
    save,
    suggest,
)
from treealign.checkpoint.adapters import expressions
from treealign.errors import FormatError, MappingError
from treealign.formats import bounds
from treealign.formats.archives import opened_archive


def test_a_torch_file_that_unpacks_to_much_more_than_it_is_is_refused(tmp_path):
    held = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, held)
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry) + bytes(bounds.MAX_INFLATED))
    with pytest.raises(FormatError, match=r"compressed\n  .* bytes unpack to .*\n\nhint: save it again"):
        read_tree(tmp_path / "x.pt")


def test_a_torch_file_of_which_little_was_compressed_is_read(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/note", "n" * 10_000)
    assert read_tree(tmp_path / "x.pt").keys == ("a",)


@pytest.mark.parametrize("inside", [[1], {"a": 1}, [torch.zeros(1)], {"param_groups": 1, "a": torch.zeros(1)}], ids=str)
def test_one_container_in_very_many_places_is_looked_at_once(tmp_path, inside):
    for _ in range(8):
        inside = dict.fromkeys(map(str, range(1000)), inside) if isinstance(inside, dict) else [inside] * 1000
    torch.save({"x": inside}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="no state dict"):
        read_tree(tmp_path / "x.pt")


def test_state_dicts_without_end_are_refused_with_the_first_of_them(tmp_path):
    inside = {"w": torch.zeros(1)}
    for _ in range(4):
        inside = dict.fromkeys(map(str, range(300)), inside)
    torch.save(inside, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="more than one state dict"):
        read_tree(tmp_path / "x.pt")


def test_names_that_do_not_fold_are_refused_beyond_what_any_model_has():
    tree = KeyTree.from_leaves([(f"a.{at:07d}", (1,), "float32") for at in range(bounds.MAX_TEMPLATES + 1)])
    with pytest.raises(FormatError, match="50,001 names that differ by more than their indices, of which at most 50,0"):
        suggest(tree, tree)
    with pytest.raises(FormatError, match="of 50,001 keys"):
        ConversionMapping([Rename("a", "b")]).map_keys(tree)


def test_one_tree_of_thousands_of_levels_is_not_compared_with_itself():
    tree = KeyTree.from_leaves([(".".join(["a"] * 2000), (1,), "float32")])
    with pytest.raises(TreealignError, match="2,000 levels, of which at most"):
        suggest(tree, tree)


def test_a_key_of_very_many_characters_is_not_compared():
    tree = KeyTree.from_leaves([("a" * 20_000, (1,), "float32")])
    with pytest.raises(TreealignError, match="20,000 characters, of which at most 10,000"):
        suggest(tree, tree)


def test_a_torch_file_of_more_entries_than_any_has_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as file:
        for at in range(bounds.MAX_ENTRIES):
            file.writestr(f"x/{at}", b"")
    with pytest.raises(FormatError, match="entries of an archive, of which at most 100,000"):
        read_tree(tmp_path / "x.pt")


def test_an_archive_of_long_names_is_read_while_it_has_no_more_entries(tmp_path):
    """torch names each tensor behind the stem of its file, so that a directory may be of many MiB."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for at in range(40_000):
            archive.writestr(f"{'a' * 200}/data/{at}", b"")
    with (tmp_path / "x.zip").open("rb") as file:
        assert len(opened_archive(file, "x.zip").namelist()) == 40_000


def test_a_split_into_twenty_thousand_is_done_and_undone():
    count = 20_000
    split = Convert("w", [f"t{at}" for at in range(count)], [operations.Split(0, (1,) * count)])
    model = torch.nn.ParameterDict({f"t{at}": torch.zeros(1) for at in range(count)})
    load(model, {"w": torch.arange(float(count))}, [split])
    assert float(model["t19999"]) == 19_999
    mapping = ConversionMapping([split])
    assert set(mapping.reverse.map_keys(tuple(model)).values()) == {("w",)}


@pytest.mark.parametrize("name", ["w", "l.{i}.w"])
def test_of_many_sources_those_that_match_are_found_wherever_they_stand(name):
    sources = [f"a{at}.b.{name}" for at in range(20)] + [f"c.d{at}.{name}" for at in range(20)]
    whole = Convert([f"**.{source}" for source in sources], f"**.e.{name}", [operations.Concat(0, (1,) * 40)])
    keys = [f"x.{source}".replace("{i}", "3") for source in sources]
    made = f"x.e.{name}".replace("{i}", "3")
    assert ConversionMapping([whole]).map_keys([*keys, "x.other"]) == {
        **dict.fromkeys(keys, (made,)),
        "x.other": ("x.other",),
    }


def test_names_beyond_what_any_model_has_are_not_compared():
    tree = KeyTree.from_leaves([(f"a{at:07d}.w", (1,), "float32") for at in range(20_001)])
    with pytest.raises(FormatError, match=r"20,001 names that differ by .* of which at most 20,000 are compared"):
        suggest(tree, tree)


def test_a_pickle_that_asks_for_room_is_refused(tmp_path):
    """Torch would fill ten gigabytes."""
    torch.save({"a": _Room()}, tmp_path / "x.pt")
    torch.save({"a": _Room()}, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    for name in ("x.pt", "y.pt"):
        with pytest.raises(FormatError, match="pickles objects that are no tensors\n  bytearray"):
            read_tree(tmp_path / name)


class _Room:
    def __reduce__(self):
        return bytearray, (10**10,)


def test_a_tensor_without_numbers_is_not_converted(tmp_path):
    torch.save({"a": torch.empty(3, device="meta")}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="on the meta device: it has a shape, and no numbers"):
        convert_checkpoint(tmp_path / "x.pt", tmp_path / "out", [Rename("a", "b")])


def test_a_shape_beyond_64_bits_is_no_tensors(tmp_path):
    save_file({"a": torch.zeros(0, 5)}, tmp_path / "x.safetensors")
    wide = Convert("a", "b", operations.Reshape((0, 5), (10**30, 0)))
    with pytest.raises(MappingError, match="no tensor is of these shapes"):
        convert_checkpoint(tmp_path / "x.safetensors", tmp_path / "out", [wide])


def test_an_index_names_no_shard_that_no_system_has(tmp_path):
    index = {"weight_map": {"a": f"{'x' * 300}.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="is no plain file name"):
        read_tree(tmp_path)


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "circle"])
def test_a_path_that_is_none_is_refused_by_all(tmp_path, path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    mapping, path = ConversionMapping([Rename("a", "b")]), tmp_path / path
    for act in (
        lambda: read_tree(path),
        lambda: convert_checkpoint(path, tmp_path / "out", mapping),
        lambda: convert_checkpoint(tmp_path / "x.safetensors", path, mapping),
        lambda: save(torch.nn.Linear(1, 1), path),
        lambda: mapping.to_json(path),
    ):
        with pytest.raises(FormatError):
            act()


def _write_large(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        ConversionMapping([Rename(f"a{at}", f"b{at}") for at in range(1000)]).to_json(path)
    except TreealignError as error:
        return str(error)
    return "written"


def test_a_mapping_that_cannot_be_written_whole_leaves_the_one_that_was_there(tmp_path):
    ConversionMapping([Rename("a", "b")]).to_json(tmp_path / "m.json")
    before = snapshot(tmp_path)
    with ProcessPoolExecutor(1) as workers:
        said = workers.submit(_write_large, tmp_path / "m.json").result()
    assert "cannot write: File too large" in said
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("expression", ["(a+)+b", "(.*)*b", r"(\w+\.)*(\w+)*x", ".*.*.*.*.*.*.*.*.*.*.*.*x"])
def test_an_expression_that_takes_for_ever_is_given_up(monkeypatch, expression):
    monkeypatch.setattr(expressions, "SECONDS", 0.5)
    with pytest.raises(TreealignError, match="takes for ever"):
        expressions.matching(expression, ["a" * 400])


@pytest.mark.parametrize(
    "expression", [r".*\.(q|v)_proj", r"(\w+\.)+q_proj", r"layers\.(?P<idx>\d+)\..*", "(a|b){2,3}"]
)
def test_an_expression_matches_the_same_wherever_it_is_run(monkeypatch, expression):
    names = ["layers.0.q_proj", "layers.11.mlp.v_proj", "q_proj", "abb", "ünder.q_proj"]
    found = []
    for hangs in (False, True):
        monkeypatch.setattr(expressions, "may_hang", lambda _, hangs=hangs: hangs)
        found.append([expressions.matches_of(expression, names, how) for how in ("match", "fullmatch")])
    assert found[0] == found[1]
