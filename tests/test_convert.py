"""Converting checkpoints file to file: what comes out, what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from converting import EXPERTS, INDEX, PREFIX, REMOVED, contents, layer, sharded, tensors_of
from hypothesis import given, reject, settings
from safetensors.torch import load_file
from strategies import mappings_and_keys, operations_and_shapes
from weights import write

from treealign import ConversionMapping, Convert, Rename, TreealignError, convert_checkpoint, operations
from treealign.checkpoint.conversion import writing
from treealign.checkpoint.conversion.placing import place
from treealign.checkpoint.conversion.planning import plan_files
from treealign.checkpoint.conversion.results import results
from treealign.checkpoint.sources import open_source
from treealign.errors import MappingError
from treealign.mapping.execution.execute import byte_moves, run


@pytest.fixture
def source(tmp_path):
    return sharded(tmp_path / "source", [layer(0), layer(1)], {"total_parameters": 5})


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_renamed_tensors_keep_their_bytes_shards_and_order(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", PREFIX)
    before, after = contents(source)[0], contents(tmp_path / "out")[0]
    renamed = {
        name: (metadata, [((f"model.{key[0]}", *key[1:]), data) for key, data in tensors])
        for name, (metadata, tensors) in before.items()
    }
    assert after == renamed


def test_the_index_keeps_its_metadata_and_names_the_shards(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", PREFIX)
    before, after = contents(source)[1], contents(tmp_path / "out")[1]
    assert after["metadata"] == before["metadata"]
    assert after["weight_map"] == {f"model.{key}": shard for key, shard in before["weight_map"].items()}


def test_a_wrong_total_size_is_put_right(source, tmp_path):
    index = json.loads((source / INDEX).read_text())
    right = index["metadata"]["total_size"]
    index["metadata"]["total_size"] = 7
    (source / INDEX).write_text(json.dumps(index))
    convert_checkpoint(source, tmp_path / "out", PREFIX)
    assert contents(tmp_path / "out")[1]["metadata"]["total_size"] == right


def test_converted_tensors_are_what_the_operations_make(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", EXPERTS)
    given, made = tensors_of(source), tensors_of(tmp_path / "out")
    for i in range(2):
        assert torch.equal(made[f"l.{i}.experts"], torch.stack([given[f"l.{i}.e.{j}.w"] for j in range(4)]))
        assert torch.equal(torch.cat([made[f"l.{i}.q"], made[f"l.{i}.k"]]), given[f"l.{i}.qkv"])
        assert torch.equal(made[f"l.{i}.out_t"], given[f"l.{i}.out"].T)
        assert torch.equal(made[f"l.{i}.n"], given[f"l.{i}.n"])


@pytest.mark.parametrize("mapping", [PREFIX, EXPERTS], ids=["renames", "conversions"])
def test_back_again_gives_the_same_checkpoint(source, tmp_path, mapping):
    convert_checkpoint(source, tmp_path / "out", mapping)
    convert_checkpoint(tmp_path / "out", tmp_path / "back", mapping, reverse=True)
    assert contents(tmp_path / "back") == contents(source)


def test_a_conversion_takes_its_sources_from_several_shards(tmp_path):
    parts = [{"l.0.e.0.w": torch.randn(3, 5), "l.0.e.2.w": torch.randn(3, 5)}]
    parts += [{"l.0.e.1.w": torch.randn(3, 5), "l.0.e.3.w": torch.randn(3, 5)}]
    source = sharded(tmp_path / "source", parts)
    convert_checkpoint(source, tmp_path / "out", EXPERTS)
    given, made = tensors_of(source), tensors_of(tmp_path / "out")
    assert torch.equal(made["l.0.experts"], torch.stack([given[f"l.0.e.{j}.w"] for j in range(4)]))
    assert set(contents(tmp_path / "out")[1]["weight_map"].values()) == {"model-00001-of-00002.safetensors"}


@pytest.mark.parametrize("name", ["model.bin", "model.pt"])
def test_a_torch_file_becomes_safetensors(tmp_path, name):
    tensors = {"a.w": torch.randn(4, 3), "b.w": torch.arange(6).view(2, 3).T}
    torch.save(tensors, tmp_path / name)
    convert_checkpoint(tmp_path / name, tmp_path / "out", PREFIX)
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(made[f"model.{key}"], tensor) for key, tensor in tensors.items())


def test_a_single_file_goes_to_a_file(tmp_path):
    path = write(tmp_path / "in.safetensors", {"a": torch.randn(3)})
    result = convert_checkpoint(path, tmp_path / "out.safetensors", PREFIX)
    assert result.files == ("out.safetensors",)
    assert torch.equal(load_file(tmp_path / "out.safetensors")["model.a"], load_file(path)["a"])


def test_a_dtype_is_changed_only_where_asked(source, tmp_path):
    convert_checkpoint(source, tmp_path / "same", PREFIX)
    convert_checkpoint(source, tmp_path / "half", EXPERTS, dtype="bfloat16")
    given, made = tensors_of(source), tensors_of(tmp_path / "half")
    assert {k: v.dtype for k, v in tensors_of(tmp_path / "same").items()} == {
        f"model.{k}": v.dtype for k, v in given.items()
    }
    assert {v.dtype for v in made.values()} == {torch.bfloat16}
    assert torch.equal(made["l.0.q"], given["l.0.qkv"][:6].bfloat16())


def test_shards_are_cut_where_a_size_is_asked(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", PREFIX, max_shard_size=200)
    assert {f"model.{key}" for key in tensors_of(source)} == set(tensors_of(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    assert all(path.stat().st_size < 2000 for path in (tmp_path / "out").glob("*.safetensors"))


def test_an_empty_tensor_is_kept(tmp_path):
    path = write(tmp_path / "in.safetensors", {"a": torch.zeros(0, 3), "b": torch.ones(1)})
    convert_checkpoint(path, tmp_path / "out", PREFIX)
    assert load_file(tmp_path / "out" / "in.safetensors")["model.a"].shape == (0, 3)


def test_links_to_files_elsewhere_are_followed(source, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in source.iterdir():
        (snapshot / path.name).symlink_to(path)
    convert_checkpoint(snapshot, tmp_path / "out", PREFIX)
    convert_checkpoint(source, tmp_path / "same", PREFIX)
    assert contents(tmp_path / "out") == contents(tmp_path / "same")
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def test_guards_are_decided_once_for_all_shards(tmp_path):
    chain = Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"}, before="**.norm0", after="**.norm2")
    # the second shard alone could be of either side
    old = sharded(tmp_path / "old", [{"h.norm0": torch.zeros(1)}, {"h.norm1": torch.ones(1)}])
    new = sharded(tmp_path / "new", [{"h.norm1": torch.zeros(1)}, {"h.norm2": torch.ones(1)}])
    for name, folder in (("from old", old), ("from new", new)):
        convert_checkpoint(folder, tmp_path / name, [chain])
        made = tensors_of(tmp_path / name)
        assert {key: float(tensor) for key, tensor in made.items()} == {"h.norm1": 0.0, "h.norm2": 1.0}


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_plan_can_be_pickled(source):
    given = open_source(source)
    made = results(EXPERTS.plan(tuple(given.tensors)), given.tensors)
    plan = plan_files(given, made, place(given, made))
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_other_processes_write_the_same_bytes(source, tmp_path):
    convert_checkpoint(source, tmp_path / "here", EXPERTS)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        convert_checkpoint(source, tmp_path / "there", EXPERTS, executor=executor)
    files = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "there").iterdir())
    assert all((tmp_path / "here" / f).read_bytes() == (tmp_path / "there" / f).read_bytes() for f in files)


# -- refused -----------------------------------------------------------------------------------------------------------


def refused(tmp_path, *arguments, **more):
    """The message; and nothing was written."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TreealignError) as caught:
        convert_checkpoint(*arguments, **more)
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


