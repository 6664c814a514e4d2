"""What other programs export is read as far as headers tell, and loaded where its numbers lie as they are."""

from __future__ import annotations

import json
import re
import struct
import tarfile
import zipfile

import gguf
import h5py
import msgpack
import numpy as np
import onnx
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from onnx import helper, numpy_helper
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from treealign import KeyTree, TreealignError, load, read_tree, save, suggest
from treealign.cli.verbs import app
from treealign.errors import FormatError
from treealign.formats.exports.gguf import BLOCKS, PLAIN

SHAPES = {f"layers.{i}.{name}.weight": shape for i in range(2) for name, shape in (("a", (4, 6)), ("b", (6, 32)))}


def arrays():
    drawn = np.random.default_rng(0)
    return {key: drawn.normal(size=shape).astype("float32") for key, shape in SHAPES.items()}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict({"a": torch.nn.Linear(6, 4, bias=False), "b": torch.nn.Linear(32, 6, bias=False)})
            for _ in range(2)
        )


def nested(tensors, leaf):
    tree = {}
    for key, value in tensors.items():
        *path, last = key.split(".")
        place = tree
        for segment in path:
            place = place.setdefault(segment, {})
        place[last] = leaf(value)
    return tree


def as_gguf(path, tensors, architecture="llama", **quantised):
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    writer.add_array("tokenizer.ggml.scores", [1.0, 2.0])
    writer.add_float32("llama.rope.freq_base", 1e4)
    for key, value in tensors.items():
        writer.add_tensor(key, np.ascontiguousarray(value))
    for key, value in quantised.items():
        blocks = gguf.quants.quantize(value, GGMLQuantizationType.Q8_0)
        writer.add_tensor(key, blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_onnx(path, tensors):
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    initialisers = [numpy_helper.from_array(array, key) for key, array in tensors.items()]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], initialisers)
    onnx.save(helper.make_model(graph), path)


def as_hdf5(path, tensors):
    with h5py.File(path, "w") as file:
        for key, value in tensors.items():
            file[key.replace(".", "/")] = value


def flax_array(value):
    """As `flax.serialization` packs one."""
    return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes("C"))))


def as_flax(path, tensors):
    path.write_bytes(msgpack.packb(nested(tensors, flax_array)))


WRITERS = {
    "m.gguf": as_gguf,
    "m.onnx": as_onnx,
    "m.weights.h5": as_hdf5,
    "m.msgpack": as_flax,
    "m.npz": lambda path, tensors: np.savez(path, **tensors),
}


@pytest.mark.parametrize("name", WRITERS)
def test_names_shapes_and_dtypes_are_read_here_and_elsewhere_and_the_numbers_are_loaded(name, tmp_path):
    WRITERS[name](tmp_path / name, arrays())
    for source in (tmp_path / name, f"file://{tmp_path / name}"):
        leaves = {leaf.key: (leaf.shape, leaf.dtype) for leaf in read_tree(source).leaves}
        assert leaves == {key: (shape, "float32") for key, shape in SHAPES.items()}
    model = Net()
    load(model, tmp_path / name)
    assert all(np.array_equal(model.state_dict()[key].numpy(), value) for key, value in arrays().items())
    save(model, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == SHAPES.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_was_cut_short_is_refused_and_says_so(name, tmp_path):
    WRITERS[name](tmp_path / "whole", arrays())
    whole = next(tmp_path.glob("whole*")).read_bytes()
    for length in (len(whole) - 40, len(whole) // 2, 30):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_tree(tmp_path / name)


def npz_of_another_header(path, tensors):
    np.savez(path, **{key: value.reshape(-1)[:-1] for key, value in tensors.items()})
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            count = int(re.search(rb"\((\d+),\)", data).group(1))
            archive.writestr(name, data.replace(b"(%d,)" % count, b"(%d,)" % (count + 1)))


def onnx_of_another_shape(path, tensors):
    as_onnx(path, tensors)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.dims[0] += 1
    path.write_bytes(model.SerializeToString())


def flax_of_another_shape(path, tensors):
    def leaf(value):
        return msgpack.ExtType(1, msgpack.packb(((value.shape[0] - 1, *value.shape[1:]), "float32", value.tobytes())))

    path.write_bytes(msgpack.packb(nested(tensors, leaf)))


DAMAGED = {"m.npz": npz_of_another_header, "m.onnx": onnx_of_another_shape, "m.msgpack": flax_of_another_shape}


@pytest.mark.parametrize("name", DAMAGED)
def test_bytes_that_are_not_those_of_the_shape_are_refused(name, tmp_path):
    DAMAGED[name](tmp_path / name, arrays())
    with pytest.raises(FormatError, match="by its shape"):
        read_tree(tmp_path / name)


ODD = [5, None, "x", [None], ["a"], [[2]], {"1": 2}, [-1], [1 << 70], [1] * 100]


@pytest.mark.parametrize("shape", ODD, ids=repr)
def test_a_shape_that_is_none_is_refused_in_words(shape, tmp_path):
    """Whatever msgpack or JSON can hold may stand where a file announces a shape."""
    told = shape if shape != [1 << 70] else [1 << 63]
    packed = msgpack.ExtType(1, msgpack.packb((told, "float32", b"1234")))
    chunked = {"__msgpack_chunked_array__": True, "shape": told, "chunks": {"0": flax_array(np.zeros(1, "float32"))}}
    for leaf in (packed, chunked):
        (tmp_path / "m.msgpack").write_bytes(msgpack.packb({"a": leaf}))
        with pytest.raises(FormatError):
            read_tree(tmp_path / "m.msgpack")
    folder = tmp_path / "orbax"
    (folder / "a").mkdir(parents=True)
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": {"a": {"key_metadata": [{"key": "a"}]}}}))
    (folder / "a" / ".zarray").write_text(json.dumps({"shape": shape}))
    with pytest.raises(FormatError):
        read_tree(folder)


def onnx_of_fields(path):
    path.write_bytes(b"\x08\x01" * 2_100_000)


def onnx_of_dimensions(path):
    tensor = b"\x0a\x80\x80\x04" + b"\x01" * (1 << 16)
    graph = b"\x2a\x84\x80\x04" + tensor
    path.write_bytes(b"\x08\x08\x3a\x88\x80\x04" + graph)


def gguf_of_a_long_text(path):
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 36))
        file.truncate(1 << 40)


