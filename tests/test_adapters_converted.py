"""An adapter's folder is converted with its config, exactly or not at all: PEFT loads what comes out, outputs equal."""

from __future__ import annotations

import hashlib
import json
import logging

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from treealign import Convert, PrefixChange, Rename, TreealignError, convert_checkpoint, operations

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("peft").setLevel(logging.ERROR)
HEAD, KEYS = 8, 4  # rows of queries, and of keys and values


class Parted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(8, HEAD)
        self.k_proj, self.v_proj = torch.nn.Linear(8, KEYS), torch.nn.Linear(8, KEYS)
        self.o_proj = torch.nn.Linear(16, 8)

    def forward(self, x):
        return self.o_proj(torch.tanh(torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], -1)))


class Fused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv_proj = torch.nn.Linear(8, HEAD + 2 * KEYS)
        self.dense = torch.nn.Linear(16, 8)

    def forward(self, x):
        return self.dense(torch.tanh(self.qkv_proj(x)))


class Blocks(torch.nn.Module):
    """`name` is what the list of layers is called; `level` a level above it, if any."""

    def __init__(self, kind, name="layers", level=""):
        super().__init__()
        blocks = torch.nn.ModuleList(torch.nn.ModuleDict({"attn": kind()}) for _ in range(3))
        held = torch.nn.ModuleDict({name: blocks})
        self.model = torch.nn.ModuleDict({level: held}) if level else held
        self.score = torch.nn.Linear(8, 3)
        self.blocks = [blocks]  # a list, so that torch does not see them twice

    def forward(self, x):
        for block in self.blocks[0]:
            x = x + block["attn"](x)
        return self.score(x)


SIZES = (HEAD, KEYS, KEYS)
JOIN = [
    Rename("**.attn.o_proj", "**.attn.dense"),
    Convert([f"**.attn.{n}_proj" for n in "qkv"], "**.attn.qkv_proj", [operations.Concat(0, SIZES)]),
]


def base(mapping, make):
    """The old model with numbers of its own, and the new one with the same."""
    from treealign import load

    torch.manual_seed(1)
    old, new = (one().double() for one in make)
    load(new, old.state_dict(), mapping)
    return old, new


def trained(model, folder, **settings):
    """An adapter of the model, all of its numbers drawn; in the folder, and its outputs."""
    torch.manual_seed(2)
    config = peft.LoraConfig(**{"r": 2, "lora_alpha": 3, **settings}, init_lora_weights=False)
    adapted = peft.get_peft_model(model, config)
    if settings.get("use_dora") or settings.get("modules_to_save"):
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.rand_like(parameter) / 8)
    adapted.double().save_pretrained(folder)
    return outputs(adapted)


def outputs(model):
    torch.manual_seed(9)
    with torch.no_grad():
        return model.eval()(torch.randn(5, 8, dtype=torch.float64))


