"""Check the tables by running converters of one model each on numbers: what comes out must be what `suggest` makes.

    python scripts/derive_converted.py SOURCES [--only TEXT]

SOURCES is a folder with `transformers/models` (a release before 5, which still has its converters) and with `scripts`
of diffusers' repository. The checkpoint gets numbers no two of which are equal; the converter makes the other side of
it; and with no more than the names and shapes of both, the mapping that is suggested must make the same numbers. Prints
for each model whether it does and how many questions are left, and exits 1 where anything certain is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from cases import read_cases

from treealign import suggest
from treealign.align.knowledge.entries import layouts
from treealign.tree.keytree import KeyTree

Tensors = dict[str, torch.Tensor]
D, LAYERS = 16, {"PixArt": 28, "HunyuanDiT": 40}


def numbers(shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """A tensor for each key, no two of whose elements are equal."""
    found, start = {}, 0
    for key, shape in shapes.items():
        size = int(torch.tensor(shape).prod()) if shape else 1
        found[key] = torch.arange(start, start + size, dtype=torch.float64).reshape(shape)
        start += size
    return found


def of_case(corpus: str, name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint of a corpus."""
    (case, *_) = read_cases(corpus, name)
    return {key: tuple(shape) for key, shape, _ in case.checkpoint}


def module(path: Path) -> Any:
    """A converter as a module."""
    spec = importlib.util.spec_from_file_location(f"converted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class HeldError(Exception):
    """What a script was about to load into its model."""


def script(path: Path, checkpoint: Tensors, model: str, **given: Any) -> Tensors:
    """What a script makes of a checkpoint: it is stopped where its model would load it."""
    made, caught = module(path), {}

    class Model:
        """Takes the place of the script's model."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def load_state_dict(self, state: Tensors, **_: Any) -> None:
            caught.update(state)
            raise HeldError

        def to(self, _: Any) -> Model:
            return self

        def state_dict(self) -> Tensors:
            return {}

        @classmethod
        def load_config(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return {}

        @classmethod
        def from_config(cls, _: Any) -> Model:
            return cls()

    setattr(made, model, Model)
    made.torch = SimpleNamespace(**vars(torch))
    made.torch.load = lambda *_, **__: {"state_dict": dict(checkpoint)}
    made.print = lambda *_: None
    try:
        made.main(SimpleNamespace(**given))
    except HeldError:
        return caught
    raise RuntimeError(path)


def rwkv(sources: Path) -> tuple[Tensors, Tensors]:
    """RWKV of its author."""
    held = numbers(of_case("originals", "rwkv4_blinkdl__hf"))
    utilities = importlib.import_module("transformers.modeling_utils")
    utilities.shard_checkpoint = None  # type: ignore[attr-defined]  # which the file asks for, and does not need here
    convert = module(sources / "transformers/models/rwkv/convert_rwkv_checkpoint_to_hf.py").convert_state_dict
    return held, convert(dict(held))


def dac(sources: Path) -> tuple[Tensors, Tensors]:
    """Descript's audio codec."""
    held = numbers(of_case("real_text", "dac_descript__hf"))
    made = module(sources / "transformers/models/dac/convert_dac_checkpoint.py")
    found: Tensors = {}

    def put(_: Any, key: str, value: torch.Tensor, __: str, kind: str | None) -> None:
        found[f"{key}.{kind}"] = value

    made.set_recursively = put
    made.print = lambda *_: None
    made.recursively_load_weights(held, None, "dac_16khz")
    return held, found


def encodec(sources: Path) -> tuple[Tensors, Tensors]:
    """EnCodec of its authors, at 48 kHz; its encoder and decoder."""
    shapes = of_case("real_text", "encodec48_facebook__hf")
    held = numbers({key: shape for key, shape in shapes.items() if key.startswith(("encoder.", "decoder."))})
    made = module(sources / "transformers/models/encodec/convert_encodec_checkpoint_to_pytorch.py")
    found: Tensors = {}

    def put(_: Any, key: str, value: torch.Tensor, __: str, kind: str | None) -> None:
        found[f"{key}.{kind}"] = value

    made.set_recursively = put
    made.recursively_load_weights(held, None, "encodec_48khz")
    return held, found


VITS = (  # transformers' names to those of the authors
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.([qkv])_proj", r"enc_p.encoder.attn_layers.\1.conv_\2"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.out_proj", r"enc_p.encoder.attn_layers.\1.conv_o"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.attention\.", r"enc_p.encoder.attn_layers.\1."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.feed_forward", r"enc_p.encoder.ffn_layers.\1"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.layer_norm", r"enc_p.encoder.norm_layers_1.\1"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.final_layer_norm", r"enc_p.encoder.norm_layers_2.\1"),
    (r"^text_encoder\.embed_tokens", "enc_p.emb"),
    (r"^text_encoder\.project", "enc_p.proj"),
    (r"(norm_layers_[12]\.\d+|norms_[12]\.\d+)\.weight$", r"\1.gamma"),
    (r"(norm_layers_[12]\.\d+|norms_[12]\.\d+)\.bias$", r"\1.beta"),
    (r"^duration_predictor\.(post_)?flows\.0\.log_scale", r"dp.\1flows.0.logs"),
    (r"^duration_predictor\.(post_)?flows\.0\.translate", r"dp.\1flows.0.m"),
    (r"^duration_predictor\.post_conv_(pre|proj)", r"dp.post_\1"),
    (r"^duration_predictor", "dp"),
    (r"^decoder\.upsampler", "dec.ups"),
    (r"^decoder", "dec"),
    (r"^posterior_encoder", "enc_q"),
    (r"conv_dds", "convs"),
    (r"convs_dilated", "convs_sep"),
    (r"convs_pointwise", "convs_1x1"),
    (r"^(?!dec)(.*)\bconv_(pre|proj|post)\b", r"\1\2"),
    (r"wavenet", "enc"),
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
)


