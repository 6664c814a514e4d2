"""Converting what was converted already changes nothing, or is asked about; a mapping that does nothing is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from treealign import (
    ConversionMapping,
    Convert,
    KeyTree,
    PrefixChange,
    Rename,
    TreealignError,
    attach,
    convert_checkpoint,
    load,
    operations,
    save,
    suggest,
)
from treealign.checkpoint.conversion.marks import ENTRY
from treealign.errors import MappingError, UndecidedError

TURN = ConversionMapping([Convert("**.weight", "**.weight", operations.Permute((1, 0)))])


def written(path, tensors, metadata=None):
    save_file(tensors, path, metadata)
    return path


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture
def plain(tmp_path):
    return written(tmp_path / "plain.safetensors", {"a.weight": torch.randn(3, 2), "b.weight": torch.randn(2, 2)})


# -- tensors under their own names -------------------------------------------------------------------------------------


def test_what_was_turned_is_not_turned_again(plain, tmp_path):
    convert_checkpoint(plain, tmp_path / "once.safetensors", TURN)
    result = convert_checkpoint(tmp_path / "once.safetensors", tmp_path / "twice.safetensors", TURN)
    assert (result.renamed, result.computed) == (0, 0)
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "once.safetensors").read_bytes()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_what_was_turned_says_so_and_turned_back_says_nothing(tmp_path, metadata):
    plain = written(tmp_path / "plain.safetensors", {"a.weight": torch.randn(3, 2)}, metadata)
    convert_checkpoint(plain, tmp_path / "once.safetensors", TURN)
    assert ENTRY in metadata_of(tmp_path / "once.safetensors")
    convert_checkpoint(tmp_path / "once.safetensors", tmp_path / "back.safetensors", TURN, reverse=True)
    assert (tmp_path / "back.safetensors").read_bytes() == plain.read_bytes()


def test_a_square_that_nothing_tells_of_is_a_question(tmp_path):
    square = written(tmp_path / "square.safetensors", {"a.weight": torch.randn(2, 2)})
    with pytest.raises(UndecidedError, match="neither names nor shapes") as caught:
        convert_checkpoint(square, tmp_path / "out.safetensors", TURN)
    assert caught.value.status == 1
    assert "--converted" in caught.value.hint
    assert not (tmp_path / "out.safetensors").exists()
    convert_checkpoint(square, tmp_path / "no.safetensors", TURN, converted=False)
    assert torch.equal(load_file(tmp_path / "no.safetensors")["a.weight"], load_file(square)["a.weight"].T)
    convert_checkpoint(square, tmp_path / "yes.safetensors", TURN, converted=True)
    assert torch.equal(load_file(tmp_path / "yes.safetensors")["a.weight"], load_file(square)["a.weight"])


def test_names_that_are_exchanged_are_a_question(tmp_path):
    """After it there are the same names of the same shapes."""
    swap = ConversionMapping([Rename({"a": "b", "b": "a"})])
    alike = written(tmp_path / "alike.safetensors", {"a.w": torch.zeros(2), "b.w": torch.ones(2)})
    with pytest.raises(UndecidedError, match="neither names nor shapes"):
        convert_checkpoint(alike, tmp_path / "out.safetensors", swap)
    convert_checkpoint(alike, tmp_path / "once.safetensors", swap, converted=False)
    convert_checkpoint(tmp_path / "once.safetensors", tmp_path / "twice.safetensors", swap)
    assert (tmp_path / "once.safetensors").read_bytes() == (tmp_path / "twice.safetensors").read_bytes()


def test_names_that_change_tell_of_squares_too(tmp_path):
    square = written(tmp_path / "square.safetensors", {"a.weight": torch.randn(2, 2), "old.bias": torch.ones(2)})
    rules = ConversionMapping([Rename("old", "new"), *TURN])
    convert_checkpoint(square, tmp_path / "out.safetensors", rules)
    assert set(load_file(tmp_path / "out.safetensors")) == {"a.weight", "new.bias"}


RENAMED = ConversionMapping([Rename("old", "new"), Convert("new.{i}.w", "new.{i}.w", operations.Permute((1, 0)))])
SQUARES = {f"old.{at}.w": torch.arange(4.0).view(2, 2) + at for at in range(2)}
DONE = dict(RENAMED.apply(SQUARES))


class Squares(nn.Module):
    def __init__(self):
        super().__init__()
        self.new = nn.ModuleList(nn.ParameterDict({"w": torch.zeros(2, 2)}) for _ in range(2))


def _converted(path, **more):
    convert_checkpoint(path, path.with_name("out.safetensors"), RENAMED, **more)
    return load_file(path.with_name("out.safetensors"))


def _loaded(path, **more):
    model = Squares()
    load(model, path, RENAMED, **more)
    return dict(model.state_dict())


def _applied(path, **more):
    return dict(RENAMED.apply(load_file(path), **more))


@pytest.mark.parametrize("do", [_converted, _loaded, _applied])
@pytest.mark.parametrize("done", [("new.0.w", "new.1.w"), ("new.0.w", "old.1.w")], ids=["all", "half"])
def test_a_square_under_its_new_name_is_a_question_and_the_answer_converts_the_rest(do, done, tmp_path):
    """Its sibling that still has the old name was not converted, whatever is answered."""
    path = written(tmp_path / "x.safetensors", {key: {**SQUARES, **DONE}[key].contiguous() for key in done})
    with pytest.raises(UndecidedError, match="names of what was converted already") as caught:
        do(path)
    assert "--converted" in caught.value.hint
    answered = do(path, converted=True)
    assert all(torch.equal(answered[key], DONE[key]) for key in DONE)


def test_a_state_dict_of_the_models_own_is_not_turned_by_what_is_attached():
    model = Squares()
    with attach(model, RENAMED):
        model.load_state_dict(SQUARES)
        assert torch.equal(model.new[1].w, DONE["new.1.w"])
        with pytest.raises(UndecidedError, match="names of what was converted already") as caught:
            model.load_state_dict(DONE)
    assert "remove()" in caught.value.hint


# -- levels ------------------------------------------------------------------------------------------------------------

ADD = ConversionMapping([PrefixChange(add="model")])


def test_a_level_that_half_of_the_keys_have_is_added_to_the_other_half(tmp_path):
    half = {"model.layers.0.w": torch.ones(1), "layers.1.w": torch.ones(2), "model.norm": torch.ones(3)}
    path = written(tmp_path / "half.safetensors", half)
    convert_checkpoint(path, tmp_path / "out.safetensors", ADD)
    assert set(load_file(tmp_path / "out.safetensors")) == {"model.layers.0.w", "model.layers.1.w", "model.norm"}
    convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", ADD, reverse=True)
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()


def test_a_level_above_other_names_that_begin_with_it_is_added_to_all(tmp_path):
    path = written(tmp_path / "x.safetensors", {"model.layers.0.w": torch.ones(1), "lm_head.w": torch.ones(2)})
    convert_checkpoint(path, tmp_path / "out.safetensors", ADD)
    assert set(load_file(tmp_path / "out.safetensors")) == {"model.model.layers.0.w", "model.lm_head.w"}


def test_a_level_that_all_keys_have_is_a_question(tmp_path):
    path = written(tmp_path / "x.safetensors", {"layers.0.w": torch.ones(1), "norm": torch.ones(2)})
    convert_checkpoint(path, tmp_path / "once.safetensors", ADD)
    with pytest.raises(UndecidedError, match="do not say whether they were converted already"):
        convert_checkpoint(tmp_path / "once.safetensors", tmp_path / "twice.safetensors", ADD)
    convert_checkpoint(tmp_path / "once.safetensors", tmp_path / "twice.safetensors", ADD, converted=True)
    assert set(load_file(tmp_path / "twice.safetensors")) == {"model.layers.0.w", "model.norm"}


def test_a_mapping_that_touches_no_key_is_refused(plain, tmp_path):
    with pytest.raises(MappingError, match="touches no key"):
        convert_checkpoint(plain, tmp_path / "out", [Rename("vision_tower", "tower")])
    assert not (tmp_path / "out").exists()


# -- counters ----------------------------------------------------------------------------------------------------------


def net():
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_file_without_counters_loads_and_comes_back(tmp_path, device):
    tensors = {f"net.{key}": torch.randn_like(v) for key, v in net().state_dict().items() if "num_batches" not in key}
    path = written(tmp_path / "x.safetensors", tensors)
    with torch.device(device):
        model = net()
    result = load(model, path, [PrefixChange(remove="net")])
    assert (result.missing_keys, int(model[1].num_batches_tracked)) == ((), 0)
    save(model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_counter_that_has_counted_is_saved(tmp_path):
    tensors = {key: v for key, v in net().state_dict().items() if "num_batches" not in key}
    model = net()
    load(model, written(tmp_path / "x.safetensors", tensors))
    model(torch.randn(2, 2, 3, 3))
    save(model, tmp_path / "out")
    assert int(load_file(tmp_path / "out" / "model.safetensors")["1.num_batches_tracked"]) == 1


# -- what anybody may have written -------------------------------------------------------------------------------------


def test_a_range_of_a_billion_members_is_refused():
    with pytest.raises(Exception, match="of at most 100,000"):
        Convert("a.{i:0..999999999}.w", "a.w", operations.Stack(0, 10**9))


def test_a_number_of_thousands_of_digits_is_text():
    tree = KeyTree.from_leaves([(f"a.{'9' * 5000}.w", (2,), "float32"), ("a.1.w", (2,), "float32")])
    assert sorted(len(fold.indices[0]) for fold in tree.folds) == [0, 1]


def test_a_tensor_that_repeats_a_few_bytes_over_terabytes_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
    with pytest.raises(Exception, match="repeats 4 bytes"):
        convert_checkpoint(tmp_path / "x.pt", tmp_path / "out", [Rename("a", "b")])


def test_a_key_of_thousands_of_levels_is_refused_in_words():
    sides = [KeyTree.from_leaves([(".".join([name] * 2000), (2,), "float32")]) for name in "ab"]
    with pytest.raises(TreealignError, match="levels, of which at most"):
        suggest(*sides)


def test_numbers_of_thousands_of_digits_are_compared_as_text():
    long, short = "9" * 5000, "1"
    sides = [KeyTree.from_leaves([(f"{name}.{n}.w", (2, 2), "float32") for n in (long, short)]) for name in "ab"]
    assert len(suggest(*sides).matches) <= 2


def test_a_square_that_was_turned_is_not_turned_again_by_a_load(tmp_path):
    square = written(tmp_path / "square.safetensors", {"weight": torch.randn(2, 2)})
    rules = ConversionMapping([Convert("weight", "weight", operations.Permute((1, 0)))])
    convert_checkpoint(square, tmp_path / "once.safetensors", rules, converted=False)
    model = nn.Linear(2, 2, bias=False)
    for path in (square, tmp_path / "once.safetensors"):
        load(model, path, rules)
        assert torch.equal(model.weight, load_file(square)["weight"].T)
        save(model, tmp_path / "out")
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_decision_made_of_all_keys_holds_for_each_part_of_them():
    """Weights that come tensor by tensor tell nothing by themselves: what was decided of all is handed on."""
    mapping = ConversionMapping([Rename("**.gamma$", "**.weight$"), *TURN.transforms])
    whole = {"a.fc.weight": torch.arange(6.0).reshape(2, 3), "a.norm.gamma": torch.ones(3, 1)}
    decision = mapping.decide(tuple(whole))
    for key, tensor in whole.items():
        (made,) = mapping.apply({key: tensor}, decision)
        assert made[1].shape == tensor.shape[::-1]