def nemo_of_a_long_header(path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 37
    with path.open("wb") as file:
        file.write(entry.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 38)


def npz_of_a_long_directory(path):
    directory = b"\0" * (1 << 24)
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), 4, 0)
    path.write_bytes(b"PK\x03\x04" + directory + b"PK\x05\x06" + end)


def npz_of_a_header_that_is_no_python(path):
    with zipfile.ZipFile(path, "w") as archive:
        header = b"{'shape': " + b"(" * 5000
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def hdf5_of_many_levels(path):
    with h5py.File(path, "w") as file:
        file["/".join(["a"] * 250)] = np.zeros(1)


HOSTILE = {
    "fields.onnx": onnx_of_fields,
    "dimensions.onnx": onnx_of_dimensions,
    "text.gguf": gguf_of_a_long_text,
    "header.nemo": nemo_of_a_long_header,
    "directory.npz": npz_of_a_long_directory,
    "directory.pt": npz_of_a_long_directory,
    "header.npz": npz_of_a_header_that_is_no_python,
    "levels.h5": hdf5_of_many_levels,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_beyond_any_real_one_is_refused_at_once(name, tmp_path):
    HOSTILE[name](tmp_path / name)
    with pytest.raises(FormatError):
        read_tree(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["tree.json", "model.safetensors.index.json", "_METADATA", ".metadata", "tp_plan.json"]
)
def test_a_text_of_a_terabyte_is_refused_at_once(name, tmp_path):
    with (tmp_path / name).open("wb") as file:
        file.write(b'{"format": "treealign.tree", ')
        file.truncate(1 << 40)
    for part in ("0", "1") if name == "tp_plan.json" else ():
        save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / f"model-{part}.safetensors")
    with pytest.raises(FormatError, match="of which at most"):
        read_tree(tmp_path / name if name.endswith("tree.json") else tmp_path)


