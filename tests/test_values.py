"""`suggest(values=True)`: real models whose names say nothing, or the wrong thing; what content does not settle."""

from __future__ import annotations

import json
import random

import pytest
import torch
from real_models import quiet_transformers
from safetensors.torch import save_file
from typer.testing import CliRunner

from treealign import TreealignError, read_tree, suggest
from treealign.align.alignment import align
from treealign.align.contents.equal import settle
from treealign.cli.verbs import app
from treealign.mapping.execution.execute import run
from treealign.mapping.operations import Permute, RotaryPermute, RotaryUnpermute
from treealign.values.contents import open_contents

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}


def weights(name, **config):
    """A small model's state dict, every weight drawn at random but for norms, which stay as they are made."""
    kind = getattr(quiet_transformers(), name)
    torch.manual_seed(0)
    model = kind(kind.config_class(**config))
    for key, p in model.named_parameters():
        if "norm" not in key and "ln_" not in key:
            p.data.normal_()
    return {key: t.detach().clone() for key, t in model.state_dict().items()}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def word(rng):
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))


def scrambled(tensors, flat=False):
    """The same tensors with every name replaced by a random word; indices stay, or whole keys are replaced."""
    rng, words = random.Random(0), {}

    def new(name):
        return words.setdefault(name, word(rng))

    made = {
        new(key) if flat else ".".join(s if s.isdigit() else new(s) for s in key.split(".")): t
        for key, t in tensors.items()
    }
    assert len(made) == len(tensors)
    return made


def gpt2():
    """GPT-2 as it is, and with q, k and v apart and every matrix transposed."""
    model = weights("GPT2LMHeadModel", n_layer=2, n_embd=32, n_head=4, vocab_size=40, n_positions=16)
    model.pop("lm_head.weight")
    made = {}
    for key, t in model.items():
        parts = dict(zip("qkv", t.chunk(3, -1), strict=True)) if "c_attn" in key else {"c": t}
        for name, part in parts.items():
            turned = part.T if part.ndim == 2 and ".h." in key else part
            made[key.replace("c_attn", name)] = turned.contiguous().clone()
    return model, made


def mixtral():
    """Mixtral as transformers holds it, and with experts apart and q and k in the other rotary order."""
    model = weights("MixtralForCausalLM", **SIZES, intermediate_size=24, num_key_value_heads=2, num_local_experts=3)
    made = {}
    for key, t in model.items():
        if key.endswith("gate_up_proj"):
            for e in range(len(t)):
                for name, part in zip(("w1", "w3"), t[e].chunk(2), strict=True):
                    made[key.replace("gate_up_proj", f"{e}.{name}.weight")] = part.clone()
        elif key.endswith("experts.down_proj"):
            made |= {key.replace("down_proj", f"{e}.w2.weight"): t[e].clone() for e in range(len(t))}
        else:
            heads = next((n for n, name in ((4, "q_proj"), (2, "k_proj")) if name in key), 0)
            made[key] = run((RotaryUnpermute(heads, 8),), [t])[0].clone() if heads else t
    return model, made


def neox():
    """GPT-NeoX, whose fused rows go head by head, and with q, k and v apart."""
    model = weights("GPTNeoXForCausalLM", **SIZES, intermediate_size=48, max_position_embeddings=16)
    made = {}
    for key, t in model.items():
        if "query_key_value" in key:
            for at, name in enumerate("qkv"):
                made[key.replace("query_key_value", name)] = t.unflatten(0, (4, 3, 8))[:, at].flatten(0, 1).clone()
        else:
            made[key] = t
    return model, made


def vit():
    """A ViT whose patch embedding is a linear layer on flattened patches, as published in bfloat16."""
    sizes = {**SIZES, "image_size": 16, "patch_size": 4}
    sizes.pop("vocab_size")
    model = weights("ViTModel", **sizes, intermediate_size=48)
    model = {key: t.bfloat16() for key, t in model.items()}
    made = {key: t.flatten(1) if t.ndim == 4 else t for key, t in model.items()}
    return model, {key: t.float() for key, t in made.items()}


PAIRS = {"gpt2": gpt2, "mixtral": mixtral, "gpt neox": neox, "vit": vit}


def wrong(suggestion, checkpoint, model):
    """The matches whose operations do not give the numbers of the model."""
    found = []
    for match in suggestion.matches:
        given = run(match.operations, [checkpoint[key] for key in match.checkpoint])
        same = [torch.equal(a.float(), model[key].float()) for a, key in zip(given, match.model, strict=True)]
        found += [] if all(same) else [match]
    return found