def test_two_keys_into_one_are_refused(tmp_path):
    path = write(tmp_path / "in.safetensors", {"old.a": torch.zeros(1), "new.a": torch.zeros(1)})
    text = refused(tmp_path, path, tmp_path / "out", [Rename("old", "new")])
    assert "two keys reach one name" in text
    assert "old.a" in text


def test_an_incomplete_conversion_is_refused(tmp_path):
    path = write(tmp_path / "in.safetensors", {f"l.0.e.{j}.w": torch.zeros(3, 5) for j in range(3)})
    assert "absent: l.0.e.3.w" in refused(tmp_path, path, tmp_path / "out", EXPERTS)


def test_tensors_that_do_not_fit_the_operations_are_refused(tmp_path):
    path = write(tmp_path / "in.safetensors", {"l.0.qkv": torch.zeros(7, 3), "l.1.qkv": torch.zeros(8, 3)})
    assert "l.0.q" in refused(tmp_path, path, tmp_path / "out", EXPERTS)


def test_the_checkpoint_itself_is_no_destination(source, tmp_path):
    assert "the checkpoint itself" in refused(tmp_path, source, source, PREFIX, force=True)


def test_a_destination_within_the_checkpoint_is_refused(source, tmp_path):
    assert "inside of the checkpoint" in refused(tmp_path, source, source / "out", PREFIX)


