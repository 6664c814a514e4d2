"""Emitted rules in transformers' own loading and saving: what has other names goes in, and comes out as it was."""

from __future__ import annotations

import pytest
import torch
from real_models import build, tiny
from safetensors.torch import load_file, save_file

from treealign import ConversionMapping, Convert, PrefixChange, Rename, TreealignError, emit, operations
from treealign.dialects.transformers.entries import run_source

LINEAR = "layers.{i}.self_attn.o_proj"
WAYS = {
    "a list that counts from one": [Rename("blk.{i:1..3}", "layers.{i-1}")],
    "a list that is cut in two": [Rename("first.{i:0..1}", "layers.{i}"), Rename("rest.{i:0..0}", "layers.{i+2}")],
    "an index inside a name": [Rename("layer_{i}", "layers.{i}")],
    "some layers compiled": [PrefixChange(remove="_orig_mod", under="layers.{part:0|2}.self_attn")],
    "compiled within checkpointed": [
        PrefixChange(remove="_checkpoint_wrapped_module", under="layers.{part:0|2}"),
        PrefixChange(remove="_orig_mod", under="layers.{i}.mlp"),
    ],
    "words carried over": [Rename("**.w{part:q|k|v}", "**.{part}_proj")],
    "names handed on": [Rename({"**.w1": "**.gate_proj", "**.gate_proj": "**.up_proj"})],
    "a tower, a level and a leaf": [
        PrefixChange(remove="module"),
        Rename("wte", "embed_tokens"),
        Rename("**.gamma$", "**.weight$", under="norm"),
    ],
    "one into unequal parts": [
        Convert(
            "layers.{i}.qkv.weight",
            [f"layers.{{i}}.self_attn.{part}_proj.weight" for part in "qkv"],
            [operations.Split(0, (8, 4, 4))],
        )
    ],
    "equal parts into one": [
        Convert(
            ["layers.{i}.half0.weight", "layers.{i}.half1.weight"], f"{LINEAR}.weight", [operations.Concat(0, (4, 4))]
        )
    ],
    "a kernel of one point": [
        Convert("layers.{i}.conv.weight", f"{LINEAR}.weight", [operations.Reshape((8, 8, 1), (8, 8))])
    ],
    "a matrix turned": [Convert("layers.{i}.c_proj.kernel", f"{LINEAR}.weight", [operations.Permute((1, 0))])],
}


def model():
    """Three layers, with fewer keys than queries."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 8}
    return build(tiny("LlamaModel", num_hidden_layers=3, num_key_value_heads=1, **sizes), 0)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_loaded_by_emitted_rules_is_right_and_saved_as_it_came(way, empty_registry, tmp_path):
    made = model()
    own = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    given = {key: tensor.contiguous() for key, tensor in ConversionMapping(WAYS[way]).reverse.apply(own)}
    assert given.keys() != own.keys()
    run_source(emit(WAYS[way], model=made, checkpoint=given))
    made.save_pretrained(tmp_path / "in", save_original_format=False)
    save_file(given, tmp_path / "in" / "model.safetensors", metadata={"format": "pt"})
    read, info = type(made).from_pretrained(tmp_path / "in", output_loading_info=True)
    assert not any(info.values()), info
    assert all(torch.equal(tensor, own[key]) for key, tensor in read.state_dict().items())
    read.save_pretrained(tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == given.keys()
    assert all(torch.equal(tensor, given[key]) for key, tensor in saved.items())


@pytest.mark.parametrize(
    ("operation", "reason"),
    [(operations.Concat(0, (6, 2)), r"6 \+ 2"), (operations.Reshape((2, 4, 8), (8, 8)), "Reshape")],
    ids=["unequal parts into one", "two axes into one"],
)
def test_what_transformers_could_not_bring_back_is_refused_by_name(operation, reason):
    sources = ["layers.{i}.half0.weight", "layers.{i}.half1.weight"][: 2 if "Concat" in repr(operation) else 1]
    with pytest.raises(TreealignError, match=reason):
        emit([Convert(sources, f"{LINEAR}.weight", [operation])])
