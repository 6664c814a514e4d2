"""An adapter of PEFT is loaded and saved as what it is: its own keys, whatever its kind, and nothing of its base."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from treealign import PrefixChange, Rename, TreealignError, load, save, suggest

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("peft").setLevel(logging.ERROR)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj, self.out = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.out(torch.tanh(self.q_proj(x)) + self.v_proj(x))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(16, 8)
        self.layers = torch.nn.ModuleList(torch.nn.ModuleDict({"attn": Attention()}) for _ in range(2))
        self.score = torch.nn.Linear(8, 3)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer["attn"](x)
        return self.score(x)


def net():
    torch.manual_seed(3)
    return Net()


def shaken(model):
    """Every trainable number another one, so that none is what it was made as."""
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(torch.randn(parameter.shape, generator=drawn) / 4)
    return model


def outputs(model):
    with torch.no_grad():
        return model.eval()(torch.arange(6)[None])


TARGETS = ["q_proj", "v_proj"]
KINDS = {
    "LoRA": peft.LoraConfig(r=2, target_modules=TARGETS),
    "DoRA": peft.LoraConfig(r=2, target_modules=TARGETS, use_dora=True),
    "LoRA with biases": peft.LoraConfig(r=2, target_modules=TARGETS, lora_bias=True),
    "LoRA and all biases": peft.LoraConfig(r=2, target_modules=TARGETS, bias="all"),
    "ranks by pattern": peft.LoraConfig(
        r=2, target_modules=TARGETS, rank_pattern={"layers.1.attn.v_proj": 3}, alpha_pattern={"q_proj": 5}
    ),
    "some layers": peft.LoraConfig(r=2, target_modules=TARGETS, layers_to_transform=[1], layers_pattern="layers"),
    "modules to save": peft.LoraConfig(r=2, target_modules=TARGETS, modules_to_save=["score"]),
    "an embedding": peft.LoraConfig(r=2, target_modules=["embed", "q_proj"]),
    "tokens": peft.LoraConfig(r=2, target_modules=TARGETS, trainable_token_indices={"embed": [1, 5]}),
    "LoHa": peft.LoHaConfig(r=2, target_modules=TARGETS),
    "LoKr": peft.LoKrConfig(r=2, target_modules=TARGETS),
    "IA3": peft.IA3Config(target_modules=[*TARGETS, "out"], feedforward_modules=["out"]),
    "VeRA": peft.VeraConfig(r=2, target_modules=TARGETS),
    "OFT": peft.OFTConfig(r=2, oft_block_size=0, target_modules=TARGETS),
    "BOFT": peft.BOFTConfig(boft_block_size=4, target_modules=TARGETS),
    "AdaLoRA": peft.AdaLoraConfig(init_r=2, target_r=1, total_step=5, target_modules=TARGETS),
    "HRA": peft.HRAConfig(r=2, target_modules=TARGETS),
    "layer norm tuning": peft.LNTuningConfig(target_modules=["score"]),
}
# kinds of later releases of peft: parts that are modules, lists, or stand beside the base model
_LATER = ("BeftConfig", "DeloraConfig", "GloraConfig", "OSFConfig", "PsoftConfig", "TinyLoraConfig", "UniLoraConfig")
_OF_RANK = ("DeloraConfig", "GloraConfig", "PsoftConfig", "TinyLoraConfig")
KINDS |= {
    name: getattr(peft, name)(target_modules=TARGETS, **({"r": 2} if name in _OF_RANK else {}))
    for name in _LATER
    if hasattr(peft, name)
}
kinds = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


def written(config, folder):
    model = shaken(peft.get_peft_model(net(), config))
    model.save_pretrained(folder)
    return model


@kinds
def test_an_adapter_is_loaded_whole_and_computes_as_with_peft(config, tmp_path):
    trained = written(config, tmp_path / "adapter")
    model = peft.get_peft_model(net(), config)
    base = {key: value.clone() for key, value in net().state_dict().items()}
    result = load(model, tmp_path / "adapter")
    assert not (result.missing_keys or result.unexpected_keys)
    assert torch.equal(outputs(model), outputs(trained))
    assert torch.equal(outputs(model), outputs(peft.PeftModel.from_pretrained(net(), tmp_path / "adapter")))
    bare = model.get_base_model().state_dict()
    untouched = {key: value for key, value in base.items() if key in bare}
    assert (
        all(torch.equal(bare[key], value) for key, value in untouched.items() if config.bias != "all")
        if hasattr(config, "bias")
        else True
    )


@kinds
def test_what_is_saved_is_what_was_loaded_byte_for_byte_and_peft_loads_it(config, tmp_path):
    trained = written(config, tmp_path / "adapter")
    model = peft.get_peft_model(net(), config)
    load(model, tmp_path / "adapter")
    result = save(model, tmp_path / "out")
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()
    assert sorted(result.files) == ["adapter_config.json", name]
    assert torch.equal(outputs(peft.PeftModel.from_pretrained(net(), tmp_path / "out")), outputs(trained))


def test_a_changed_adapter_is_saved_and_its_base_stays_where_it_stands(tmp_path):
    config = KINDS["LoRA"]
    written(config, tmp_path / "adapter")
    save_file(net().state_dict(), tmp_path / "adapter" / "model.safetensors")
    before = (tmp_path / "adapter" / "model.safetensors").read_bytes()
    model = peft.get_peft_model(net(), config)
    load(model, tmp_path / "adapter" / "adapter_model.safetensors")
    shaken(model)
    save(model, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "model.safetensors").read_bytes() == before
    again = peft.PeftModel.from_pretrained(net(), tmp_path / "adapter")
    assert torch.equal(outputs(again), outputs(model))


def test_an_adapter_that_was_never_loaded_is_saved_by_its_name(tmp_path):
    model = shaken(peft.get_peft_model(net(), KINDS["modules to save"]))
    save(model, tmp_path, adapter="default")
    assert torch.equal(outputs(peft.PeftModel.from_pretrained(net(), tmp_path)), outputs(model))


@pytest.fixture
def two(tmp_path):
    """A model with two adapters alike, and the folders of both."""
    for name, seed in (("one", 1), ("two", 2)):
        torch.manual_seed(seed)
        peft.get_peft_model(
            net(), peft.LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False)
        ).save_pretrained(tmp_path / name)
    model = peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=TARGETS), adapter_name="one")
    model.add_adapter("two", peft.LoraConfig(r=2, target_modules=TARGETS))
    return model, tmp_path


def test_of_several_adapters_the_folder_or_the_caller_says_which(two):
    model, folder = two
    load(model, folder / "one")
    load(model, folder / "two", adapter="two")
    for name in ("one", "two"):
        model.set_adapter(name)
        assert torch.equal(outputs(model), outputs(peft.PeftModel.from_pretrained(net(), folder / name)))
        save(model, folder / "out" / name, adapter=name)
        files = [at / name / "adapter_model.safetensors" for at in (folder, folder / "out")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_of_several_adapters_alike_none_is_taken_by_guess(two):
    model, folder = two
    (folder / "one").rename(folder / "some")
    with pytest.raises(TreealignError, match="several adapters") as caught:
        load(model, folder / "some")
    assert "adapter='one'" in str(caught.value)
    load(model, folder / "some", adapter="one")
    load(model, folder / "two")
    with pytest.raises(TreealignError, match="several adapters"):
        save(model, folder / "out")


def test_the_wrong_name_of_an_adapter_is_an_error_that_names_those_that_are_there(two):
    model, folder = two
    with pytest.raises(TreealignError, match="no adapter 'three'") as caught:
        load(model, folder / "one", adapter="three")
    assert "'one', 'two'" in str(caught.value)


def test_what_an_adapter_lacks_and_what_it_has_too_much_is_said_of_it_alone(tmp_path):
    written(peft.LoraConfig(r=2, target_modules=["q_proj", "out"]), tmp_path)
    model = peft.get_peft_model(net(), KINDS["LoRA"])
    with pytest.raises(TreealignError) as caught:
        load(model, tmp_path)
    assert "score" not in str(caught.value)
    assert "embed" not in str(caught.value)


def test_an_adapter_of_an_older_layout_is_loaded_and_goes_back_under_its_names(tmp_path):
    trained = written(KINDS["modules to save"], tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    old = {key.replace(".layers.", ".encoder.blocks."): value for key, value in load_file(path).items()}
    save_file(old, path, metadata={"format": "pt"})
    model = peft.get_peft_model(net(), KINDS["modules to save"])
    load(model, tmp_path / "adapter", [Rename("**.encoder.blocks", "**.layers")])
    assert torch.equal(outputs(model), outputs(trained))
    save(model, tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == path.read_bytes()


def test_a_suggestion_for_an_adapter_speaks_of_its_keys_only(tmp_path):
    written(KINDS["LoRA"], tmp_path)
    found = suggest(tmp_path, peft.get_peft_model(net(), KINDS["LoRA"]))
    assert (found.ok, found.missing_keys, found.unexpected_keys) == (True, (), ())


def test_the_mapping_of_a_load_serves_the_next_one(tmp_path):
    written(KINDS["modules to save"], tmp_path)
    first, second = (peft.get_peft_model(net(), KINDS["modules to save"]) for _ in range(2))
    mapping = load(first, tmp_path).mapping
    load(second, tmp_path, mapping)
    assert torch.equal(outputs(first), outputs(second))


def test_the_whole_state_of_a_wrapped_model_is_no_adapter(tmp_path):
    model = shaken(peft.get_peft_model(net(), KINDS["LoRA"]))
    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    other = peft.get_peft_model(net(), KINDS["LoRA"])
    load(other, tmp_path / "whole.safetensors")
    assert torch.equal(outputs(other), outputs(model))


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.arange(8)[None]).logits


PROMPTS = {
    "prompt tuning": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "prefix tuning": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}


@pytest.mark.parametrize("config", PROMPTS.values(), ids=PROMPTS)
def test_prompts_are_loaded_and_saved_as_peft_does(config, tmp_path):
    trained = shaken(peft.get_peft_model(llama(), config))
    trained.save_pretrained(tmp_path / "adapter")
    model = peft.get_peft_model(llama(), config)
    load(model, tmp_path / "adapter")
    assert torch.equal(logits(model), logits(trained))
    save(model, tmp_path / "out")
    files = [load_file(tmp_path / at / "adapter_model.safetensors") for at in ("adapter", "out")]
    assert files[0].keys() == files[1].keys()
    assert torch.equal(logits(peft.PeftModel.from_pretrained(llama(), tmp_path / "out")), logits(trained))


def test_a_prompt_that_is_computed_is_refused_and_not_filled_from_its_result(tmp_path):
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16
    )
    peft.get_peft_model(llama(), config).save_pretrained(tmp_path)
    with pytest.raises(TreealignError):
        load(peft.get_peft_model(llama(), config), tmp_path)


def test_a_transformers_model_that_adapters_were_injected_into_takes_the_folder_too(tmp_path, monkeypatch):
    from transformers.integrations import peft as integration

    # transformers may ask for a release of peft that is not out yet
    monkeypatch.setattr(integration, "MIN_PEFT_VERSION", "0.18.0")
    config = peft.LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False)
    trained = peft.get_peft_model(llama(), config)
    trained.save_pretrained(tmp_path / "adapter")
    model = llama()
    model.add_adapter(peft.LoraConfig(r=2, target_modules=TARGETS))
    load(model, tmp_path / "adapter")
    assert torch.equal(logits(model), logits(trained))
    save(model, tmp_path / "out")
    again = peft.PeftModel.from_pretrained(llama(), tmp_path / "out")
    assert torch.equal(logits(again), logits(trained))


def test_a_base_that_was_loaded_is_not_mixed_with_its_adapter(tmp_path):
    base = net()
    old = {f"wrapped.{key}": value for key, value in net().state_dict().items()}
    save_file(old, tmp_path / "base.safetensors")
    load(base, tmp_path / "base.safetensors", [PrefixChange(remove="wrapped")])
    written(KINDS["LoRA"], tmp_path / "adapter")
    model = peft.get_peft_model(base, KINDS["LoRA"])
    load(model, tmp_path / "adapter")
    save(model, tmp_path / "out", adapter="default")
    files = [tmp_path / at / "adapter_model.safetensors" for at in ("adapter", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()
    bare = model.unload()
    save(bare, tmp_path / "bare")
    assert load_file(tmp_path / "bare" / "model.safetensors").keys() == old.keys()


def test_the_config_that_is_saved_is_that_of_peft(tmp_path):
    written(KINDS["ranks by pattern"], tmp_path / "adapter")
    model = peft.get_peft_model(net(), KINDS["ranks by pattern"])
    load(model, tmp_path / "adapter")
    save(model, tmp_path / "out")
    configs = [json.loads((tmp_path / at / "adapter_config.json").read_text()) for at in ("adapter", "out")]
    for config in configs:
        config["target_modules"] = sorted(config["target_modules"])
    assert configs[0] == configs[1]


def as_torch(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    return folder


FORMS = {
    "a state dict": lambda folder: load_file(folder / "adapter_model.safetensors"),
    "a file": lambda folder: folder / "adapter_model.safetensors",
    "a torch file": as_torch,
    "a folder": lambda folder: folder,
}


WRAPPED = {
    "bare": lambda model: model,
    "compiled": torch.compile,
    "for several devices": torch.nn.DataParallel,
    "both": lambda model: torch.nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_whatever_holds_the_adapter_and_whatever_wraps_the_model(form, wrap, tmp_path):
    trained = written(KINDS["modules to save"], tmp_path / "adapter")
    model = peft.get_peft_model(net(), KINDS["modules to save"])
    load(wrap(model), form(tmp_path / "adapter"))
    assert torch.equal(outputs(model), outputs(trained))
    save(wrap(model), tmp_path / "out")
    assert torch.equal(outputs(peft.PeftModel.from_pretrained(net(), tmp_path / "out")), outputs(trained))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_the_model_knows_what_was_loaded(again, tmp_path):
    written(KINDS["LoRA"], tmp_path / "adapter")
    model = peft.get_peft_model(net(), KINDS["LoRA"])
    load(model, tmp_path / "adapter")
    save(again(model), tmp_path / "out")
    files = [tmp_path / at / "adapter_model.safetensors" for at in ("adapter", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_adapter_on_the_meta_device_is_made_by_the_load(tmp_path):
    trained = written(KINDS["LoRA"], tmp_path)
    model = peft.get_peft_model(net(), KINDS["LoRA"], low_cpu_mem_usage=True)
    load(model, tmp_path)
    assert torch.equal(outputs(model), outputs(trained))


def test_half_an_adapter_is_loaded_if_that_is_asked_for_and_the_rest_is_listed(tmp_path):
    written(peft.LoraConfig(r=2, target_modules=["q_proj"]), tmp_path)
    result = load(peft.get_peft_model(net(), KINDS["LoRA"]), tmp_path, strict=False)
    assert sorted({key.split(".")[-4] for key in result.missing_keys}) == ["v_proj"]
    assert result.unexpected_keys == ()


@pytest.mark.parametrize("settings", [{"lora_alpha": 16}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 3}}])
def test_an_adapter_that_the_model_would_scale_otherwise_is_refused_and_says_so(settings, tmp_path):
    written(peft.LoraConfig(r=2, target_modules=TARGETS, **settings), tmp_path)
    model = peft.get_peft_model(net(), KINDS["LoRA"])
    with pytest.raises(TreealignError, match="computes otherwise") as caught:
        load(model, tmp_path)
    assert next(iter(settings)) in str(caught.value)
    assert not load(model, tmp_path, strict=False).missing_keys


TRAINED_AND_MADE = {
    "patterns": (
        peft.LoraConfig(r=2, target_modules=TARGETS, alpha_pattern={"q_proj": 16, "v_proj": 4}),
        peft.LoraConfig(r=2, target_modules=TARGETS, alpha_pattern={"q_proj": 4, "v_proj": 16}),
    ),
    "tokens": (
        peft.LoraConfig(r=2, target_modules=TARGETS, trainable_token_indices={"embed": [1, 5]}),
        peft.LoraConfig(r=2, target_modules=TARGETS, trainable_token_indices={"embed": [2, 5]}),
    ),
    "FourierFT's scaling": tuple(
        peft.FourierFTConfig(n_frequency=4, target_modules=TARGETS, scaling=scaling) for scaling in (150.0, 300.0)
    ),
    "FourierFT's places": tuple(
        peft.FourierFTConfig(n_frequency=4, target_modules=TARGETS, random_loc_seed=seed) for seed in (1, 2)
    ),
    "VeRA's projection": tuple(
        peft.VeraConfig(r=2, target_modules=TARGETS, projection_prng_key=seed, save_projection=False) for seed in (1, 2)
    ),
    "RandLoRA's alpha": tuple(
        peft.RandLoraConfig(r=2, target_modules=TARGETS, randlora_alpha=alpha) for alpha in (8, 64)
    ),
}


@pytest.mark.parametrize(("trained", "made"), TRAINED_AND_MADE.values(), ids=TRAINED_AND_MADE)
def test_a_setting_by_which_the_same_numbers_compute_something_else_is_said(trained, made, tmp_path):
    other = next(name for name, value in trained.to_dict().items() if made.to_dict()[name] != value)
    written(trained, tmp_path)
    model = peft.get_peft_model(net(), made)
    with pytest.raises(TreealignError, match=f"computes otherwise: {other}"):
        load(model, tmp_path)
    assert load(model, tmp_path, strict=False).other_settings[0].startswith(f"{other}: ")


@pytest.mark.parametrize(
    ("trained", "made"),
    [
        (
            peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, lora_dropout=0.1, init_lora_weights="gaussian"),
            peft.LoraConfig(r=2, lora_alpha=9, target_modules=["attn.q_proj", "v_proj"], alpha_pattern={"._proj": 4}),
        ),
        tuple(peft.VeraConfig(r=2, target_modules=TARGETS, projection_prng_key=seed) for seed in (1, 2)),
    ],
    ids=["each module gets the same scale", "the projection is in the file"],
)
def test_a_setting_that_computes_nothing_may_differ(trained, made, tmp_path):
    theirs, model = written(trained, tmp_path), peft.get_peft_model(net(), made)
    assert load(model, tmp_path).other_settings == ()
    assert torch.equal(outputs(model), outputs(theirs.eval()))


def test_a_file_with_scales_of_its_own_is_not_loaded_without_them(tmp_path):
    written(KINDS["LoRA"], tmp_path)
    held = load_file(tmp_path / "adapter_model.safetensors")
    modules = {key.partition(".lora_")[0] for key in held}
    flat = {key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): value for key, value in held.items()}
    flat |= {f"{module}.alpha": torch.tensor(1.0) for module in modules}
    with pytest.raises(TreealignError, match="kohya_to_peft"):
        load(peft.get_peft_model(net(), KINDS["LoRA"]), flat)
