"""A name whose dots were written otherwise, or left out, is the one name that it spells; of two it is neither."""

from __future__ import annotations

import pytest
import torch

from treealign import KeyTree, load, read_tree, save, suggest
from treealign.align.flattened import unflattened

SIZES = {
    "q_proj": (16, 16),
    "k_proj": (16, 16),
    "v_proj": (16, 16),
    "out_proj": (16, 16),
    "fc1": (64, 16),
    "fc2": (16, 64),
}
MODULES = [
    f"text_model.encoder.layers.{n}.{m}"
    for n in range(3)
    for m in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
]
MODULES += [
    f"down_blocks.{i}.attentions.{j}.transformer_blocks.0.attn{k}.to_out.0"
    for i in range(2)
    for j in range(2)
    for k in (1, 2)
]


def shape(module):
    return SIZES.get(module.rpartition(".")[2], (24, 24))


def lora(module):
    return {"down": (4, shape(module)[1]), "up": (shape(module)[0], 4)}


def tree(leaves):
    return KeyTree.from_leaves([(key, size, "float32") for key, size in leaves.items()])


def matches(checkpoint, model):
    found = suggest(tree(checkpoint), tree(model))
    return {match.model[0]: (match.checkpoint[0], match.certain) for match in found.matches}


FRONTS = {"kohya": "lora_te_", "SDXL": "lora_te1_", "a UNet": "lora_unet_", "LyCORIS": "lycoris_", "none": ""}
DOTS = {"underscores": "_", "left out": ""}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_modules_of_an_adapter_are_found_by_the_one_name_that_they_spell(front):
    pairs = {"down": "lora_A.default", "up": "lora_B.default"}
    checkpoint = {
        f"{front}{m.replace('.', '_')}.lora_{part}.weight": size for m in MODULES for part, size in lora(m).items()
    }
    truth = {
        f"base_model.model.{m}.{pairs[part]}.weight": f"{front}{m.replace('.', '_')}.lora_{part}.weight"
        for m in MODULES
        for part in pairs
    }
    model = {key: checkpoint[old] for key, old in truth.items()}
    assert matches(checkpoint, model) == {key: (old, True) for key, old in truth.items()}


@pytest.mark.parametrize("dot", DOTS.values(), ids=DOTS)
@pytest.mark.parametrize("front", ["model_ema.", "ema.shadow.", "averaged."])
@pytest.mark.parametrize("level", ["model.", "", "a.b."])
def test_averages_under_flattened_names_reach_their_parameters(dot, front, level):
    plain = {f"{m}.{leaf}": size for m in MODULES for leaf, size in (("weight", shape(m)), ("bias", shape(m)[:1]))}
    checkpoint = {front + key.replace(".", dot): size for key, size in plain.items()}
    model = {level + key: size for key, size in plain.items()}
    truth = {level + key: (front + key.replace(".", dot), True) for key in plain}
    assert matches(checkpoint, model) == truth


@pytest.mark.parametrize("dot", DOTS.values(), ids=DOTS)
def test_a_dotted_checkpoint_reaches_a_model_of_flattened_names(dot):
    checkpoint = {f"{m}.weight": shape(m) for m in MODULES}
    model = {f"shadow.{m}.weight".replace(".", dot).replace(f"shadow{dot}", "shadow."): shape(m) for m in MODULES}
    found = matches(checkpoint, model)
    assert {key: old for key, (old, _) in found.items()} == dict(zip(model, checkpoint, strict=True))
    assert all(certain for _, certain in found.values())


def test_a_text_that_two_names_fit_is_left_as_it_is():
    other = tree({f"net.layers.{n}.fc.weight": (4, 4) for n in ("1.1", "11", "2", "3")})
    flat = tree({f"ema.netlayers{n}fcweight": (4, 4) for n in ("11", "2", "3")})
    spelled = unflattened(flat, other).keys
    assert "ema.netlayers11fcweight" in spelled
    assert "ema.net.layers.2.fc.weight" in spelled


def test_what_two_towers_spell_alike_is_certain_of_neither():
    flat = {f"lora_te_{m.replace('.', '_')}.lora_up.weight": (16, 4) for m in MODULES[:12]}
    model = {
        f"{tower}.{m}.lora_B.weight": (16, 4) for tower in ("text_encoder", "text_encoder_2") for m in MODULES[:12]
    }
    assert not [key for key, (_, certain) in matches(flat, model).items() if certain]


def test_names_that_are_dotted_already_are_not_touched():
    one = tree({f"model.layers.{n}.post_attention_layernorm.weight": (4,) for n in range(3)})
    other = tree({f"model.layers.{n}.post.attention.layernorm.weight": (4,) for n in range(3)})
    assert unflattened(other, other) is other
    numbered = tree({f"layer{n}.conv1.weight": (4,) for n in range(3)})
    assert unflattened(numbered, tree({f"layer.{n}.conv.1.weight": (4,) for n in range(3)})) is numbered
    assert unflattened(one, one) is one


def test_averages_beside_the_weights_themselves_stay_open():
    plain = {f"model.{m}.weight": shape(m) for m in MODULES[:12]}
    averages = {"model_ema." + key.removeprefix("model.").replace(".", ""): size for key, size in plain.items()}
    found = matches(plain | averages, {key.removeprefix("model."): size for key, size in plain.items()})
    assert {key: old for key, (old, _) in found.items()} == {key.removeprefix("model."): key for key in plain}


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.norm = torch.nn.BatchNorm1d(4)


def averages(model, file):
    """As diffusers' `EMAModel` and torch_ema save them: a list, in the order of the parameters."""
    shadow = [parameter.detach() + 1 for parameter in model.parameters()]
    torch.save({"model": model.state_dict(), "ema": {"decay": 0.9, "shadow_params": shadow}}, file)
    return shadow


def test_a_list_of_averages_without_names_reaches_the_parameters_in_their_order(tmp_path):
    shadow = averages(Pair(), tmp_path / "both.pt")
    model = Pair()
    mapping = suggest(f"{tmp_path / 'both.pt'}#shadow_params", model).mapping.accept()
    load(model, tmp_path / "both.pt", mapping=mapping, select="shadow_params", strict=False)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), shadow, strict=True))
    save(model.first, tmp_path / "out")
    found = read_tree(tmp_path / "out")
    assert found.keys == ("shadow_params.0", "shadow_params.1")


def test_the_order_of_a_list_of_averages_is_a_guess_where_two_have_one_shape(tmp_path):
    """A release that defines the second layer first has a list of the same shapes."""
    averages(Pair(), tmp_path / "both.pt")
    found = suggest(f"{tmp_path / 'both.pt'}#shadow_params", Pair())
    assert found.questions
    assert not any(match.certain for match in found.matches if "norm" not in match.model[0])


def test_a_list_that_is_not_the_parameters_of_this_model_is_no_evidence(tmp_path):
    averages(Pair(), tmp_path / "both.pt")
    other = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))
    found = suggest(f"{tmp_path / 'both.pt'}#shadow_params", other)
    assert not any(match.certain for match in found.matches)
