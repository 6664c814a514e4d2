"""After `treealign.load`, plain `save_pretrained` writes the names that the checkpoint came with.

P1 to P10 are the cases of `test_known_breakages`, here through transformers' own saving. Impossible there, for
treealign has no part in it: P9, a fresh model, is saved by transformers' registry, and P10, by a list that transformers
attaches itself and in full. `treealign.save` does both right, and so does `save_original_format=False` where the
model's own names are wanted.
"""

from __future__ import annotations

import copy
import gc
import io
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from real_models import build, quiet_transformers, tiny
from releases import leave_out
from safetensors.torch import load_file
from weights import saved_keys, write

from treealign import Convert, PrefixChange, Rename, TreealignError, attach, load, operations, save

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
    "tie_word_embeddings": False,
}


def llama(seed=0, **config):
    return build(tiny("LlamaForCausalLM", **{**LLAMA, **config}), seed)


def state(model, rename):
    return {rename(key): tensor.clone() for key, tensor in model.state_dict().items()}


def old(key):
    return key.replace("model.", "transformer.", 1).replace("self_attn", "attn")


RULES = [Rename("transformer", "model"), Rename("**.attn", "**.self_attn")]


@pytest.fixture
def renamed(tmp_path):
    """A model that was loaded under other names, and these names."""
    given = write(tmp_path / "in" / "model.safetensors", state(llama(), old))
    model = llama(1)
    load(model, given, RULES)
    return model, given


def test_the_names_come_back(renamed, tmp_path):
    model, given = renamed
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


def test_tensors_that_were_converted_come_back(tmp_path):
    source = llama()
    tensors = state(source, lambda key: key)
    for layer in range(2):
        parts = [tensors.pop(f"model.layers.{layer}.self_attn.{part}_proj.weight") for part in "qkv"]
        tensors[f"model.layers.{layer}.self_attn.qkv.weight"] = torch.cat(parts)
    given = write(tmp_path / "in" / "model.safetensors", tensors)
    model, sizes = llama(1), operations.Split(0, (16, 8, 8))
    load(model, given, [Convert("**.qkv", ["**.q_proj", "**.k_proj", "**.v_proj"], [sizes])])
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


def test_the_model_s_own_names_are_to_be_had(renamed, tmp_path):
    model, _ = renamed
    model.save_pretrained(tmp_path / "out", save_original_format=False)
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()


def test_p1_a_mixed_checkpoint_goes_back_mixed(tmp_path):
    mixed = state(llama(), lambda key: f"bad.{key}" if "layers.0" in key else key)
    model = llama(1)
    load(model, write(tmp_path / "in.safetensors", mixed), [PrefixChange(remove="bad")])
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == mixed.keys()


def test_p2_two_keys_that_reach_one_are_refused_before_anything_is_saved(tmp_path):
    tensors = state(llama(), lambda key: key)
    tensors["old.norm.weight"] = tensors["model.norm.weight"].clone()
    with pytest.raises(TreealignError, match=r"old\.norm\.weight"):
        load(llama(1), tensors, [Rename("old", "model")])