def loaded(model, folder):
    return outputs(peft.PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False).double())


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def contents(folder):
    return {
        path.name: path.read_text().splitlines()
        if path.suffix == ".json"
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.startswith("treealign")
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "k_proj", "v_proj"]},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["k_proj", "o_proj"]},
        {"target_modules": ["q_proj", "v_proj", "o_proj"], "modules_to_save": ["score"]},
        {
            "target_modules": ["q_proj", "k_proj", "v_proj"],
            "rank_pattern": {"q_proj": 4},
            "alpha_pattern": {"q_proj": 6},
        },
        {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "use_dora": True},
        {"target_modules": ["q_proj", "k_proj", "v_proj"], "lora_bias": True},
        {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {"target_modules": r"model\.layers\.\d+\.attn\.(q_proj|v_proj)"},
        {"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"target_modules": ["model.layers.1.attn.q_proj", "model.layers.2.attn.o_proj"]},
    ],
    ids=lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()),
)
def test_updates_of_parts_become_one_of_the_whole_and_go_back_as_they_were(settings, tmp_path):
    old, new = base(JOIN, (lambda: Blocks(Parted), lambda: Blocks(Fused)))
    wanted = trained(old, tmp_path / "old", **settings)
    result = convert_checkpoint(tmp_path / "old", tmp_path / "new", JOIN)
    assert result.notes == ()
    torch.testing.assert_close(loaded(new, tmp_path / "new"), wanted, rtol=1e-12, atol=1e-12)
    convert_checkpoint(tmp_path / "new", tmp_path / "back", JOIN, reverse=True)
    assert contents(tmp_path / "back") == contents(tmp_path / "old")


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["qkv_proj"]},
        {"target_modules": ["qkv_proj", "dense"], "use_dora": True},
        {"target_modules": ["qkv_proj"], "lora_bias": True, "use_rslora": True},
        {"target_modules": r".*\.attn\.(qkv_proj|dense)"},
    ],
    ids=lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()),
)
def test_an_update_of_the_whole_becomes_those_of_its_parts_and_goes_back_as_it_was(settings, tmp_path):
    split = [one.inverse for one in reversed(JOIN)]
    split = [one for one in split if isinstance(one, Rename)] + [one for one in split if isinstance(one, Convert)]
    old, new = base(split, (lambda: Blocks(Fused), lambda: Blocks(Parted)))
    wanted = trained(old, tmp_path / "old", **settings)
    convert_checkpoint(tmp_path / "old", tmp_path / "new", split)
    torch.testing.assert_close(loaded(new, tmp_path / "new"), wanted, rtol=1e-12, atol=1e-12)
    convert_checkpoint(tmp_path / "new", tmp_path / "back", split, reverse=True)
    assert contents(tmp_path / "back") == contents(tmp_path / "old")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"target_modules": ["q_proj", "v_proj"], "use_dora": True}, "lora_magnitude_vector"),
        ({"target_modules": ["q_proj", "v_proj"], "lora_bias": True}, "lora_B.bias"),
        ({"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"q_proj": 9}}, "scaled differently"),
        ({"target_modules": ["o_proj"], "modules_to_save": ["q_proj"]}, "no rule for weight"),
    ],
)
def test_what_cannot_follow_exactly_is_refused_with_the_reason_and_nothing_is_written(settings, why, tmp_path):
    old, _ = base(JOIN, (lambda: Blocks(Parted), lambda: Blocks(Fused)))
    trained(old, tmp_path / "old", **settings)
    with pytest.raises(TreealignError) as caught:
        convert_checkpoint(tmp_path / "old", tmp_path / "new", JOIN)
    assert why in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", [peft.LoHaConfig, peft.LoKrConfig])
