"""Write the corpus of what no other corpus has: pairs of trees that the derivations of known layouts make.

    python scripts/known_pairs.py SOURCES FILE [--only TEXT]

SOURCES as `derive_converted.py` has it. A library's own code makes one side of the other, on numbers no two of which
are equal, and the correspondence is read off them; of chains, both libraries compute the same with one set of numbers
(`derive_chains.py`). What is not installed is named and left out; cases of FILE that were not made anew are kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import derive_chains
import derive_converted
import derive_names
import derive_renames
import numpy as np
import torch
from exact_labels import Raw, told
from renamed_families import FAMILIES

from treealign import suggest

Tensors = Mapping[str, torch.Tensor]
Made = tuple[Tensors, Tensors, Mapping[str, str]]  # the checkpoint, the model, the classes of its modules
ALONE = (
    "GIT of its authors",
    "RT-DETR of its authors",
    "MaskFormer of its authors, on a ResNet",
    "MaskFormer of its authors, on a Swin",
    "Mask2Former of its authors, on a Swin",
)
META = {f"attention.w{part}": f"self_attn.{part}_proj" for part in "qkvo"}
META |= {f"feed_forward.w{n}": f"mlp.{part}_proj" for n, part in ((1, "gate"), (2, "down"), (3, "up"))}
META |= {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
META_ENDS = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}


class Numbered:
    """A checkpoint whose elements are known by their numbers: whose each is, and which of it."""

    def __init__(self, held: Tensors) -> None:
        self.held = held
        self.keys = [key for key, tensor in held.items() if 0 < tensor.numel() == tensor.unique().numel()]
        numbers = torch.cat([held[key].flatten() for key in self.keys])
        owners = torch.cat([torch.full((held[key].numel(),), at) for at, key in enumerate(self.keys)])
        self.numbers, order = numbers.sort()
        self.owners = owners[order]

    def sources(self, tensor: torch.Tensor) -> list[str]:
        """The keys of which a tensor is made, in the order of their first elements in it; none where not of these."""
        flat = tensor.flatten().contiguous()
        at = torch.searchsorted(self.numbers, flat).clamp(max=len(self.numbers) - 1)
        if not len(flat) or not bool((self.numbers[at] == flat).all()):
            return []
        return [self.keys[n] for n in dict.fromkeys(self.owners[at].tolist())]

    def places(self, keys: Sequence[str], tensor: torch.Tensor) -> torch.Tensor:
        """A tensor's elements as numbers of those of some keys, counted one after the other."""
        numbers, order = torch.cat([self.held[key].flatten() for key in keys]).sort()
        return order[torch.searchsorted(numbers, tensor.contiguous())].double()


def groups_of(held: Tensors, made: Tensors) -> Iterator[list[Any]]:
    """What belongs together by the numbers, as a corpus spells it; what no label says is said to be rearranged."""
    numbered = Numbered(held)
    sources = {key: found for key, tensor in made.items() if (found := numbered.sources(tensor))}
    joined: dict[str, int] = {}
    whole: dict[int, list[str]] = defaultdict(list)
    for at, (key, found) in enumerate(sources.items()):
        known = {joined[one] for one in found if one in joined}
        whole[at] = [name for other in sorted(known) for name in whole.pop(other)] + [key]
        joined |= dict.fromkeys([one for name in whole[at] for one in sources[name]], at)
    for targets in whole.values():
        keys = list(dict.fromkeys(one for target in targets for one in sources[target]))
        yield labelled(numbered, keys, sorted(targets, key=lambda key: float(made[key].min())), made)


def labelled(numbered: Numbered, keys: list[str], targets: list[str], made: Tensors) -> list[Any]:
    """One group: its keys and its label."""
    here = {key: tuple(numbered.held[key].shape) for key in keys}
    there = {key: tuple(made[key].shape) for key in targets}
    if all(made[target].equal(numbered.held[keys[0]]) for target in targets) and len(keys) == 1:
        return [keys, targets, "copy" if len(targets) == 1 else "tie"]
    truth = {target: numbered.places(keys, made[target]) for target in targets}
    found = told(Raw(keys, targets, "rearrange", here, there), truth)
    label, rows = found or ("rearrange", None)
    return [keys, targets, label, *([rows] if rows else [])]


def case(name: str, source: str, made: Made) -> dict[str, Any]:
    """A case of a corpus."""
    held, model, classes = made
    gold = list(groups_of(held, model))
    used = {key for keys, *_ in gold for key in keys}
    return spelled(name, source, shapes(held), shapes(model), classes, gold, [key for key in held if key not in used])


def shapes(tensors: Tensors) -> dict[str, list[int]]:
    """The shape of each."""
    return {key: list(tensor.shape) for key, tensor in tensors.items()}