def telling(tensors):
    return {key for key, t in tensors.items() if len(t.unique()) > 1}


def by_content(suggestion, side):
    """The keys of one side that content has settled, for certain."""
    return {
        key
        for match in suggestion.matches
        if match.certain and match.evidence[0].startswith("equal content")
        for key in getattr(match, side)
    }


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("back", [False, True], ids=["forward", "backward"])
def test_a_model_without_names_is_aligned_by_content(name, back):
    original, converted = PAIRS[name]()
    checkpoint, model = (original, scrambled(converted)) if back else (scrambled(converted), original)
    suggestion = suggest(checkpoint, model, values=True)
    assert (wrong(suggestion, checkpoint, model), suggestion.missing_keys, suggestion.unexpected_keys) == ([], (), ())
    assert telling(checkpoint) <= by_content(suggestion, "checkpoint")
    assert telling(model) <= by_content(suggestion, "model")


@pytest.mark.parametrize("name", PAIRS)
def test_values_confirm_what_names_suggest(name):
    original, converted = PAIRS[name]()
    suggestion = suggest(converted, original, values=True)
    assert (suggestion.ok, wrong(suggestion, converted, original)) == (True, [])


def test_one_expert_pattern_is_one_transform_for_all_layers():
    original, converted = mixtral()
    assert len(suggest(converted, original, values=True).mapping) == 4


@pytest.mark.parametrize("name", PAIRS)
def test_content_needs_no_indices_either(name):
    original, converted = PAIRS[name]()
    checkpoint = scrambled(converted, flat=True)
    trees = read_tree(checkpoint), read_tree(original)
    with open_contents(checkpoint, original, trees) as contents:
        links = align(*trees, contents=contents).links
    settled = {trees[1].keys[j] for link in links if link.certain for g in link.expand() for j in g.right}
    assert telling(original) <= settled


def certain(checkpoint, model):
    """The certain matches, as text."""
    suggestion = suggest(checkpoint, model, values=True)
    return {(m.checkpoint, m.model, m.operations) for m in suggestion.matches if m.certain}


def test_content_refutes_a_name():
    checkpoint = {"attn.q_proj.weight": drawn(8, 8), "attn.k_proj.weight": drawn(8, 8, seed=1)}
    model = {"attn.q_proj.weight": drawn(8, 8, seed=1), "attn.k_proj.weight": drawn(8, 8)}
    assert certain(checkpoint, model) == {
        (("attn.q_proj.weight",), ("attn.k_proj.weight",), ()),
        (("attn.k_proj.weight",), ("attn.q_proj.weight",), ()),
    }


def test_content_shows_that_a_square_matrix_is_transposed():
    [match] = suggest({"fc.weight": drawn(8, 8)}, {"fc.weight": drawn(8, 8).T.contiguous()}, values=True).matches
    assert (match.certain, match.operations) == (True, (Permute((1, 0)),))


def test_content_shows_a_rotary_order_that_names_hide():
    weight = drawn(32, 16)
    model = {"attn.q_proj.weight": run((RotaryPermute(4, 8),), [weight])[0]}
    [match] = suggest({"attn.q_proj.weight": weight}, model, values=True).matches
    assert (match.certain, match.operations) == (True, (RotaryPermute(4, 8),))