def test_an_existing_destination_is_refused(source, tmp_path):
    write(tmp_path / "out" / "model.safetensors", {"a": torch.zeros(1)})
    assert "there already" in refused(tmp_path, source, tmp_path / "out", PREFIX)


# -- what a mapping alone cannot undo ----------------------------------------------------------------------------------

RECORD = "treealign_record.json"
FOLDED = ConversionMapping(
    [
        Convert(["**.weight_g", "**.weight_v"], "**.weight", operations.FoldWeightNorm(0)),
    ]
)


def there_and_back(source, tmp_path, mapping, **options):
    forth = convert_checkpoint(source, tmp_path / "out", mapping, **options)
    back = convert_checkpoint(tmp_path / "out", tmp_path / "back", mapping, reverse=True)
    return forth, back


def test_a_mapping_that_undoes_itself_leaves_no_record(source, tmp_path):
    forth, back = there_and_back(source, tmp_path, PREFIX)
    assert (forth.recorded, back.by) == (False, "mapping")
    assert not (tmp_path / "out" / RECORD).exists()


def test_a_half_prefixed_checkpoint_comes_back_half_prefixed(tmp_path):
    source = sharded(tmp_path / "source", [{"bad.a": torch.randn(2), "b": torch.randn(2)}, {"bad.c": torch.ones(1)}])
    forth, back = there_and_back(source, tmp_path, REMOVED)
    assert set(tensors_of(tmp_path / "out")) == {"a", "b", "c"}
    assert (forth.recorded, back.by) == (True, "record")
    assert contents(tmp_path / "back") == contents(source)
    assert not (tmp_path / "back" / RECORD).exists()


def test_a_single_file_has_its_record_beside_it(tmp_path):
    path = write(tmp_path / "in.safetensors", {"bad.a": torch.randn(2), "b": torch.randn(2)})
    convert_checkpoint(path, tmp_path / "out.safetensors", REMOVED)
    back = convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", REMOVED, reverse=True)
    assert back.by == "record"
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()


def test_lossy_folds_are_refused_unless_allowed(tmp_path):
    path = write(tmp_path / "in.safetensors", {"c.weight_g": torch.ones(3, 1), "c.weight_v": torch.randn(3, 4)})
    assert "cannot be undone" in refused(tmp_path, path, tmp_path / "out", FOLDED)


def test_lossy_folds_come_back_as_they_were(tmp_path):
    parts = [{"c.weight_g": torch.rand(3, 1), "c.weight_v": torch.randn(3, 4), "c.bias": torch.zeros(3)}]
    source = sharded(tmp_path / "source", parts)
    _, back = there_and_back(source, tmp_path, FOLDED, allow_lossy=True)
    assert set(tensors_of(tmp_path / "out")) == {"c.weight", "c.bias"}
    assert back.rounded == ()
    assert contents(tmp_path / "back") == contents(source)


