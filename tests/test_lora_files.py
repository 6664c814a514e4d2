"""Adapters of kohya, LyCORIS and diffusers become PEFT's and go back whole; their own loaders compute the same."""

from __future__ import annotations

import logging
from functools import cache

import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from treealign import ConversionMapping, Convert, KeyTree, Rename, TreealignError, convert_checkpoint, operations
from treealign.dialects.lora_files.diffusers import diffusers_to_peft, peft_to_diffusers
from treealign.dialects.lora_files.kohya import kohya_to_peft, peft_to_kohya

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("peft").setLevel(logging.ERROR)


@cache
def settings():
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    return {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
    }


def unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(**settings())


def outputs(model):
    torch.manual_seed(4)
    with torch.no_grad():
        return model.eval()(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 3, 8)).sample


def kohya(model, front="lora_unet_", alpha=True, rank=2, dora=False, dtype=torch.float32, alike=False):
    """A file of kohya's for every projection of the attentions, as its scripts name them."""
    torch.manual_seed(6)
    found = {}
    for number, (name, module) in enumerate(model.named_modules()):
        if not name.endswith(("to_q", "to_v", "to_out.0", "proj_in")):
            continue
        flat, r = front + name.replace(".", "_"), rank + (0 if alike else number % 2)
        ins, outs = module.weight.shape[1], module.weight.shape[0]
        extra = (1, 1) if module.weight.ndim == 4 else ()
        found[f"{flat}.lora_down.weight"] = torch.randn(r, ins, *extra, dtype=dtype)
        found[f"{flat}.lora_up.weight"] = torch.randn(outs, r, *extra, dtype=dtype)
        if alpha:
            found[f"{flat}.alpha"] = torch.tensor(1.0 if alike else 1.0 + number % 3, dtype=dtype)
        if dora and not extra:
            found[f"{flat}.dora_scale"] = torch.rand(outs, 1, dtype=dtype) + 1
    return found


KOHYA = {
    "with alphas": {},
    "all alike": {"alike": True},
    "without": {"alpha": False},
    "in half precision": {"dtype": torch.float16},
}


def merged(model, tensors):
    """The model with the updates in its weights, by kohya's own arithmetic: alpha over rank times up times down."""
    with torch.no_grad():
        for name, module in model.named_modules():
            flat = "lora_unet_" + name.replace(".", "_")
            if f"{flat}.lora_up.weight" in tensors:
                down, up = (tensors[f"{flat}.lora_{part}.weight"].float() for part in ("down", "up"))
                scale = float(tensors.get(f"{flat}.alpha", len(down))) / len(down)
                module.weight += scale * (up.flatten(1) @ down.flatten(1)).reshape(module.weight.shape)
    return model


METADATA = {"ss_network_module": "networks.lora", "ss_network_dim": "2"}


def metadata(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def same(one, other):
    one, other = load_file(one), load_file(other)
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(a, b) for a, b in ((one[k], other[k]) for k in one)
    )


