"""Folders that torch.distributed.checkpoint wrote, by one process or by two that share a model."""

from __future__ import annotations

import os
import pathlib
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from processes import together
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed import checkpoint as dcp

from treealign import KeyTree, Rename, load, read_tree, save
from treealign.checkpoint import loading
from treealign.checkpoint.conversion.converting import convert_checkpoint
from treealign.errors import FormatError, LoadError
from treealign.formats.safetensors_header import read_header

SMALL = ("up.weight", "up.bias", "down.weight")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False)).to(torch.bfloat16)


def written(folder: Path, what: object) -> Path:
    dcp.save(what, checkpoint_id=str(folder), no_dist=True)
    return folder


def trained() -> dict[str, object]:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    own = model().float()
    optimizer = torch.optim.Adam(own.parameters())
    own(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    weights, moments = get_state_dict(own, optimizer)
    return {"model": weights, "optim": moments, "step": 3, "scheduler": [torch.ones(2), {"x": torch.zeros(1)}]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that two processes wrote together."""
    base = tmp_path_factory.mktemp("shared")
    together(base, "save_distributed", base / "out")
    return base / "out"


def whole() -> dict[str, torch.Tensor]:
    from distributed_worker import small

    return small().state_dict()


def test_a_flat_state_dict_is_read_without_its_data(tmp_path):
    state = model().state_dict()
    tree = read_tree(written(tmp_path / "c", state))
    assert {leaf.key: (leaf.shape, leaf.dtype) for leaf in tree.leaves} == {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()
    }
    assert not tree.ordered


def test_names_are_those_of_the_model_within_what_was_saved(tmp_path):
    tree = read_tree(written(tmp_path / "c", trained()))
    assert (sorted(tree.keys), tree.source) == (sorted(model().state_dict()), f"{tmp_path / 'c'}['model']")


def test_two_models_in_one_folder_are_ambiguous(tmp_path):
    written(tmp_path / "c", {"generator": model().state_dict(), "critic": model().state_dict()})
    with pytest.raises(FormatError, match="more than one state dict"):
        read_tree(tmp_path / "c")


def test_the_metadata_may_be_named_itself(tmp_path):
    written(tmp_path / "c", model().state_dict())
    assert read_tree(tmp_path / "c" / ".metadata") == read_tree(tmp_path / "c")


def test_what_two_processes_wrote_is_one_tree(shared):
    assert len(list(shared.glob("*.distcp"))) == 2
    assert {leaf.key: leaf.shape for leaf in read_tree(shared).leaves} == {
        key: tuple(value.shape) for key, value in whole().items()
    }


def test_a_folder_of_two_processes_loads_as_torch_joins_it(shared):
    target = nn.ModuleDict({"first": nn.Linear(3, 5), "second": nn.Linear(5, 4, bias=False)})
    load(target, shared, [Rename("up", "first"), Rename("down", "second")])
    assert all(map(torch.equal, target.state_dict().values(), whole().values()))


@pytest.mark.parametrize("what", [lambda: model().state_dict(), lambda: {"model": model().state_dict()}])
def test_a_folder_of_one_process_loads_and_is_saved_under_its_names(tmp_path, what):
    own = model()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.zero_()
    load(own, written(tmp_path / "c", what()))
    save(own, tmp_path / "out")
    again = nn.Sequential(*model())
    load(again, tmp_path / "out")
    assert all(map(torch.equal, again.state_dict().values(), model().state_dict().values()))


def test_a_folder_is_converted_to_safetensors(shared, tmp_path):
    from safetensors.torch import load_file

    convert_checkpoint(shared, tmp_path / "out", [Rename("up", "first")])
    found = load_file(tmp_path / "out" / "model.safetensors")
    expected = {key.replace("up.", "first."): value for key, value in whole().items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_reading_the_metadata_imports_no_torch(shared):
    import subprocess
    import sys

    code = f"import sys, treealign; treealign.read_tree({str(shared)!r}); print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment) == "False\n"


def changed(folder: Path, change: object) -> Path:
    """The folder with other metadata."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))
    return folder


def part(metadata: object, key: str) -> object:
    return next(info for index, info in metadata.storage_data.items() if index.fqn == key)


def shrink(metadata):
    metadata.state_dict_metadata["0.weight"].chunks[0].sizes = torch.Size([2, 4])


def grow(metadata):
    metadata.state_dict_metadata["0.weight"].size = torch.Size([2, 4])


def forget(metadata):
    for index in [one for one in metadata.storage_data if one.fqn == "0.weight"]:
        del metadata.storage_data[index]


def escape(metadata):
    part(metadata, "0.weight").relative_path = "../other/__0_0.distcp"


def rename(metadata):
    part(metadata, "0.weight").relative_path = "__1_0.distcp"


def overrun(metadata):
    part(metadata, "0.weight").length = 10**9


def zip_up(metadata):
    part(metadata, "0.weight").transform_descriptors = ["zstd"]


def double(metadata):
    entry = metadata.state_dict_metadata["0.weight"]
    info = part(metadata, "0.weight")
    halves = [torch.Size([0, 0]), torch.Size([1, 0])]
    entry.chunks = [type(entry.chunks[0])(offset, torch.Size([2, 4])) for offset in halves]
    entry.size = torch.Size([4, 4])
    forget(metadata)
    metadata.storage_data |= {dcp.metadata.MetadataIndex("0.weight", offset): info for offset in halves}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shrink, "its parts hold 8 numbers, its shape [3, 4] has 12"),
        (grow, "a part lies outside of its shape [2, 4]"),
        (double, "its parts overlap"),
        (forget, "a part of a tensor is stored nowhere"),
        (escape, "stored in ../other/__0_0.distcp"),
        (rename, "__1_0.distcp: absent"),
        (overrun, "are needed"),
        (zip_up, "stored through zstd"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, change, said):
    folder = changed(written(tmp_path / "c", model().state_dict()), change)
    with pytest.raises(FormatError) as caught:
        read_tree(folder)
    assert said in str(caught.value)


def test_a_part_that_is_not_what_the_metadata_say_is_refused_when_it_is_read(tmp_path):
    def exchange(metadata):
        ours, others = part(metadata, "0.weight"), part(metadata, "2.weight")
        ours.offset, ours.length = others.offset, others.length

    folder = changed(written(tmp_path / "c", model().state_dict()), exchange)
    own = model().to("meta")
    with pytest.raises(Exception, match=r"a part of 0\.weight is not what it should be"):
        load(own, folder)
    assert all(parameter.is_meta for parameter in own.parameters())


def test_metadata_that_pickle_anything_else_are_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    def poison(metadata):
        metadata.planner_data = Evil()

    folder = changed(written(tmp_path / "c", model().state_dict()), poison)
    with pytest.raises(FormatError, match=r"posix\.system"):
        read_tree(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x04N.", b"{}", b"\x80\x04]\x94(K\x01K\x02e."])
def test_what_is_no_metadata_is_refused(tmp_path, content):
    (tmp_path / ".metadata").write_bytes(content)
    with pytest.raises(FormatError, match="no metadata of a distributed checkpoint"):
        read_tree(tmp_path)


def test_metadata_cut_anywhere_are_refused(tmp_path):
    raw = (written(tmp_path / "c", model().state_dict()) / ".metadata").read_bytes()
    for length in range(0, len(raw), 7):
        (tmp_path / "c" / ".metadata").write_bytes(raw[:length])
        with pytest.raises(FormatError):
            read_tree(tmp_path / "c")


def test_a_part_alone_is_refused_with_the_way_to_read_it(tmp_path):
    folder = written(tmp_path / "c", model().state_dict())
    with pytest.raises(FormatError, match="pass the folder it is in"):
        read_tree(folder / "__0_0.distcp")
    (folder / ".metadata").unlink()
    with pytest.raises(FormatError, match="its metadata is absent"):
        read_tree(folder)


def test_safetensors_in_the_same_folder_go_before(tmp_path):
    folder = written(tmp_path / "c", model().state_dict())
    save(nn.Linear(2, 2), folder)
    assert sorted(read_tree(folder).keys) == ["bias", "weight"]
    assert read_header(folder / "model.safetensors")


def test_a_distributed_folder_elsewhere_is_read_by_its_metadata(tmp_path):
    import fsspec

    folder = written(tmp_path / "c", model().state_dict())
    system = fsspec.filesystem("memory")
    for file in folder.iterdir():
        system.pipe(f"/dcp/{file.name}", file.read_bytes())
    try:
        assert read_tree("memory://dcp") == read_tree(folder)
    finally:
        system.rm("/dcp", recursive=True)


def test_an_enum_that_python_3_11_2_pickled_by_getattr_is_read(tmp_path, monkeypatch):
    from torch.distributed.checkpoint import metadata

    (encoding,) = (kind for name, kind in vars(metadata).items() if name.endswith("MEM_FORMAT_ENCODING"))
    monkeypatch.setattr(encoding, "__reduce_ex__", lambda member, protocol: (getattr, (encoding, member.name)))
    folder = written(tmp_path / "old", {"weight": torch.arange(6.0)})
    assert b"getattr" in (folder / ".metadata").read_bytes()
    assert read_tree(folder).leaves == KeyTree.from_leaves([("weight", (6,), "float32")]).leaves


def test_a_path_that_python_3_13_pickled_by_its_own_module_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pathlib._local", pathlib)
    monkeypatch.setattr(type(tmp_path), "__module__", "pathlib._local")
    folder = written(tmp_path / "new", {"weight": torch.arange(6.0)})
    assert b"pathlib._local" in (folder / ".metadata").read_bytes()
    assert read_tree(folder).leaves == KeyTree.from_leaves([("weight", (6,), "float32")]).leaves


@pytest.mark.parametrize("given", [(str, "mro"), ("", "join"), (b"", "hex")])
def test_getattr_of_anything_else_is_refused(tmp_path, given):
    class Attribute:
        def __reduce__(self):
            return getattr, given

    (tmp_path / ".metadata").write_bytes(pickle.dumps(Attribute()))
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    with pytest.raises(FormatError):
        read_tree(tmp_path)


def test_the_model_of_a_run_of_accelerate_is_found_beside_its_optimizer(tmp_path):
    state = {"layer.weight": torch.randn(3, 2), "layer.bias": torch.randn(3)}
    dcp.save({"model": state}, checkpoint_id=tmp_path / "run/pytorch_model_fsdp_0")
    dcp.save({"optimizer": {"state": torch.zeros(3)}}, checkpoint_id=tmp_path / "run/optimizer_0")
    torch.save({"epoch": torch.tensor(1)}, tmp_path / "run/sampler.bin")
    assert set(read_tree(tmp_path / "run").keys) == state.keys()
    convert_checkpoint(tmp_path / "run", tmp_path / "out", [Rename("layer", "linear")])
    made = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(made["linear.weight"], state["layer.weight"])
    assert not list((tmp_path / "out").rglob("*.distcp"))


def test_a_second_model_of_a_run_is_not_passed_over(tmp_path):
    for name in ("model", "model_1"):
        save_file({"w": torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(FormatError, match="more than one checkpoint") as caught:
        read_tree(tmp_path)
    assert "model_1.safetensors" in str(caught.value)


def test_parts_that_are_written_again_while_they_are_loaded_are_refused(tmp_path, monkeypatch):
    state = {"w": torch.zeros(4, 4)}
    written(tmp_path / "c", state)
    judge = loading.judge

    def overtaken(*arguments, **named):
        for path in (tmp_path / "c").glob("*.distcp"):
            path.write_bytes(path.read_bytes())
        return judge(*arguments, **named)

    monkeypatch.setattr(loading, "judge", overtaken)
    made = nn.ParameterDict({"w": torch.ones(4, 4)})
    with pytest.raises(LoadError, match="has changed since"):
        load(made, tmp_path / "c", [])
    assert made["w"].sum() == 16