def test_content_shows_that_up_stands_before_gate():
    gate, up = drawn(12, 8), drawn(12, 8, seed=1)
    checkpoint = {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
    [match] = suggest(checkpoint, {"mlp.gate_up_proj.weight": torch.cat([up, gate])}, values=True).matches
    assert (match.certain, match.checkpoint) == (True, ("mlp.up_proj.weight", "mlp.gate_proj.weight"))


def test_equal_tensors_are_ambiguous_among_themselves():
    twins = {"aba.weight": drawn(8, 8), "cec.weight": drawn(8, 8), "dod.weight": drawn(8, 8, seed=1)}
    suggestion = suggest(twins, scrambled(twins), values=True)
    assert by_content(suggestion, "checkpoint") == {"dod.weight"}
    assert {key for one in suggestion.ambiguous for key in one.checkpoint} == {"aba.weight", "cec.weight"}


def test_names_choose_between_a_weight_and_its_average():
    weight = drawn(8, 8)
    suggestion = suggest(
        {"model.fc.weight": weight, "ema.fc.weight": weight.clone()}, {"fc.weight": weight}, values=True
    )
    assert [m.checkpoint for m in suggestion.matches] == [("model.fc.weight",)]
    assert by_content(suggestion, "checkpoint") == set()


def test_a_constant_identifies_nothing():
    ones = {"aba.weight": torch.ones(8), "cec.weight": torch.ones(8), "dod.weight": drawn(8, 8)}
    assert certain(ones, scrambled(ones)) == {(("dod.weight",), (list(scrambled(ones))[2],), ())}


def test_numbers_counted_off_identify_nothing():
    ids = {"vision.position_ids": torch.arange(8).view(1, 8), "fc.weight": drawn(8, 8)}
    model = {"text.position_ids": torch.arange(8).view(1, 8), "fc.weight": drawn(8, 8)}
    assert by_content(suggest(ids, model, values=True), "checkpoint") == {"fc.weight"}


def test_a_bias_of_zeros_goes_with_its_weight():
    checkpoint = {"aba.weight": drawn(8, 8), "aba.bias": torch.zeros(8)}
    checkpoint |= {"cec.weight": drawn(8, 8, seed=1), "cec.bias": torch.zeros(8)}
    model = scrambled(checkpoint)
    assert {(a[0], b[0]) for a, b, _ in certain(checkpoint, model)} == set(zip(checkpoint, model, strict=True))


def test_a_bias_of_zeros_follows_its_weight_where_names_are_swapped():
    checkpoint = {"q_proj.weight": drawn(8, 8), "q_proj.bias": torch.zeros(8), "k_proj.weight": drawn(8, 8, seed=1)}
    checkpoint["k_proj.bias"] = torch.zeros(8)
    model = {**checkpoint, "q_proj.weight": checkpoint["k_proj.weight"], "k_proj.weight": checkpoint["q_proj.weight"]}
    assert (("q_proj.bias",), ("k_proj.bias",), ()) in certain(checkpoint, model)


def test_fused_biases_of_zeros_go_with_their_weights():
    parts = {f"{name}.weight": drawn(8, 8, seed=n) for n, name in enumerate(("aba", "cec", "dod"))}
    checkpoint = parts | {key.replace("weight", "bias"): torch.zeros(8) for key in parts}
    model = {"fused.weight": torch.cat(list(parts.values())), "fused.bias": torch.zeros(24)}
    suggestion = suggest(checkpoint, model, values=True)
    assert all(m.certain for m in suggestion.matches)
    assert suggestion.ok


def test_a_checkpoint_trained_further_is_matched_by_names_alone():
    before = weights("LlamaForCausalLM", **SIZES, intermediate_size=48)
    after = {key: t + drawn(*t.shape, seed=1) for key, t in before.items()}
    checkpoint = {f"module.{key}": t for key, t in after.items()}
    found = [suggest(checkpoint, before, values=read).matches for read in (True, False)]
    by_content, by_names = ({(m.checkpoint, m.model, m.operations, m.certain) for m in matches} for matches in found)
    assert by_content == by_names


def test_a_layer_trained_further_goes_where_its_like_went():
    before = {f"layers.{n}.fc.weight": drawn(8, 8, seed=n) for n in range(4)}
    after = {**before, "layers.2.fc.weight": drawn(8, 8, seed=9)}
    suggestion = suggest(scrambled(before), after, values=True)
    found = {m.model[0]: m.evidence for m in suggestion.matches if m.certain}
    assert found.pop("layers.2.fc.weight") == ("equal content in other repeats",)
    assert set(found.values()) == {("equal content",)}


def test_what_content_speaks_against_is_not_certain():
    """By name `fc` is `fc`, but one of two copies of its content stands elsewhere."""
    weight, other = drawn(8, 8), drawn(8, 8, seed=1)
    model = {"fc.weight": other, "copy.weight": weight, "twin.weight": weight.clone()}
    assert certain({"fc.weight": weight}, model) == set()


def test_norms_of_layers_in_another_order_are_not_matched_by_number():
    layers = {f"layers.{n}.fc.weight": drawn(8, 8, seed=n) for n in range(3)}
    norms = {f"layers.{n}.norm.weight": torch.ones(8) for n in range(3)}
    moved = {f"layers.{(n + 1) % 3}.fc.weight": layers[f"layers.{n}.fc.weight"] for n in range(3)}
    found = certain(layers | norms, moved | norms)
    assert {a[0] for a, _, _ in found} == set(layers)


def test_one_element_makes_a_difference():
    parts = {"aba.weight": drawn(300, 200), "cec.weight": drawn(100, 200, seed=1)}
    fused = torch.cat(list(parts.values()))
    fused[299, 199] += 1
    trees = read_tree(parts), read_tree({"fused.weight": fused})
    with open_contents(parts, {"fused.weight": fused}, trees) as contents:
        assert settle(contents) == []


def test_one_element_of_a_transposed_matrix_makes_a_difference():
    matrix = drawn(300, 200)
    turned = matrix.T.contiguous()
    turned[199, 299] += 1
    trees = read_tree({"a": matrix}), read_tree({"b": turned})
    with open_contents({"a": matrix}, {"b": turned}, trees) as contents:
        assert settle(contents) == []


def test_the_same_numbers_in_a_wider_dtype_are_equal():
    weight = drawn(8, 8).half()
    [match] = suggest({"aba": weight}, {"cec": weight.float()}, values=True).matches
    assert match.evidence == ("equal content", "the same numbers as float16 and as float32")


def test_rounded_numbers_are_not_equal():
    weight = drawn(8, 8)
    assert certain({"aba": weight.bfloat16()}, {"cec": weight}) == set()


def test_bits_of_another_dtype_are_not_equal():
    weight = drawn(8, 8)
    assert certain({"aba": weight}, {"cec": weight.view(torch.int32)}) == set()


def test_not_a_number_is_compared_by_its_bits():
    weight = drawn(8, 8)
    weight[0] = torch.nan
    assert len(certain({"aba": weight}, {"cec": weight.clone()})) == 1
    assert certain({"aba": torch.full((8, 8), torch.nan)}, {"cec": torch.full((8, 8), torch.nan)}) == set()


def test_tensors_without_elements_and_masks_are_passed_over():
    odd = {
        "empty": torch.empty(0, 4),
        "none": torch.empty(0),
        "mask": torch.ones(8, 8).tril().bool(),
        "n": torch.tensor(3),
    }
    model = scrambled(odd | {"fc.weight": drawn(8, 8)})
    assert len(certain(odd | {"fc.weight": drawn(8, 8)}, model)) == 1


def test_tied_weights_are_compared_once():
    model = quiet_transformers().GPT2LMHeadModel(
        quiet_transformers().GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=20, n_positions=8)
    )
    checkpoint = {key: t.clone() for key, t in model.state_dict().items() if key != "lm_head.weight"}
    suggestion = suggest(scrambled(checkpoint), model, values=True)
    assert suggestion.missing_keys == ()
    assert "transformer.wte.weight" in by_content(suggestion, "model")