def vits(sources: Path) -> tuple[Tensors, Tensors]:
    """VITS of its authors: a small model of transformers under their names, led back by the converter."""
    import transformers

    config = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "ffn_dim": 24, "flow_size": 12}
    model = transformers.VitsModel(transformers.VitsConfig(**config, spectrogram_bins=17, upsample_initial_channel=32))
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    square = re.compile(r"attention\.(q|k|v|out)_proj\.weight")
    held = numbers({vits_name(key): (*shape, 1) if square.search(key) else shape for key, shape in shapes.items()})
    made = module(sources / "transformers/models/vits/convert_original_checkpoint.py")
    found: Tensors = {}

    def put(_: Any, key: str, value: torch.Tensor, __: str, kind: str | None) -> None:
        squeezed = key.endswith(("k_proj", "v_proj", "q_proj", "out_proj"))  # as the function does that this replaces
        found[original(key if kind is None else f"{key}.{kind}")] = value.squeeze(-1) if squeezed else value

    made.set_recursively = put
    made.recursively_load_weights(held, None)
    if found.keys() != shapes.keys():
        raise RuntimeError(f"not what the converter reads: {sorted(found.keys() ^ shapes.keys())[:6]}")
    return held, found


def vits_name(key: str) -> str:
    """A key as the authors spell it: between the flows stand those that turn their channels round."""
    for pattern, text in VITS:
        key = re.sub(pattern, text, key)
    key = re.sub(r"^(dp\.(?:post_)?flows\.)([1-9]\d*)", lambda m: f"{m[1]}{2 * int(m[2]) - 1}", key)
    return re.sub(r"^(flow\.flows\.)(\d+)", lambda m: f"{m[1]}{2 * int(m[2])}", key)


def original(key: str) -> str:
    """A leaf of a weight norm as torch calls it now."""
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    path, _, leaf = key.rpartition(".")
    return f"{path}.{new.get(leaf, leaf)}"


def pixart(sources: Path) -> tuple[Tensors, Tensors]:
    """PixArt of its authors."""
    layers = {"x_embedder.proj": (D, 4, 2, 2), "y_embedder.y_proj.fc1": (D, 24), "y_embedder.y_proj.fc2": (D, D)}
    layers |= {"t_embedder.mlp.0": (D, 32), "t_embedder.mlp.2": (D, D), "t_block.1": (6 * D, D)}
    layers |= {"final_layer.linear": (32, D)}
    bare = {"final_layer.scale_shift_table": (2, D)}
    for at in (f"blocks.{i}" for i in range(LAYERS["PixArt"])):
        layers |= {f"{at}.attn.qkv": (3 * D, D), f"{at}.attn.proj": (D, D), f"{at}.cross_attn.q_linear": (D, D)}
        layers |= {f"{at}.cross_attn.kv_linear": (2 * D, D), f"{at}.cross_attn.proj": (D, D)}
        layers |= {f"{at}.mlp.fc1": (4 * D, D), f"{at}.mlp.fc2": (D, 4 * D)}
        bare[f"{at}.scale_shift_table"] = (6, D)
    given = {"orig_ckpt_path": "", "micro_condition": False, "qk_norm": False, "image_size": 512}
    held = numbers(with_biases(layers) | bare)
    path = sources / "scripts/convert_pixart_sigma_to_diffusers.py"
    return held, script(path, {**held}, "Transformer2DModel", **given)