def spelled(
    name: str, source: str, held: Mapping[str, Any], model: Mapping[str, Any], classes: Mapping[str, str],
    gold: list[Any], unused: list[str],
) -> dict[str, Any]:  # fmt: skip
    """A case as it stands in the file."""
    return {
        "id": name,
        "family": name,
        "source": source,
        "checkpoint": [[key, shape, "float32"] for key, shape in held.items()],
        "model": [[key, shape, "float32", "parameter"] for key, shape in model.items()],
        "modules": dict(classes),
        "tied": {},
        "gold": gold,
        "unused_checkpoint": unused,
    }


def renamed(family: Any, sources: Path) -> dict[str, Any]:
    """A family of `derive_renames.py`."""
    made = derive_renames.case_of(sources, family)
    name = family.name.partition(" of ")[0] + family.name.partition(",")[2].replace(" on a", "")
    gold = [[keys, parts, {"split": "split:0"}.get(label, label)] for keys, parts, label in made["gold"]]
    return {**made, "id": f"{name.replace(' ', '_').lower()}_authors__hf", "family": family.name, "gold": gold}


def converted(kind: str, sources: Path) -> Made:
    """A model of `derive_converted.py`."""
    held, made = derive_converted.CHECKS[kind](sources)
    return held, {key: tensor for key, tensor in made.items() if isinstance(tensor, torch.Tensor)}, {}


def named(check: str, _: Path) -> Made:
    """A model of `derive_names.py`: the library's side is the checkpoint."""
    held, made = derive_names.CHECKS[check]()
    return {key: tensor for key, tensor in made.items() if isinstance(tensor, torch.Tensor)}, held, {}


