"""An index comes back as it was written, and shards are cut as huggingface_hub cuts them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from dying import snapshot
from huggingface_hub import save_torch_state_dict
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from treealign import ConversionMapping, PrefixChange, Rename, convert_checkpoint, load, save
from treealign.formats.index_text import USUAL, IndexText, text_of

NAMES = ("größe", "b", "a")
TEXTS = {
    "as transformers": {"indent": 2, "sort_keys": True, "end": "\n"},
    "in order of definition": {"indent": 2, "end": "\n"},
    "not escaped": {"indent": 4, "ensure_ascii": False, "end": ""},
    "on one line": {"end": ""},
    "compact": {"separators": (",", ":"), "sort_keys": True, "end": "\n"},
    "with tabs": {"indent": "\t", "end": "\r\n"},
    "shards first": {"indent": 2, "turned": True, "end": "\n"},
}


def folder_of(path, style, prefix="old."):
    """Two shards of a model, and their index written so."""
    options = dict(style)
    end, turned = options.pop("end"), options.pop("turned", False)
    path.mkdir()
    where = {f"{prefix}{name}": f"model-{at // 2 + 1:05d}-of-00002.safetensors" for at, name in enumerate(NAMES)}
    for shard in dict.fromkeys(where.values()):
        held = {key: torch.randn(2) for key in where if where[key] == shard}
        save_file(held, path / shard, metadata={"format": "pt"})
    content = {"metadata": {"total_size": 24, "made_by": "ñ"}, "weight_map": where}
    content = dict(reversed(content.items())) if turned else content
    text = json.dumps(content, **options) + end
    (path / "model.safetensors.index.json").write_bytes(text.encode())
    return path


@pytest.mark.parametrize("style", TEXTS.values(), ids=TEXTS)
def test_a_save_writes_the_index_as_it_was(tmp_path, style):
    source = folder_of(tmp_path / "in", style)
    model = nn.ParameterDict({name: torch.zeros(2) for name in NAMES})
    load(model, source, [PrefixChange(remove="old")])
    save(model, tmp_path / "out")
    wanted = snapshot(source)
    assert {path: content for path, content in snapshot(tmp_path / "out").items() if path in wanted} == wanted


@pytest.mark.parametrize("style", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("lossy", [False, True], ids=["by the mapping", "by a record"])
def test_a_conversion_and_back_gives_the_index_as_it_was(tmp_path, style, lossy):
    source = folder_of(tmp_path / "in", style)
    rules = ConversionMapping([Rename("old", "new")])
    convert_checkpoint(source, tmp_path / "there", rules, max_shard_size=8 if lossy else None)
    convert_checkpoint(tmp_path / "there", tmp_path / "back", rules, reverse=True)
    assert snapshot(tmp_path / "back") == snapshot(source)
    if not lossy:
        here, there = (path / "model.safetensors.index.json" for path in (source, tmp_path / "there"))
        assert there.read_bytes() == here.read_bytes().replace(b'"old.', b'"new.')


@pytest.mark.parametrize("style", TEXTS.values(), ids=TEXTS)
def test_in_place_the_index_keeps_its_text(tmp_path, style):
    source = folder_of(tmp_path / "in", style)
    shutil.copytree(source, tmp_path / "kept")
    rules = ConversionMapping([Rename("old", "new")])
    convert_checkpoint(source, None, rules, in_place=True)
    convert_checkpoint(source, None, rules, reverse=True, in_place=True)
    assert snapshot(source) == snapshot(tmp_path / "kept")


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.sampled_from(["x", "y"]), min_size=1),
    st.dictionaries(st.sampled_from(["total_size", "b", "a"]), st.integers()),
    st.builds(
        IndexText,
        indent=st.sampled_from([None, "", " ", "  ", "\t"]),
        escaped=st.booleans(),
        end=st.sampled_from(["", "\n", "\n\n", " "]),
        ordered=st.booleans(),
        first=st.sampled_from(["metadata", "weight_map"]),
    ),
)
def test_every_text_that_can_be_written_is_read(weight_map, metadata, text):
    raw = text.write(weight_map, metadata)
    value = json.loads(raw)
    assert text_of(raw, value["weight_map"], value["metadata"]).write(value["weight_map"], value["metadata"]) == raw


def test_a_text_that_nothing_here_would_write_is_written_as_usual():
    raw = b'{"weight_map" : {"a": "x"}, "metadata": {}}'
    assert text_of(raw, {"a": "x"}, {}) == USUAL


def read(path, held):
    return json.loads(held) if path.suffix == ".json" else held


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from([torch.float32, torch.float16])), min_size=1, max_size=8))
def test_shards_and_index_are_those_of_huggingface_hub(tmp_path_factory, sizes):
    base = tmp_path_factory.mktemp("cut")
    model = nn.ParameterDict()
    for at, (size, dtype) in enumerate(sizes):
        model[f"p{(7 * at) % 9}ü"] = torch.full((size,), float(at), dtype=dtype)
    save(model, base / "ours", max_shard_size=24)
    (base / "theirs").mkdir()
    save_torch_state_dict(model.state_dict(), base / "theirs", max_shard_size=24)
    ours, theirs = (snapshot(base / name) for name in ("ours", "theirs"))
    # the index is written as transformers writes it: sorted, and with a line end
    assert {path: read(path, held) for path, held in ours.items()} == {p: read(p, held) for p, held in theirs.items()}