def hunyuan_dit(sources: Path) -> tuple[Tensors, Tensors]:
    """HunyuanDiT of its authors."""
    layers = {"x_embedder.proj": (D, 4, 2, 2), "mlp_t5.0": (64, 32), "mlp_t5.2": (20, 64)}
    layers |= {f"pooler.{part}_proj": (32, 32) for part in "qkv"} | {"pooler.c_proj": (20, 32)}
    layers |= {"t_embedder.mlp.0": (D, 24), "t_embedder.mlp.2": (D, D), "extra_embedder.0": (4 * D, 36)}
    layers |= {
        "extra_embedder.2": (D, 4 * D),
        "final_layer.adaLN_modulation.1": (2 * D, D),
        "final_layer.linear": (32, D),
    }
    norms = {}
    for i in range(LAYERS["HunyuanDiT"]):
        at = f"blocks.{i}"
        layers |= {f"{at}.attn1.Wqkv": (3 * D, D), f"{at}.attn1.out_proj": (D, D), f"{at}.attn2.q_proj": (D, D)}
        layers |= {
            f"{at}.attn2.kv_proj": (2 * D, 20),
            f"{at}.attn2.out_proj": (D, D),
            f"{at}.default_modulation.1": (D, D),
        }
        layers |= {f"{at}.mlp.fc1": (4 * D, D), f"{at}.mlp.fc2": (D, 4 * D)}
        norms |= {f"{at}.{name}": (D,) for name in ("norm1", "norm2", "norm3")}
        norms |= {f"{at}.{attn}.{part}_norm": (4,) for attn in ("attn1", "attn2") for part in "qk"}
        if i >= LAYERS["HunyuanDiT"] // 2:
            layers[f"{at}.skip_linear"] = (D, 2 * D)
            norms[f"{at}.skip_norm"] = (2 * D,)
    bare = {"pooler.positional_embedding": (9, 32), "text_embedding_padding": (8, 20)}
    held = numbers(with_biases(layers | norms) | bare)
    given = {"pt_checkpoint_path": "", "load_key": "state_dict", "use_style_cond_and_image_meta_size": False}
    path = sources / "scripts/convert_hunyuandit_to_diffusers.py"
    return held, script(path, held, "HunyuanDiT2DModel", **given)


SDXL: Mapping[str, Any] = {
    "block_out_channels": (16, 32, 48), "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"), "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 24, "use_linear_projection": True, "attention_head_dim": (2, 4, 6), "norm_num_groups": 8,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 40,
}  # fmt: skip


def sdxl_unet(_: Path) -> tuple[Tensors, Tensors]:
    """Stable Diffusion XL's UNet: a small model of diffusers as the table spells it, led back by the converter."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY, convert_ldm_unet_checkpoint

    with torch.device("meta"):
        model = UNet2DConditionModel(**SDXL)
    spelled = {there: mine for mine, there in layouts()["Stable Diffusion XL's UNet"].names.items()}
    shapes = {}
    for key, tensor in model.state_dict().items():
        path = tuple(key.split("."))
        run = max((run for run in spelled if path[: len(run)] == run), key=len, default=())
        shapes[".".join((*spelled.get(run, run), *path[len(run) :]))] = tuple(tensor.shape)
    held = numbers(shapes)
    made = convert_ldm_unet_checkpoint({LDM_UNET_KEY + key: t for key, t in held.items()}, dict(model.config))
    if made.keys() != model.state_dict().keys():
        raise RuntimeError(f"not what the converter reads: {sorted(made.keys() ^ model.state_dict().keys())[:6]}")
    return held, made


def with_biases(layers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The weights of layers, each with a bias."""
    found = {}
    for path, shape in layers.items():
        found |= {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
    return found


CHECKS: Mapping[str, Callable[[Path], tuple[Tensors, Tensors]]] = {
    "RWKV": rwkv,
    "DAC": dac,
    "EnCodec": encodec,
    "VITS": vits,
    "PixArt": pixart,
    "HunyuanDiT": hunyuan_dit,
    "Stable Diffusion XL": sdxl_unet,
}


def tree(tensors: Tensors) -> KeyTree:
    """Names and shapes."""
    return KeyTree.from_leaves([(key, tuple(tensor.shape), "float32") for key, tensor in tensors.items()])


def checked(held: Tensors, made: Tensors) -> tuple[int, int, int, int]:
    """How many tensors come out right, how many of these for certain, how many certain and wrong, and the questions."""
    suggestion = suggest(tree(held), tree(made))
    found = dict(suggestion.mapping.accept().apply(dict(held)))
    right = {key for key, tensor in made.items() if key in found and found[key].equal(tensor)}
    sure = {key for match in suggestion.matches if match.certain for key in match.model}
    return len(right), len(right & sure), len(sure - right), len(suggestion.questions)


def main() -> int:
    """Run all converters whose sources are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--only", default="", help="models whose names contain this")
    given, failed = parser.parse_args(), 0
    for name, run in CHECKS.items():
        if given.only not in name:
            continue
        try:
            held, made = run(given.sources)
        except (ImportError, FileNotFoundError) as error:
            print(f"{name:12} left out: {type(error).__name__} {str(error)[:80]}", flush=True)
            continue
        right, sure, wrong, asked = checked(held, made)
        failed += wrong
        print(
            f"{name:12} {right} of {len(made)} right, {sure} certain, {wrong} certain and wrong, {asked} questions",
            flush=True,
        )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