@pytest.mark.parametrize("options", KOHYA.values(), ids=KOHYA)
def test_a_file_of_kohya_computes_with_peft_what_diffusers_makes_of_it_and_goes_back_whole(options, tmp_path):
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    path = tmp_path / "kohya.safetensors"
    save_file(kohya(unet(), **options), path, METADATA)
    assert kohya_to_peft(path, tmp_path / "peft", unet()) == ()
    ours = outputs(peft.PeftModel.from_pretrained(unet(), tmp_path / "peft"))
    torch.testing.assert_close(ours, outputs(merged(unet(), load_file(path))), rtol=1e-5, atol=1e-5)
    theirs = unet()
    if options.get("alike") or not options.get(
        "alpha", True
    ):  # of alphas that differ, diffusers 0.42 takes one for all
        state, alphas = Loader.lora_state_dict(str(path), unet_config=theirs.config)
        Loader.load_lora_into_unet(state, alphas, theirs)
        torch.testing.assert_close(ours, outputs(theirs), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, outputs(unet()), atol=1e-3)
    peft_to_kohya(tmp_path / "peft", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", path)
    assert metadata(tmp_path / "back.safetensors") == METADATA


def test_dora_scales_are_kept(tmp_path):
    path = tmp_path / "kohya.safetensors"
    save_file({k: t for k, t in kohya(unet(), dora=True).items() if "proj_in" not in k}, path)
    kohya_to_peft(path, tmp_path / "peft", unet())
    model = peft.PeftModel.from_pretrained(unet(), tmp_path / "peft")
    held = {key: value for key, value in model.state_dict().items() if "magnitude" in key}
    written = {key: value for key, value in load_file(path).items() if "dora" in key}
    assert sorted(map(torch.Tensor.tolist, held.values())) == sorted(v[:, 0].tolist() for v in written.values())
    peft_to_kohya(tmp_path / "peft", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", path)


def test_hadamard_products_of_lycoris_are_pefts(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 8)).double()
    config = peft.LoHaConfig(r=2, alpha=3, target_modules=["0", "1"], init_weights=False)
    model = peft.get_peft_model(net, config).double()
    x = torch.randn(3, 8, dtype=torch.float64)
    wanted = model.eval()(x)
    state = {k.removeprefix("base_model.model."): v for k, v in peft.get_peft_model_state_dict(model).items()}
    flat = {f"lycoris_{key.replace('.', '.', 1)}": value for key, value in state.items()}
    flat |= {f"lycoris_{n}.alpha": torch.tensor(3.0) for n in range(2)}
    save_file({k: v.contiguous() for k, v in flat.items()}, tmp_path / "lycoris.safetensors")
    bare = model.unload()
    kohya_to_peft(tmp_path / "lycoris.safetensors", tmp_path / "peft", bare, "lycoris_")
    again = peft.PeftModel.from_pretrained(bare, tmp_path / "peft", autocast_adapter_dtype=False).double().eval()
    assert torch.equal(again(x), wanted)
    peft_to_kohya(tmp_path / "peft", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", tmp_path / "lycoris.safetensors")


def test_keys_of_other_models_are_told_and_left(tmp_path):
    path, other = tmp_path / "both.safetensors", {"lora_te1_text_model_fc.alpha": torch.tensor(1.0)}
    save_file(kohya(unet()) | other, path)
    assert kohya_to_peft(path, tmp_path / "peft", unet()) == tuple(other)


def test_a_name_that_no_module_or_two_modules_have_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(
        {"lora_unet_a_b_c.lora_up.weight": torch.ones(2, 2), "lora_unet_d.lora_up.weight": torch.ones(2, 2)}, path
    )
    model = KeyTree.from_leaves([(f"{name}.weight", (2, 2), "float32") for name in ("a_b.c", "a.b_c", "e")])
    with pytest.raises(TreealignError) as caught:
        kohya_to_peft(path, tmp_path / "peft", model)
    assert "a.b_c, a_b.c" in str(caught.value)
    assert "no module is spelled so" in str(caught.value)
    assert not (tmp_path / "peft").exists()


def test_a_part_that_peft_does_not_have_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(kohya(unet()) | {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_mid.weight": torch.ones(1)}, path)
    with pytest.raises(TreealignError, match="lora_mid"):
        kohya_to_peft(path, tmp_path / "peft", unet())


def test_an_adapter_of_peft_is_saved_as_diffusers_does_and_comes_back(tmp_path):
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    config = peft.LoraConfig(r=2, lora_alpha=5, target_modules=["to_q"], init_lora_weights=False)
    model = peft.get_peft_model(unet(), config)
    model.save_pretrained(tmp_path / "peft")
    wanted = outputs(model)
    peft_to_diffusers({"unet": tmp_path / "peft"}, tmp_path / "pipeline")
    theirs = unet()
    path = tmp_path / "pipeline" / "pytorch_lora_weights.safetensors"
    state, alphas, own = Loader.lora_state_dict(str(path), unet_config=theirs.config, return_lora_metadata=True)
    Loader.load_lora_into_unet(state, alphas, theirs, metadata=own)
    torch.testing.assert_close(outputs(theirs), wanted, rtol=1e-5, atol=1e-5)
    diffusers_to_peft(path, tmp_path / "back")
    assert torch.equal(outputs(peft.PeftModel.from_pretrained(unet(), tmp_path / "back")), wanted)
    assert same(tmp_path / "back" / "adapter_model.safetensors", tmp_path / "peft" / "adapter_model.safetensors")


def test_what_diffusers_saves_is_read_with_and_without_metadata(tmp_path):
    theirs = unet()
    theirs.add_adapter(peft.LoraConfig(r=3, lora_alpha=3, target_modules=["to_q", "to_v"], init_lora_weights=False))
    theirs.save_lora_adapter(tmp_path, weight_name="own.safetensors")
    bare = {f"unet.{key}": value for key, value in load_file(tmp_path / "own.safetensors").items()}
    save_file(bare, tmp_path / "pipeline.safetensors")
    diffusers_to_peft(tmp_path / "pipeline.safetensors", tmp_path / "peft")
    ours = outputs(peft.PeftModel.from_pretrained(unet(), tmp_path / "peft"))
    torch.testing.assert_close(ours, outputs(theirs), rtol=1e-5, atol=1e-5)


class Double(torch.nn.Module):
    """A block of Flux as Black Forest Labs name it: queries, keys and values are one weight."""

    def __init__(self):
        super().__init__()
        attention = torch.nn.ModuleDict({"qkv": torch.nn.Linear(8, 24), "proj": torch.nn.Linear(24, 8)})
        self.img_attn = attention

    def forward(self, x):
        return x + self.img_attn["proj"](torch.tanh(self.img_attn["qkv"](x)))


class Block(torch.nn.Module):
    """The same as diffusers names it."""

    def __init__(self):
        super().__init__()
        parts = {name: torch.nn.Linear(8, 8) for name in ("to_q", "to_k", "to_v")}
        self.attn = torch.nn.ModuleDict({**parts, "to_out": torch.nn.ModuleList([torch.nn.Linear(24, 8)])})

    def forward(self, x):
        joined = torch.cat([self.attn[name](x) for name in ("to_q", "to_k", "to_v")], -1)
        return x + self.attn["to_out"][0](torch.tanh(joined))


class Stack(torch.nn.Module):
    def __init__(self, name, block):
        super().__init__()
        self.add_module(name, torch.nn.ModuleList(block() for _ in range(2)))
        self.name = name

    def forward(self, x):
        for block in getattr(self, self.name):
            x = block(x)
        return x


FLUX = [
    Rename("double_blocks.{i}.img_attn.proj", "transformer_blocks.{i}.attn.to_out.0"),
    Convert(
        "double_blocks.{i}.img_attn.qkv",
        [f"transformer_blocks.{{i}}.attn.to_{part}" for part in "qkv"],
        [operations.Split(0, (8, 8, 8))],
    ),
]


def test_a_file_of_the_shape_of_flux_goes_on_to_the_layout_of_diffusers_and_back(tmp_path):
    from treealign import load

    torch.manual_seed(0)
    original, new = Stack("double_blocks", Double).double(), Stack("transformer_blocks", Block).double()
    load(new, original.state_dict(), FLUX)
    path = tmp_path / "flux.safetensors"
    flat = {}
    for name, module in original.named_modules():
        if isinstance(module, torch.nn.Linear):
            front = "lora_unet_" + name.replace(".", "_")
            flat[f"{front}.lora_down.weight"] = torch.randn(2, module.in_features, dtype=torch.float64)
            flat[f"{front}.lora_up.weight"] = torch.randn(module.out_features, 2, dtype=torch.float64)
            flat[f"{front}.alpha"] = torch.tensor(4.0)
    save_file(flat, path)
    kohya_to_peft(path, tmp_path / "original", original)
    convert_checkpoint(tmp_path / "original", tmp_path / "new", FLUX)
    x = torch.randn(3, 8, dtype=torch.float64)
    loaded = [
        peft.PeftModel.from_pretrained(model, tmp_path / at, autocast_adapter_dtype=False).double().eval()(x)
        for model, at in ((original, "original"), (new, "new"))
    ]
    torch.testing.assert_close(*loaded, rtol=1e-12, atol=1e-12)
    convert_checkpoint(tmp_path / "new", tmp_path / "back", FLUX, reverse=True)
    peft_to_kohya(tmp_path / "back", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", path)


def products(net, config):
    """A file of LyCORIS, and what a model with these Kronecker products computes."""
    model = peft.get_peft_model(net, config).double()
    state = {k.removeprefix("base_model.model."): v for k, v in peft.get_peft_model_state_dict(model).items()}
    ranks = {name: module for name, module in model.named_modules() if hasattr(module, "lokr_w1")}
    flat = {f"lycoris_{k.rpartition('.')[0].replace('.', '_')}.{k.rpartition('.')[2]}": v for k, v in state.items()}
    for name in ranks:
        flat[f"lycoris_{name.removeprefix('base_model.model.').replace('.', '_')}.alpha"] = torch.tensor(3.0)
    return model.eval(), {key: value.detach().contiguous() for key, value in flat.items()}


PRODUCTS = {
    "one factor parted": peft.LoKrConfig(r=2, alpha=3, target_modules=["a", "b"], init_weights=False),
    "both parted": peft.LoKrConfig(r=1, alpha=3, decompose_both=True, target_modules=["a", "b"], init_weights=False),
    "a given factor": peft.LoKrConfig(r=2, alpha=3, decompose_factor=2, target_modules=["a", "b"], init_weights=False),
    "convolutions": peft.LoKrConfig(r=2, alpha=3, target_modules=["conv"], init_weights=False),
    "of kernels": peft.LoKrConfig(r=2, alpha=3, target_modules=["conv"], use_effective_conv2d=True, init_weights=False),
}


class Mixed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = torch.nn.Linear(16, 36), torch.nn.Linear(36, 16)
        self.conv = torch.nn.Conv2d(16, 36, 3, padding=1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x))) + self.conv(x.T[None, :, :, None]).mean()


@pytest.mark.parametrize("config", PRODUCTS.values(), ids=PRODUCTS)
def test_kronecker_products_of_lycoris_are_pefts(config, tmp_path):
    x = torch.randn(3, 16, dtype=torch.float64)
    model, flat = products(Mixed(), config)
    save_file(flat, tmp_path / "lycoris.safetensors")
    kohya_to_peft(tmp_path / "lycoris.safetensors", tmp_path / "peft", Mixed(), "lycoris_")
    again = peft.PeftModel.from_pretrained(Mixed(), tmp_path / "peft", autocast_adapter_dtype=False).double().eval()
    assert torch.equal(again(x), model(x))
    peft_to_kohya(tmp_path / "peft", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", tmp_path / "lycoris.safetensors")


def test_a_product_of_two_whole_matrices_is_not_scaled(tmp_path):
    first, second = torch.randn(4, 4), torch.randn(9, 4)
    parts = {"lokr_w1": first, "lokr_w2": second, "alpha": torch.tensor(1e6)}
    save_file({f"lycoris_a.{name}": part for name, part in parts.items()}, tmp_path / "l.safetensors")
    kohya_to_peft(tmp_path / "l.safetensors", tmp_path / "peft", Mixed(), "lycoris_")
    merged = peft.PeftModel.from_pretrained(Mixed(), tmp_path / "peft").merge_and_unload()
    torch.testing.assert_close(merged.a.weight, Mixed().a.weight + torch.kron(first, second))
    peft_to_kohya(tmp_path / "peft", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", tmp_path / "l.safetensors")


def test_products_that_peft_factorises_otherwise_are_refused_with_the_reason(tmp_path):
    parts = {"a.lokr_w1": torch.ones(2, 4), "a.lokr_w2": torch.ones(18, 4)}
    save_file({f"lycoris_{name}": part for name, part in parts.items()}, tmp_path / "l.safetensors")
    with pytest.raises(TreealignError, match="no factor gives the sizes"):
        kohya_to_peft(tmp_path / "l.safetensors", tmp_path / "peft", Mixed(), "lycoris_")
    mixed = {"lycoris_a.lokr_w1": torch.ones(4, 4), "lycoris_b.hada_w1_a": torch.ones(16, 2)}
    save_file(mixed, tmp_path / "m.safetensors")
    with pytest.raises(TreealignError, match="another kind"):
        kohya_to_peft(tmp_path / "m.safetensors", tmp_path / "peft", Mixed(), "lycoris_")


def small_sdxl():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=(1, 2, 2),
        transformer_layers_per_block=[1, 1, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
    )


def drawn(model):
    torch.manual_seed(4)
    more = {"text_embeds": torch.randn(1, 8), "time_ids": torch.arange(6.0)[None]}
    with torch.no_grad():
        return model.eval()(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 3, 8), added_cond_kwargs=more).sample


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_SINGLE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def as_stability_names(name):
    """The name of a module in Stability AI's generative-models, which kohya trains: blocks in one series."""
    part, _, rest = name.partition(".")
    if part == "mid_block":
        kind, number, tail = rest.split(".", 2)
        at = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{at}.{tail if kind == 'attentions' else _RESNET[tail]}"
    if part not in ("down_blocks", "up_blocks"):
        return _SINGLE[name]
    block, kind, number, tail = rest.split(".", 3)
    first = part == "down_blocks"
    if kind == "downsamplers":
        return f"input_blocks.{3 * (int(block) + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{3 * int(block) + 2}.2.conv"
    at = 3 * int(block) + int(number) + first
    series = f"{'input' if first else 'output'}_blocks.{at}"
    return f"{series}.1.{tail}" if kind == "attentions" else f"{series}.0.{_RESNET[tail]}"


def test_a_file_of_the_shape_of_sdxl_goes_on_to_the_layout_of_diffusers_and_back(tmp_path):
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin as Loader

    new = small_sdxl()
    layers = {name: module for name, module in new.named_modules() if getattr(module, "weight", None) is not None}
    leaves = [
        (f"{as_stability_names(name)}.{leaf}", tuple(value.shape), "float32")
        for name, module in layers.items()
        for leaf, value in module.named_parameters(recurse=False)
    ]
    named = [name for name in layers if name.endswith(("to_q", "to_v", "to_out.0", "proj_in", "ff.net.0.proj"))]
    flat = {}
    for name in named:
        front = "lora_unet_" + as_stability_names(name).replace(".", "_")
        flat[f"{front}.lora_down.weight"] = torch.randn(2, layers[name].weight.shape[1])
        flat[f"{front}.lora_up.weight"] = torch.randn(layers[name].weight.shape[0], 2)
        flat[f"{front}.alpha"] = torch.tensor(1.0)
    path = tmp_path / "sdxl.safetensors"
    save_file(flat, path)
    original = KeyTree.from_leaves(leaves)
    mapping = ConversionMapping([Rename(as_stability_names(name), name) for name in named])
    kohya_to_peft(path, tmp_path / "original", original)
    convert_checkpoint(tmp_path / "original", tmp_path / "new", mapping)
    ours = drawn(peft.PeftModel.from_pretrained(small_sdxl(), tmp_path / "new"))
    state, alphas = Loader.lora_state_dict(str(path), unet_config=new.config)
    Loader.load_lora_into_unet(state, alphas, new)
    torch.testing.assert_close(ours, drawn(new), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, drawn(small_sdxl()), atol=1e-3)
    convert_checkpoint(tmp_path / "new", tmp_path / "back", mapping, reverse=True)
    peft_to_kohya(tmp_path / "back", tmp_path / "back.safetensors")
    assert same(tmp_path / "back.safetensors", path)