def files(folder, tensors):
    """The same tensors as a file of safetensors, as shards with their index, and as a torch file."""
    keys = list(tensors)
    shards = {"model-1.safetensors": keys[::2], "model-2.safetensors": keys[1::2]}
    (folder / "shards").mkdir()
    for name, own in shards.items():
        save_file({key: tensors[key] for key in own}, folder / "shards" / name)
    index = {"metadata": {}, "weight_map": {key: name for name, own in shards.items() for key in own}}
    (folder / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(tensors, folder / "model.safetensors")
    torch.save(tensors, folder / "model.pt")
    return folder / "model.safetensors", folder / "shards", folder / "model.pt"


def test_weights_are_compared_wherever_they_lie(tmp_path):
    original, converted = gpt2()
    sources = [*files(tmp_path, scrambled(converted)), scrambled(converted)]
    expected = certain(sources[-1], original)
    assert all(certain(source, original) == expected for source in sources)


@pytest.mark.parametrize(
    "side", [read_tree({"fc.weight": drawn(8, 8)}), torch.nn.Linear(8, 8, device="meta")], ids=["tree", "meta"]
)
def test_a_side_without_values_is_refused(side):
    with pytest.raises(TreealignError, match="the model has no values") as caught:
        suggest({"fc.weight": drawn(8, 8)}, side, values=True)
    assert "with their weights" in str(caught.value)


def test_an_index_without_its_shards_is_refused(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"fc.weight": "model-1.safetensors"}}))
    with pytest.raises(TreealignError, match="the checkpoint has no values"):
        suggest(index, {"fc.weight": drawn(8, 8)}, values=True)


def test_the_verb_compares_contents(tmp_path):
    tensors = {"aba.weight": drawn(8, 4), "cec.weight": drawn(8, 4, seed=1)}
    for name, side in (("a", tensors), ("b", scrambled(tensors))):
        save_file(side, tmp_path / f"{name}.safetensors")
    sides = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    without, with_values = (CliRunner().invoke(app, ["suggest", *sides, *more]) for more in ([], ["--values"]))
    assert (without.exit_code, with_values.exit_code) == (1, 0)
    assert "2 of them certain" in with_values.stdout


def test_the_verb_says_that_a_config_has_no_weights():
    result = CliRunner().invoke(app, ["suggest", "transformers:gpt2", "transformers:gpt2", "--values"])
    assert "has no weights to compare" in str(result.exception)