def test_p3_a_good_checkpoint_beside_a_rule_that_adds_a_level_comes_back_good(tmp_path):
    model, good = llama(1), state(llama(), lambda key: key)
    load(model, good, [PrefixChange(add="model")])
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == good.keys()


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """A saved adapter for the model, all of whose numbers change what it computes."""
    from peft import LoraConfig, get_peft_model
    from transformers.integrations import peft

    # transformers may ask for a release of peft that is not out yet
    monkeypatch.setattr(peft, "MIN_PEFT_VERSION", "0.18.0")
    torch.manual_seed(7)
    config = LoraConfig(target_modules=["q_proj", "down_proj"], r=2, init_lora_weights=False)
    get_peft_model(llama(), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def outputs_of(model):
    with torch.no_grad():
        return model.eval()(torch.arange(8)[None]).logits


def test_p4_an_adapter_that_came_and_went_leaves_the_file_of_its_base(renamed, adapter, tmp_path):
    model, given = renamed
    before = outputs_of(model)
    model.load_adapter(adapter)
    assert not torch.equal(outputs_of(model), before)
    model.delete_adapter("default")
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()
    assert torch.equal(outputs_of(model), before)


@pytest.mark.parametrize("how", ["two of them", "swapped", "of a copy", "added, not loaded"])
def test_p4_holds_whatever_happens_to_the_adapters_between(renamed, adapter, tmp_path, how):
    from peft import LoraConfig

    model, given = renamed
    if how == "added, not loaded":
        model.add_adapter(LoraConfig(target_modules=["q_proj"], r=2))
    else:
        model.load_adapter(adapter, "default")
    if how == "two of them":
        model.load_adapter(adapter, "second")
        model.delete_adapter("second")
    if how == "swapped":
        model.load_adapter(adapter, "default", hotswap=True)
    if how == "of a copy":
        model = copy.deepcopy(model)
    model.delete_adapter("default")
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


def test_an_adapter_is_saved_under_its_own_names_while_it_is_there(renamed, adapter, tmp_path):
    model, _ = renamed
    model.load_adapter(adapter)
    model.save_pretrained(tmp_path / "out")
    files = [load_file(folder / "adapter_model.safetensors") for folder in (adapter, tmp_path / "out")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(tensor, files[1][key]) for key, tensor in files[0].items())


@pytest.mark.parametrize("how", ["merge_and_unload", "unload"])
def test_an_adapter_that_is_merged_or_unloaded_leaves_the_names_of_its_base(renamed, adapter, tmp_path, how):
    from peft import PeftModel

    model, given = renamed
    adapted = PeftModel.from_pretrained(model, adapter)
    before = outputs_of(adapted)
    bare = getattr(adapted, how)()
    bare.save_pretrained(tmp_path / "out")
    saved, base = load_file(tmp_path / "out" / "model.safetensors"), load_file(given)
    changed = {key for key in base if not torch.equal(saved[key], base[key])}
    assert saved.keys() == base.keys()
    assert {key.split(".")[-2] for key in changed} == ({"q_proj", "down_proj"} if how == "merge_and_unload" else set())
    again = llama(2)
    load(again, tmp_path / "out", RULES)
    if how == "merge_and_unload":
        assert torch.allclose(outputs_of(again), before, atol=1e-5)


def test_p5_a_rule_with_two_sources_writes_both_back(tmp_path):
    tensors = state(llama(), lambda key: key)
    whole = tensors.pop("lm_head.weight")
    tensors |= {"head.a": whole[:10].clone(), "head.b": whole[10:].clone()}
    model = llama(1)
    load(model, tensors, [Convert(["head.a", "head.b"], "lm_head.weight", [operations.Concat(0, (10, 22))])])
    model.save_pretrained(tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {key: len(saved[key]) for key in ("head.a", "head.b")} == {"head.a": 10, "head.b": 22}


def test_p6_a_name_that_holds_the_matched_text_earlier_on_is_changed_where_the_rule_matches(tmp_path):
    class Held(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.subnet = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 2)})

    model = llama(1)
    model.model.norm.extra = Held()
    tensors = state(model, lambda key: key.replace("subnet.net", "subnet.old"))
    load(model, tensors, [Rename("**.old", "**.net")])
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == tensors.keys()


def test_p7_saving_and_loading_twice_gives_the_names_once(renamed, tmp_path):
    model, given = renamed
    model.save_pretrained(tmp_path / "first")
    again = llama(2)
    load(again, tmp_path / "first", RULES)
    again.save_pretrained(tmp_path / "second")
    assert saved_keys(tmp_path / "second") == load_file(given).keys()


def test_p8_a_part_that_is_saved_alone_has_the_names_of_its_part(renamed, tmp_path):
    model, given = renamed
    model.model.save_pretrained(tmp_path / "out")
    inside = {key.removeprefix("transformer.") for key in load_file(given) if key.startswith("transformer.")}
    assert saved_keys(tmp_path / "out") == inside


def vit():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return build(tiny("ViTModel", image_size=8, patch_size=4, **sizes), 0)


def test_p9_a_fresh_model_is_saved_under_its_own_names_by_treealign(tmp_path):
    model = vit()
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()


def test_p9_is_transformers_own_affair_and_its_switch_gives_the_model_s_names(tmp_path):
    from transformers.conversion_mapping import get_model_conversion_mapping

    model = vit()
    if not get_model_conversion_mapping(model, add_legacy=False):
        leave_out("rules for a ViT")
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "old")
    model.save_pretrained(tmp_path / "own", save_original_format=False)
    assert saved_keys(tmp_path / "own") == model.state_dict().keys() != saved_keys(tmp_path / "old")


def test_p9_a_fresh_model_that_loads_its_own_names_is_saved_under_them(tmp_path):
    model = vit()
    load(model, state(model, lambda key: key), [])
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()


def test_p9_a_fresh_model_is_not_touched_by_a_save(tmp_path):
    model = vit()
    before = dict(vars(model))
    save(model, tmp_path / "ours")
    assert vars(model) == before


def test_p10_a_list_that_is_attached_in_full_misleads_transformers_and_not_treealign(tmp_path):
    from transformers.conversion_mapping import get_model_conversion_mapping

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(tiny("BertModel", vocab_size=8, **sizes), 0)
    given = state(model, lambda key: key.replace("encoder.layer", "blocks"))
    load(model, given, [Rename("blocks", "encoder.layer")])
    model._weight_conversions = get_model_conversion_mapping(model)
    model.save_pretrained(tmp_path / "theirs")
    save(model, tmp_path / "ours")
    assert saved_keys(tmp_path / "ours") == given.keys()
    assert "embeddings.LayerNorm.gamma" in saved_keys(tmp_path / "theirs")


