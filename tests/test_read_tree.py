"""`read_tree`: one tree, whatever it is read from."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from byte_builders import file_bytes, tensor, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import safetensors_bytes, texts_like_json
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from treealign import KeyTree, read_tree
from treealign.errors import FormatError, TreealignError


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight


# -- modules -----------------------------------------------------------------------------------------------------------


def test_a_key_tree_is_read_as_itself():
    tree = KeyTree.from_leaves([("a", (1,), "float32")])
    assert read_tree(tree) is tree


def test_a_module_gives_its_leaves_in_order_of_definition():
    module = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.bfloat16), nn.LayerNorm(2))
    tree = read_tree(module)
    assert tree.ordered
    assert tree.leaves == (
        ("0.weight", (2, 1, 3, 3), "bfloat16", "parameter"),
        ("0.bias", (2,), "bfloat16", "parameter"),
        ("1.weight", (2,), "float32", "parameter"),
        ("1.bias", (2,), "float32", "parameter"),
    )


def test_a_module_gives_the_classes_of_its_parts():
    assert read_tree(nn.Sequential(nn.Linear(1, 1))).modules == {"": "Sequential", "0": "Linear"}


def test_persistent_buffers_are_leaves_and_others_are_not():
    module = nn.BatchNorm1d(2)
    module.register_buffer("scratch", torch.zeros(1), persistent=False)
    buffers = [leaf.key for leaf in read_tree(module).leaves if leaf.kind == "buffer"]
    assert buffers == ["running_mean", "running_var", "num_batches_tracked"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_parameters_are_noticed_on_every_device(device):
    with torch.device(device):
        tree = read_tree(Tied())
    assert (tree.keys, tree.tied) == (("embed.weight", "head.weight"), {"head.weight": "embed.weight"})


def test_equal_but_separate_parameters_are_not_tied():
    assert read_tree(nn.Sequential(nn.LayerNorm(2), nn.LayerNorm(2))).tied == {}


def test_different_views_of_one_storage_are_not_tied():
    module = Tied()
    module.part = nn.Parameter(module.embed.weight.detach()[:3])
    assert "part" not in read_tree(module).tied


def test_a_module_that_stands_in_two_places_is_tied_and_named_twice():
    shared = nn.Linear(2, 2)
    tree = read_tree(nn.ModuleDict({"a": shared, "b": shared}))
    assert tree.tied == {"b.weight": "a.weight", "b.bias": "a.bias"}
    assert tree.modules["a"] == tree.modules["b"] == "Linear"


def declaring(ties):
    """A module that states ties as transformers models do."""
    module = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in "abc"})
    module.all_tied_weights_keys = ties
    return module


def test_a_declared_tie_counts_on_the_meta_device():
    with torch.device("meta"):
        model = nn.ModuleDict({"inner": declaring({"c.weight": "a.weight", "gone": "a.weight"})})
    assert read_tree(model).tied == {"inner.c.weight": "inner.a.weight"}


def test_a_declared_tie_that_memory_contradicts_does_not_count():
    assert read_tree(declaring({"c.weight": "a.weight"})).tied == {}


def test_a_declaration_decides_which_key_stands_for_both():
    model = declaring({"a.weight": "c.weight"})
    model["c"].weight = model["a"].weight
    assert read_tree(model).tied == {"a.weight": "c.weight"}


def test_a_chain_of_declared_ties_has_one_end():
    with torch.device("meta"):
        model = declaring({"a.weight": "b.weight", "b.weight": "c.weight"})
    assert read_tree(model).tied == {"a.weight": "c.weight", "b.weight": "c.weight"}


def test_a_circle_of_declared_ties_has_an_end_too():
    with torch.device("meta"):
        model = declaring({"a.weight": "b.weight", "b.weight": "a.weight"})
    assert read_tree(model).tied == {"b.weight": "a.weight"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_ties_of_a_transformers_model_are_noticed(device):
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device(device):
        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=8))
    assert read_tree(model).tied == {"lm_head.weight": "transformer.wte.weight"}


def test_parametrized_weights_have_the_names_they_are_saved_under():
    keys = read_tree(weight_norm(nn.Linear(2, 2))).keys
    assert keys == ("bias", "parametrizations.weight.original0", "parametrizations.weight.original1")


def test_hooks_rename_keys_as_they_do_on_saving():
    module = nn.Linear(2, 2)
    module.register_state_dict_post_hook(lambda _, state, prefix, __: state.update(w=state.pop("weight")))
    assert read_tree(module).keys == ("bias", "w")


def test_a_compiled_module_has_the_names_it_is_saved_under():
    assert read_tree(torch.compile(nn.Linear(2, 2, bias=False))).keys == ("_orig_mod.weight",)


def test_extra_state_is_no_leaf():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"any": "thing"}

    assert read_tree(Extra(1, 1)).keys == ("weight", "bias")


def test_a_lazy_module_has_unknown_shapes():
    leaf = read_tree(nn.LazyLinear(3)).leaf("weight")
    assert (leaf.shape, leaf.dtype) == (None, "float32")


def test_a_model_without_parameters_is_an_empty_tree():
    assert len(read_tree(nn.ReLU())) == 0


def test_reading_a_module_changes_nothing():
    module = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    read_tree(module)
    after = module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert module.weight.requires_grad


# -- state dicts -------------------------------------------------------------------------------------------------------


def test_the_state_dict_of_a_module_is_ordered():
    tree = read_tree(nn.Linear(2, 3).state_dict())
    assert (tree.ordered, tree.keys) == (True, ("weight", "bias"))


def test_any_other_dict_may_be_in_any_order():
    tree = read_tree({"b": torch.zeros(1), "a": torch.zeros(2)})
    assert (tree.ordered, tree.keys) == (False, ("a", "b"))


def test_tied_entries_of_a_state_dict_are_noticed():
    assert read_tree(Tied().state_dict()).tied == {"head.weight": "embed.weight"}


def test_arrays_of_numpy_are_tensors_too():
    assert read_tree({"a": np.zeros((2, 3), dtype="float16")}).leaves == (("a", (2, 3), "float16", "parameter"),)


def test_an_empty_state_dict_is_an_empty_tree():
    assert len(read_tree({})) == 0


def test_a_dict_of_other_things_is_refused_with_all_of_them():
    with pytest.raises(TreealignError) as caught:
        read_tree({"a": torch.zeros(1), "epoch": 3, 7: torch.zeros(1), "model": {}})
    assert caught.value.facts == ("'epoch': int", "7: Tensor", "'model': dict")


@pytest.mark.parametrize("source", [None, 3, [1], object])
def test_what_has_no_leaves_is_refused(source):
    with pytest.raises(TreealignError, match="cannot read a tree from"):
        read_tree(source)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_a_safetensors_file_is_not_ordered_and_knows_no_kinds(tmp_path, as_path):
    header = {"layers.10.w": tensor("BF16", [2], 0, 4), "layers.2.w": tensor("I64", [], 4, 12)}
    tree = read_tree(as_path(write(tmp_path / "m.safetensors", file_bytes(header, 12))))
    assert tree.leaves == (("layers.2.w", (), "int64", "parameter"), ("layers.10.w", (2,), "bfloat16", "parameter"))
    assert (tree.ordered, tree.source) == (False, str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("key", ["", ".", ".a", "a.", "a..b", "größe.😀", "{i}", " ", "a\nb", ".".join("x" * 10_000)])
def test_strange_names_are_read(tmp_path, key):
    tree = read_tree(write(tmp_path / "m.safetensors", file_bytes({key: tensor(), "z": tensor(begin=4, end=8)}, 8)))
    assert key in tree
    assert len(tree.folds) == 2


def test_an_absent_path_is_refused():
    with pytest.raises(FormatError, match="there is no such file or folder"):
        read_tree("no/such/model")


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_path_that_can_be_none_is_refused(name):
    with pytest.raises(FormatError):
        read_tree(name)


def test_a_file_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(FormatError, match="not a checkpoint but a file of no known kind"):
        read_tree(write(tmp_path / "notes.txt", b"some notes"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | safetensors_bytes() | texts_like_json(), st.sampled_from(["x", "x.json", "x.bin"]))
def test_any_file_gives_a_tree_or_a_format_error(tmp_path, contents, name):
    try:
        tree = read_tree(write(tmp_path / name, contents))
    except FormatError as error:
        assert str(tmp_path / name) in error.where
    else:
        assert isinstance(tree, KeyTree)


def test_reading_safetensors_imports_neither_torch_nor_scipy_nor_transformers(tmp_path):
    write(tmp_path / "model.safetensors", file_bytes({"a": tensor()}, 4))
    code = (
        "import sys, treealign; tree = treealign.read_tree(sys.argv[1]); tree.to_json(sys.argv[1] + '/tree.json');"
        "print(len(tree), sorted({'torch', 'numpy', 'scipy', 'transformers', 'networkx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"