def test_a_folded_weight_that_was_trained_since_is_unfolded_and_said(tmp_path):
    parts = [{"c.weight_g": torch.rand(3, 1), "c.weight_v": torch.randn(3, 4)}]
    source = sharded(tmp_path / "source", parts)
    convert_checkpoint(source, tmp_path / "out", FOLDED, allow_lossy=True)
    trained = torch.randn(3, 4)
    write(tmp_path / "out" / "model-00001-of-00001.safetensors", {"c.weight": trained})
    back = convert_checkpoint(tmp_path / "out", tmp_path / "back", FOLDED, reverse=True)
    assert set(back.rounded) == {"c.weight_g", "c.weight_v"}
    assert torch.equal(tensors_of(tmp_path / "back")["c.weight_v"], trained)


def test_other_shards_are_undone_too(source, tmp_path):
    there_and_back(source, tmp_path, EXPERTS, max_shard_size=100)
    assert contents(tmp_path / "back") == contents(source)


def test_a_wider_dtype_is_undone_byte_for_byte(tmp_path):
    path = write(tmp_path / "in" / "model.safetensors", {"a": torch.randn(5).bfloat16(), "n": torch.arange(3)})
    _, back = there_and_back(path.parent, tmp_path, PREFIX, dtype="float32")
    assert (back.rounded, contents(tmp_path / "back")) == ((), contents(path.parent))


def test_a_narrower_dtype_comes_back_rounded_and_said(tmp_path):
    path = write(tmp_path / "in" / "model.safetensors", {"a": torch.randn(5)})
    _, back = there_and_back(path.parent, tmp_path, PREFIX, dtype="bfloat16")
    assert back.rounded == ("a",)
    assert tensors_of(tmp_path / "back")["a"].dtype == torch.float32


def test_a_wrong_total_size_comes_back(source, tmp_path):
    index = json.loads((source / INDEX).read_text())
    index["metadata"]["total_size"] = 7
    (source / INDEX).write_text(json.dumps(index))
    there_and_back(source, tmp_path, PREFIX)
    assert contents(tmp_path / "back") == contents(source)


@pytest.mark.parametrize("metadata", [{}, {"note": "by hand"}])
def test_an_index_that_says_no_size_says_none_afterwards(source, tmp_path, metadata):
    index = json.loads((source / INDEX).read_text())
    (source / INDEX).write_text(json.dumps(index | {"metadata": metadata}))
    there_and_back(source, tmp_path, PREFIX)
    assert contents(tmp_path / "out")[1]["metadata"] == metadata
    assert contents(tmp_path / "back") == contents(source)


def test_the_reverse_is_undone_by_the_forward_conversion(tmp_path):
    source = sharded(tmp_path / "source", [{"a": torch.randn(2), "bad.b": torch.randn(2)}])
    mapping = REMOVED.reverse  # adds a level; its reverse removes it from half the keys
    convert_checkpoint(source, tmp_path / "out", mapping, reverse=True)
    back = convert_checkpoint(tmp_path / "out", tmp_path / "back", mapping)
    assert back.by == "record"
    assert contents(tmp_path / "back") == contents(source)


def test_keys_that_the_record_does_not_know_go_by_the_mapping(tmp_path):
    source = sharded(tmp_path / "source", [{"bad.a": torch.randn(2), "b": torch.randn(2)}])
    convert_checkpoint(source, tmp_path / "out", REMOVED)
    shard = tmp_path / "out" / "model-00001-of-00001.safetensors"
    write(shard, load_file(shard) | {"new": torch.ones(1)})
    convert_checkpoint(tmp_path / "out", tmp_path / "back", REMOVED, reverse=True)
    assert set(tensors_of(tmp_path / "back")) == {"bad.a", "b", "bad.new"}