def test_names_that_a_state_dict_has_by_its_hooks_are_not_changed_again(tmp_path):
    model = vit()
    own = model.state_dict().keys()
    given = {key.replace("layers.", "blocks.") for key in own}
    with attach(model, [Rename("blocks", "layers")]):
        model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == given
    save(model, tmp_path / "own")
    assert saved_keys(tmp_path / "own") == own
    assert not hasattr(model, "_weight_conversions")


def test_a_copy_is_saved_under_the_same_names_without_what_it_was_copied_from(renamed, tmp_path):
    model, given = renamed
    made = copy.deepcopy(model)
    model.load_state_dict({key: torch.zeros_like(tensor) for key, tensor in model.state_dict().items()})
    del model
    made.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


def test_out_of_a_pickle_treealign_saves_the_names_and_transformers_those_of_the_model(renamed, tmp_path):
    model, given = renamed
    held = io.BytesIO()
    torch.save(model, held)
    held.seek(0)
    made = torch.load(held, weights_only=False)
    save(made, tmp_path / "ours")
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == given.read_bytes()
    made.save_pretrained(tmp_path / "theirs")
    assert saved_keys(tmp_path / "theirs") == model.state_dict().keys()


def test_nothing_but_the_model_itself_is_changed():
    before = {kind: dict(vars(kind)) for kind in type(llama()).__mro__}
    model = llama(1)
    load(model, state(llama(), old), RULES)
    assert {kind: dict(vars(kind)) for kind in before} == before
    assert not hasattr(llama(), "_weight_conversions")


def test_a_model_is_freed_with_its_last_name():
    model = llama(1)
    load(model, state(llama(), old), RULES)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_original_names_false_leaves_save_pretrained_to_transformers(renamed, tmp_path):
    model, given = renamed
    before = vars(llama()).keys()
    load(model, given, RULES, original_names=False)
    assert vars(model).keys() - before == {"_treealign_record"}
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()
    save(model, tmp_path / "ours")
    assert saved_keys(tmp_path / "ours") == load_file(given).keys()


ELSEWHERE = """
import sys, torch
sys.modules["treealign"] = None
model = torch.load(sys.argv[1], weights_only=False)
model.save_pretrained(sys.argv[2])
torch.save(model, sys.argv[1])
"""


def test_a_pickled_model_is_read_and_saved_where_treealign_is_not_installed(renamed, tmp_path):
    model, given = renamed
    pickled, out = tmp_path / "model.pt", tmp_path / "out"
    torch.save(model, pickled)
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", ELSEWHERE, pickled, out], check=True, env=quiet)
    assert saved_keys(out) == model.state_dict().keys()
    save(torch.load(pickled, weights_only=False), tmp_path / "home")
    assert saved_keys(tmp_path / "home") == load_file(given).keys()


def test_a_load_asks_for_no_names(tmp_path, monkeypatch):
    from treealign.checkpoint import naming

    monkeypatch.setattr(naming, "original_names", lambda _: pytest.fail("named"))
    load(llama(1), state(llama(), old), RULES)


def test_a_state_dict_that_is_handed_over_is_saved_under_the_names_too(renamed, tmp_path):
    model, given = renamed
    model.save_pretrained(tmp_path / "out", state_dict=dict(model.state_dict()))
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()


@pytest.mark.parametrize("empty", [False, True], ids=["rules", "none"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside an adapter"])
def test_conversions_that_somebody_sets_after_the_load_stand(renamed, adapter, beside, empty):
    from transformers.core_model_loading import WeightRenaming

    model, _ = renamed
    if beside:
        model.load_adapter(adapter)
    theirs = [] if empty else [WeightRenaming("theirs", "model")]
    model._weight_conversions = theirs
    model.state_dict()
    assert model._weight_conversions is theirs


def test_a_second_partial_load_renames_only_what_it_filled(renamed, tmp_path):
    model, given = renamed
    load(model, {"head.weight": torch.zeros(32, 16)}, [Rename("head", "lm_head")], strict=False)
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {*load_file(given).keys() - {"lm_head.weight"}, "head.weight"}


def test_what_transformers_loads_next_into_another_model_is_its_own_affair(renamed, tmp_path):
    model, _ = renamed
    quiet_transformers()
    model.save_pretrained(tmp_path / "own", save_original_format=False)
    other = type(model).from_pretrained(tmp_path / "own")
    other.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()


def test_tied_weights_are_written_once_under_the_name_they_came_with(tmp_path):
    source = llama(tie_word_embeddings=True)
    tensors = state(source, old)
    tensors.pop("lm_head.weight")
    given = write(tmp_path / "in" / "model.safetensors", tensors)
    model = llama(1, tie_word_embeddings=True)
    load(model, given, RULES)
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == given.read_bytes()