def test_kinds_without_a_rule_are_refused_on_fused_weights(kind, tmp_path):
    old, _ = base(JOIN, (lambda: Blocks(Parted), lambda: Blocks(Fused)))
    peft.get_peft_model(old, kind(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "old")
    with pytest.raises(TreealignError, match="no rule"):
        convert_checkpoint(tmp_path / "old", tmp_path / "new", JOIN)


MOVES = {
    "renamed layers": ([Rename("model.layers", "model.h")], ("layers", ""), ("h", "")),
    "a level removed": ([PrefixChange(remove="text", under="model")], ("layers", "text"), ("layers", "")),
    "a level added": ([PrefixChange(add="text", under="model")], ("layers", ""), ("layers", "text")),
}
SPELLINGS = [
    {"target_modules": ["q_proj", "o_proj"]},
    {"target_modules": ["attn.q_proj"], "modules_to_save": ["score"]},
    {"target_modules": "all-linear"},
    {"target_modules": r"model\.{text}layers\.[02]\.attn\.(q|o)_proj"},
    {"target_modules": r".*{text}layers.*\.q_proj"},
    {"target_modules": ["model.{text}layers.1.attn.v_proj"], "rank_pattern": {"model.{text}layers.1.attn.v_proj": 3}},
    {"target_modules": ["v_proj"], "rank_pattern": {r"layers\.1\.attn\.v_proj": 3}},
    {"target_modules": ["v_proj"], "alpha_pattern": {r"^model.{text}layers.2.attn.v_proj": 9}},
    {"target_modules": ["q_proj"], "exclude_modules": ["model.{text}layers.0.attn.q_proj"]},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": ["layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": 1},
]


def put(value, text):
    if isinstance(value, str):
        return value.replace("{text}", text)
    if isinstance(value, list):
        return [put(one, text) for one in value]
    return {put(name, text): put(one, text) for name, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("settings", SPELLINGS, ids=str)
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_config_finds_the_same_modules_under_their_new_names(move, settings, tmp_path):
    mapping, before, after = move
    old, new = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    text = before[1] + "." if before[1] else ""
    is_regex = isinstance(settings["target_modules"], str)
    wanted = trained(old, tmp_path / "old", **put(settings, text.replace(".", r"\.") if is_regex else text))
    convert_checkpoint(tmp_path / "old", tmp_path / "new", mapping)
    assert torch.equal(loaded(new, tmp_path / "new"), wanted)
    kept = peft.PeftModel.from_pretrained(new, tmp_path / "new")
    missing = peft.set_peft_model_state_dict(kept, load_file(tmp_path / "new" / "adapter_model.safetensors"))
    assert not missing.unexpected_keys
    convert_checkpoint(tmp_path / "new", tmp_path / "back", mapping, reverse=True)
    assert contents(tmp_path / "back") == contents(tmp_path / "old")


def test_a_config_that_was_edited_since_is_migrated_back_and_not_overwritten(tmp_path):
    mapping, before, after = MOVES["renamed layers"]
    old, _ = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    trained(old, tmp_path / "old", target_modules=["model.layers.1.attn.v_proj"])
    convert_checkpoint(tmp_path / "old", tmp_path / "new", mapping)
    edited = config(tmp_path / "new") | {"revision": "mine"}
    (tmp_path / "new" / "adapter_config.json").write_text(json.dumps(edited))
    convert_checkpoint(tmp_path / "new", tmp_path / "back", mapping, reverse=True)
    assert config(tmp_path / "back") == config(tmp_path / "old") | {"revision": "mine"}


def test_what_no_weight_of_the_adapter_tells_is_said(tmp_path):
    mapping, before, after = MOVES["a level removed"]
    old, _ = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    trained(old, tmp_path / "old", target_modules=["q_proj"], exclude_modules="text.*score")
    result = convert_checkpoint(tmp_path / "old", tmp_path / "new", mapping)
    assert [note for note in result.notes if "text.*score" in note and "adapter_config.json" in note]


def test_in_place_the_config_goes_with_the_headers(tmp_path):
    mapping, before, after = MOVES["renamed layers"]
    old, new = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    wanted = trained(old, tmp_path / "it", target_modules=["model.layers.1.attn.v_proj"])
    was = contents(tmp_path / "it")
    convert_checkpoint(tmp_path / "it", None, mapping, in_place=True)
    assert torch.equal(loaded(new, tmp_path / "it"), wanted)
    convert_checkpoint(tmp_path / "it", None, mapping, reverse=True, in_place=True)
    assert contents(tmp_path / "it") == was


def test_a_file_alone_says_that_its_config_was_left(tmp_path):
    mapping, before, after = MOVES["renamed layers"]
    old, _ = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    trained(old, tmp_path / "old", target_modules=["model.layers.1.attn.v_proj"])
    result = convert_checkpoint(tmp_path / "old" / "adapter_model.safetensors", tmp_path / "new.safetensors", mapping)
    assert len(result.notes) == 1
    assert "adapter_config.json" in result.notes[0]


def test_the_mapping_of_an_audit_converts_fused_updates_too(tmp_path):
    from typer.testing import CliRunner

    from treealign import KeyTree
    from treealign.cli.verbs import app

    old, new = base(JOIN, (lambda: Blocks(Parted), lambda: Blocks(Fused)))
    wanted = trained(old, tmp_path / "old", target_modules=["q_proj", "v_proj"])
    at = [str(tmp_path / name) for name in ("old.json", "new.json", "mapping.json", "old", "new")]
    for path, make in zip(at, (Parted, Fused), strict=False):
        with torch.device("meta"):
            state = Blocks(make).state_dict()
        KeyTree.from_leaves([(key, tuple(t.shape), "float64") for key, t in state.items()], ordered=True).to_json(path)
    made = CliRunner().invoke(app, ["audit", *at[:2], "-o", at[2], "--adapter", at[3], "--accept-guesses"])
    converted = CliRunner().invoke(app, ["convert", at[3], at[4], at[2]])
    assert (made.exit_code, converted.exit_code) == (1, 0), made.output + converted.output
    torch.testing.assert_close(loaded(new, tmp_path / "new"), wanted, rtol=1e-12, atol=1e-12)


def test_a_base_models_mapping_loads_its_adapter_into_a_live_model(tmp_path):
    from treealign import load

    mapping, before, after = MOVES["a level removed"]
    old, new = base(mapping, (lambda: Blocks(Parted, *before), lambda: Blocks(Parted, *after)))
    wanted = trained(old, tmp_path / "old", target_modules=["q_proj"])
    model = peft.get_peft_model(new, peft.LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj"])).double()
    load(model, tmp_path / "old", mapping)
    assert torch.equal(outputs(model), wanted)


def test_a_mapping_of_an_adapters_own_parts_is_taken_as_it_is(tmp_path):
    turned = [Convert("**.lora_a", "**.lora_A.weight", [operations.Permute((1, 0))])]
    save_file({"layers.0.q_proj.lora_a": torch.ones(8, 2)}, tmp_path / "adapters.safetensors")
    convert_checkpoint(tmp_path / "adapters.safetensors", tmp_path / "out.safetensors", turned)
    made = load_file(tmp_path / "out.safetensors")
    assert {key: tuple(value.shape) for key, value in made.items()} == {"layers.0.q_proj.lora_A.weight": (2, 8)}