def test_a_record_of_another_mapping_is_kept_and_not_followed(tmp_path):
    source = sharded(tmp_path / "source", [{"bad.a": torch.randn(2), "b": torch.randn(2)}])
    convert_checkpoint(source, tmp_path / "one", REMOVED)
    assert convert_checkpoint(tmp_path / "one", tmp_path / "two", PREFIX).recorded
    back = convert_checkpoint(tmp_path / "two", tmp_path / "three", PREFIX, reverse=True)
    assert back.by == "record"
    convert_checkpoint(tmp_path / "three", tmp_path / "four", REMOVED, reverse=True)
    assert contents(tmp_path / "four") == contents(source)


def test_two_lossy_conversions_are_undone_one_by_one(tmp_path):
    weights = {f"{n}.weight_{part}": torch.rand(3, size) for n in "ab" for part, size in (("g", 1), ("v", 4))}
    source = sharded(tmp_path / "source", [weights])
    first, second = (
        ConversionMapping([Convert([f"{n}.weight_g", f"{n}.weight_v"], f"{n}.weight", operations.FoldWeightNorm(0))])
        for n in "ab"
    )
    convert_checkpoint(source, tmp_path / "1", first, allow_lossy=True)
    convert_checkpoint(tmp_path / "1", tmp_path / "2", second, allow_lossy=True)
    convert_checkpoint(tmp_path / "2", tmp_path / "3", second, reverse=True)
    convert_checkpoint(tmp_path / "3", tmp_path / "4", first, reverse=True)
    assert contents(tmp_path / "4") == contents(source)


def test_an_unreadable_record_is_refused(tmp_path):
    path = write(tmp_path / "in" / "model.safetensors", {"a": torch.zeros(1)})
    (path.parent / RECORD).write_text("{")
    assert "record beside weights is unreadable" in refused(tmp_path, path.parent, tmp_path / "out", PREFIX)


@given(mappings_and_keys())
@settings(max_examples=60)
def test_whatever_a_mapping_makes_of_names_comes_back(case):
    transforms, keys = case
    mapping = ConversionMapping(t for t in transforms if not isinstance(t, Convert))
    with TemporaryDirectory() as folder:
        base = Path(folder)
        tensors = {key: torch.full((2,), float(at)) for at, key in enumerate(sorted(set(keys)))}
        path = write(base / "in.safetensors", tensors)
        try:
            convert_checkpoint(path, base / "out", mapping)
        except MappingError:
            reject()
        convert_checkpoint(base / "out", base / "back", mapping, reverse=True)
        assert (base / "back" / "in.safetensors").read_bytes() == path.read_bytes()


@given(operations_and_shapes())
def test_moves_of_bytes_do_what_the_operations_do(case):
    sequence, shapes = case
    moves = byte_moves(sequence, shapes)
    if moves is None:
        reject()
    given = [torch.randint(0, 1000, shape) for shape in shapes]
    expected = run(sequence, given)
    made = [torch.full((tensor.numel(),), -1) for tensor in expected]
    for move in moves:
        taken = given[move.source].reshape(-1)[move.begin : move.begin + move.length]
        made[move.target][move.at : move.at + move.length] = taken
    assert all(torch.equal(one, other.reshape(-1)) for one, other in zip(made, expected, strict=True))


# -- reading again -----------------------------------------------------------------------------------------------------


def test_verified_files_have_their_digests(source, tmp_path):
    result = convert_checkpoint(source, tmp_path / "out", EXPERTS, verify=True)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert result.digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("mapping", [PREFIX, EXPERTS], ids=["moved", "computed"])
def test_a_file_that_reads_otherwise_is_refused(source, tmp_path, monkeypatch, mapping):
    def damage(descriptor):
        """Change the last byte on the disk, where the file would be dropped from memory."""
        with Path(f"/proc/self/fd/{descriptor}").resolve().open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 255]))

    monkeypatch.setattr(writing, "forget", damage)
    assert "reads otherwise" in refused(tmp_path, source, tmp_path / "out", mapping, verify=True)