def test_types_of_gguf_are_those_of_its_package():
    sizes = {kind.value: (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    assert sizes.items() >= BLOCKS.items()
    assert PLAIN.keys() | BLOCKS.keys() >= sizes.keys()


def test_blocks_are_shown_with_their_type_and_not_loaded(tmp_path):
    as_gguf(tmp_path / "m.gguf", {}, quantised=np.ones((4, 64), "float32"))
    assert "Q8_0" in CliRunner().invoke(app, ["show", str(tmp_path / "m.gguf")]).output
    with pytest.raises(FormatError, match="only names, shapes and dtypes") as caught:
        load(torch.nn.ParameterDict({"quantised": torch.zeros(4, 64)}), tmp_path / "m.gguf")
    assert "gguf_file" in str(caught.value)


def test_numbers_of_another_byte_order_are_refused(tmp_path):
    as_gguf(tmp_path / "m.gguf", arrays())
    raw = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(raw[:4] + raw[4:8][::-1] + raw[8:])
    with pytest.raises(FormatError, match="big endian"):
        read_tree(tmp_path / "m.gguf")


def test_a_folder_with_several_quantisations_is_a_question(tmp_path):
    for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf"):
        as_gguf(tmp_path / name, arrays())
    with pytest.raises(FormatError, match="pass the file"):
        read_tree(tmp_path)
    (tmp_path / "m-Q8_0.gguf").unlink()
    assert len(read_tree(tmp_path)) == len(SHAPES)


def test_an_archive_of_nemo_shows_its_weights(tmp_path):
    torch.save({key: torch.tensor(value) for key, value in arrays().items()}, tmp_path / "model_weights.ckpt")
    with tarfile.open(tmp_path / "m.nemo", "w") as archive:
        archive.add(tmp_path / "model_weights.ckpt", "./model_weights.ckpt")
    assert {leaf.key: leaf.shape for leaf in read_tree(tmp_path / "m.nemo").leaves} == SHAPES
    with pytest.raises(FormatError, match="tar -xf"):
        load(Net(), tmp_path / "m.nemo")


def test_a_folder_of_orbax_shows_names_and_what_shapes_it_has(tmp_path):
    paths = {key: {"key_metadata": [{"key": one, "key_type": 2} for one in key.split(".")]} for key in SHAPES}
    (tmp_path / "_METADATA").write_text(json.dumps({"tree_metadata": paths}))
    assert {leaf.key: leaf.shape for leaf in read_tree(tmp_path).leaves} == dict.fromkeys(SHAPES)
    said = [{"array_metadata": {"param_name": key, "write_shape": shape}} for key, shape in SHAPES.items()]
    (tmp_path / "array_metadatas").mkdir()
    (tmp_path / "array_metadatas" / "process_0").write_text(json.dumps({"array_metadatas": said}))
    assert {leaf.key: leaf.shape for leaf in read_tree(tmp_path).leaves} == SHAPES
    # where several processes write, each may have written a part
    (tmp_path / "array_metadatas" / "process_1").write_text(json.dumps({"array_metadatas": said}))
    assert {leaf.key: leaf.shape for leaf in read_tree(tmp_path).leaves} == dict.fromkeys(SHAPES)


def decoder(kind, **more):
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {} if kind == "mamba" else {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **heads, **more)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / 4)
    return model


def as_llama_cpp(model, architecture, path, change):
    """The names that the package `gguf` gives, and the arithmetic of llama.cpp's converter."""
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, 2)
    tied = model.config.tie_word_embeddings
    own = {key: value.numpy() for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    named = {names.get_name(key, (".weight", ".bias")) or names.get_name(key): change(key, own[key]) for key in own}
    as_gguf(path, named, architecture)


def norms_plus_one(key, value):
    return value + 1 if key.endswith("norm.weight") else value


def decays(key, value):
    return -np.exp(value) if key.endswith("A_log") else value[:, 0] if key.endswith("conv1d.weight") else value


ARITHMETIC = {
    "gemma": ("gemma", norms_plus_one, {}),
    "gemma2": ("gemma2", norms_plus_one, {}),
    "gemma3": ("gemma3_text", norms_plus_one, {}),
    "nemotron": ("nemotron", norms_plus_one, {}),
    "mamba": ("mamba", decays, {"state_size": 4}),
    "qwen3": ("qwen3", lambda _, value: value, {}),
}


@pytest.mark.parametrize("architecture", ARITHMETIC)
def test_what_llama_cpp_computes_is_undone_or_refused_and_comes_back_as_it_was(architecture, tmp_path):
    kind, change, more = ARITHMETIC[architecture]
    trained, path = decoder(kind, **more), tmp_path / "m.gguf"
    as_llama_cpp(trained, architecture, path, change)
    model = decoder(kind, **more)
    if architecture != "qwen3":
        with pytest.raises(TreealignError, match="lossy"):
            load(model, path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load(model, path, allow_lossy=True)
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    save(model, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    held = {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    assert written.keys() == held.keys()
    assert all(torch.equal(written[key], value) for key, value in held.items())


def test_the_architecture_tells_where_no_class_does(tmp_path):
    trained = decoder("gemma2")
    as_llama_cpp(trained, "gemma2", tmp_path / "m.gguf", norms_plus_one)
    bare = {key: value for key, value in trained.state_dict().items() if key != "lm_head.weight"}
    found = suggest(tmp_path / "m.gguf", bare)
    norms = {key for match in found.matches if match.operations for key in match.model}
    assert norms == {key for key in bare if key.endswith("norm.weight")}


def of_architecture(tree, name):
    return KeyTree(tree.leaves, tree.modules, tree.tied, tree.ordered, tree.source, tree.trace, name or "")


def llama_cpp_norms(architecture, module=None, second=None):
    """A norm of a GGUF of this architecture against one of a module of this class."""
    leaves = [("blk.0.attn_norm.weight", (4,), "float32"), ("blk.0.ffn.weight", (4, 6), "float32")]
    file = of_architecture(KeyTree.from_leaves(leaves), architecture)
    named = [(key.replace("blk", "layers"), shape, kind) for key, shape, kind in leaves]
    classes = {"layers.0.attn_norm": module} if module else None
    model = of_architecture(KeyTree.from_leaves(named, modules=classes, ordered=True), second)
    (found,) = [m for m in suggest(file, model).matches if "norm" in m.model[0]]
    return found.certain, [type(o).__name__ for o in found.operations]


def test_numbers_of_which_nobody_knows_whether_the_model_undoes_them_stay_open():
    assert llama_cpp_norms("gemma", "GemmaRMSNorm") == (True, ["MinusOne"])
    assert llama_cpp_norms("gemma", "LigerRMSNormForGemma") == (False, ["MinusOne"])
    assert llama_cpp_norms("qwen3next") == (False, ["MinusOne"])
    assert llama_cpp_norms("qwen3next", "Qwen3NextRMSNormGated") == (True, [])


def test_two_files_of_one_library_hold_the_same_numbers():
    assert llama_cpp_norms("gemma", second="gemma") == (True, [])