def meta_llama(_: Path) -> Made:
    """Llama 1 and 2 of Meta, which hold their frequencies; fairseq2 takes these rows as they are, and turns others."""
    convert = importlib.import_module("fairseq2.models.llama.interop").convert_llama_state_dict
    size = derive_names.SimpleNamespace(
        model_dim=derive_names.WIDTH, num_attn_heads=derive_names.HEADS, num_key_value_heads=derive_names.GROUPS,
        num_layers=2, tied_embeddings=False,
    )  # fmt: skip
    _, model = derive_names.numbers("LlamaConfig", "LlamaForCausalLM", **derive_names.GROUPED)
    names = {
        f"layers.{i}.{mine}.weight": f"model.layers.{i}.{there}.weight"
        for i in range(2)
        for mine, there in META.items()
    }
    names |= {f"{mine}.weight": f"{there}.weight" for mine, there in META_ENDS.items()}
    reference = {mine: model[there] for mine, there in names.items()}
    turned, plain = convert(dict(model), size), convert(dict(reference), size)
    spelled_as = {id(tensor): key for key, tensor in plain.items()}
    held = {mine: turned[spelled_as[id(tensor)]] for mine, tensor in reference.items()}
    return held | {"rope.freqs": torch.rand(derive_names.ROWS // 2)}, model, {}


def mlx_experts(_: Path) -> Made:
    """Mixtral of mlx-lm: its `sanitize` run on the names of transformers before 5."""
    import mlx.core as mx
    from transformers.core_model_loading import revert_weight_conversion

    sizes = {**derive_names.GROUPED, "num_local_experts": 3}
    model, held = derive_names.numbers("MixtralConfig", "MixtralForCausalLM", **sizes)
    older = revert_weight_conversion(model, dict(held))
    arguments = derive_names.SimpleNamespace(tie_word_embeddings=False, num_hidden_layers=2, num_local_experts=3)
    run = importlib.import_module("mlx_lm.models.mixtral").Model.sanitize
    made = run(derive_names.SimpleNamespace(args=arguments), {k: mx.array(t.float().numpy()) for k, t in older.items()})
    classes = {path: type(part).__name__ for path, part in model.named_modules()}
    return {key: torch.tensor(np.array(array)).double() for key, array in made.items()}, held, classes


def jax_vit(_: Path) -> Made:
    """A ViT of big_vision in timm, whose reader of its files is run."""
    timm = importlib.import_module("timm")
    reader = importlib.import_module("timm.models.vision_transformer")
    width, heads, layers = 48, 4, 2
    leaves = {"embedding": (8, 8, 3, width), "head": (width, 10)}
    norms = ["Transformer/encoder_norm"]
    for at in (f"Transformer/encoderblock_{i}" for i in range(layers)):
        attention = f"{at}/MultiHeadDotProductAttention_1"
        leaves |= {f"{attention}/{part}": (width, heads, width // heads) for part in ("query", "key", "value")}
        leaves |= {f"{attention}/out": (heads, width // heads, width)}
        leaves |= {f"{at}/MlpBlock_3/Dense_0": (width, 4 * width), f"{at}/MlpBlock_3/Dense_1": (4 * width, width)}
        norms += [f"{at}/LayerNorm_0", f"{at}/LayerNorm_2"]
    kernels = {f"{path}/kernel": shape for path, shape in leaves.items()}
    kernels |= {f"{p}/bias": s[1:] if p[-5:] in ("query", "1/key", "value") else s[-1:] for p, s in leaves.items()}
    kernels |= {f"{path}/{leaf}": (width,) for path in norms for leaf in ("scale", "bias")}
    kernels |= {"cls": (1, 1, width), "Transformer/posembed_input/pos_embedding": (1, 17, width)}
    held = derive_converted.numbers(kernels)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": width, "depth": layers, "num_heads": heads}
    model = timm.create_model("vit_tiny_patch16_224", **sizes, num_classes=10).double()
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "vit.npz", **{key: tensor.numpy() for key, tensor in held.items()})
        reader._load_weights(model, str(Path(folder) / "vit.npz"))
    return {key.replace("/", "."): tensor for key, tensor in held.items()}, model.state_dict(), {}


def chained(pair: str, _: Path) -> dict[str, Any]:
    """A pair of `derive_chains.py`, whose outputs agree under the names that are suggested."""
    one, other = (make() for make in derive_chains.PAIRS[pair])
    if not derive_chains.difference(one, other)[0] < derive_chains.WITHIN:
        raise RuntimeError(f"{pair}: the outputs differ")
    left, right = derive_chains.tree(one), derive_chains.tree(other)
    gold = [
        [list(m.checkpoint), list(m.model), "reshape" if m.operations else "copy"] for m in suggest(left, right).matches
    ]
    family, _, libraries = pair.partition(", ")
    mine, theirs = libraries.split(" and ")
    held, model = ({leaf.key: list(leaf.shape) for leaf in tree.leaves} for tree in (left, right))
    used = {key for keys, *_ in gold for key in keys}
    return spelled(
        f"{family.lower().replace('-', '')}_{mine}__{theirs}", f"{pair}: equal outputs in float64", held, model, {},
        gold, [key for key in held if key not in used],
    )  # fmt: skip


OF_NUMBERS: Mapping[str, tuple[str, Callable[[Path], Made]]] = {
    "vits_authors__hf": (
        "transformers 4.46.3 models/vits/convert_original_checkpoint.py", partial(converted, "VITS"),
    ),
    "pixart_authors__diffusers": (
        "diffusers scripts/convert_pixart_sigma_to_diffusers.py of August 2026", partial(converted, "PixArt"),
    ),
    "hunyuandit_authors__diffusers": (
        "diffusers scripts/convert_hunyuandit_to_diffusers.py of August 2026", partial(converted, "HunyuanDiT"),
    ),
    "sdxl_unet_ldm__diffusers": (
        "diffusers 0.42.1 convert_ldm_unet_checkpoint", partial(converted, "Stable Diffusion XL"),
    ),
    "tl__qwen3_hf": (
        "transformer-lens 2.18.0 pretrained/weight_conversions/qwen3.py", partial(named, "TransformerLens: Qwen 3"),
    ),
    "fairseq2_qwen2__hf": ("fairseq2 0.8.1 models/qwen/interop.py", partial(named, "fairseq2: Qwen 2")),
    "llama2_meta__hf": ("fairseq2 0.8.1 models/llama/interop.py, both names led to its own", meta_llama),
    "mlx_mixtral__hf": ("mlx-lm 0.32.2 models/mixtral.py, sanitize", mlx_experts),
    "vit_flax__timm": ("timm 1.0.31 models/vision_transformer.py, its reader of npz files", jax_vit),
}  # fmt: skip
CHAINS = ("MobileNetV3, pytorchcv and timm", "MNASNet, pytorchcv and timm", "SENet, pytorchcv and timm")


def makers() -> Iterator[tuple[str, Callable[[Path], dict[str, Any]]]]:
    """What makes each case, by what it is made of."""
    for family in FAMILIES:
        if family.name in ALONE:
            yield family.name, partial(renamed, family)
    for name, (source, make) in OF_NUMBERS.items():
        yield name, lambda sources, name=name, source=source, make=make: case(name, f"{source}, run", make(sources))
    for pair in CHAINS:
        yield pair, partial(chained, pair)


def main() -> int:
    """Make the cases, and put them into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = {}
    if given.file.exists():
        with lzma.open(given.file, "rt", encoding="utf-8") as lines:
            cases = {made["id"]: made for made in map(json.loads, lines)}
    for name, make in makers():
        if given.only not in name:
            continue
        try:
            made = make(given.sources)
        except Exception as error:  # whatever is not installed, or does not run here
            print(f"{name} left out: {type(error).__name__} {str(error)[:100]}", flush=True)
            continue
        cases[made["id"]] = made
        labels = sorted({label for _, _, label, *_ in made["gold"]})
        unused = len(made["unused_checkpoint"])
        print(f"{made['id']}: {len(made['gold'])} groups ({', '.join(labels)}), {unused} unused", flush=True)
    text = "".join(json.dumps(made, separators=(",", ":")) + "\n" for made in cases.values())
    given.file.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    return 0


if __name__ == "__main__":
    sys.exit(main())
