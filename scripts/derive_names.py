"""Check what entries of the table of layouts say of names, heads and axes, by running each library's own converter.

    python scripts/derive_names.py [--only TEXT]

A small model of transformers gets numbers no two of which are equal; the library's converter makes its own state dict
of it, or the other way round; and by the numbers each of its keys is led back to the key of transformers that it was
made of. Of each leaf that the entry reads in the field's words, that reading must be the end of this key, and where the
entry says which dimension is first, or what heads are, the numbers must stand so. Prints how many leaves agree for each
entry, and exits 1 where any does not. What is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch

from treealign.align.knowledge.entries import Known, Layout, layouts, numbered, read_name
from treealign.align.knowledge.recognising import recognised
from treealign.align.patterns import Pattern, build_patterns
from treealign.align.words import split_words, tokens
from treealign.tree.keytree import KeyTree

Tensors = dict[str, torch.Tensor]
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 72, "num_attention_heads": 4, "num_hidden_layers": 2}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "vocab_size": 96, "tie_word_embeddings": False}
ENCODER: dict[str, Any] = {**SMALL, "vocab_size": 96, "max_position_embeddings": 64}
DISTIL: dict[str, Any] = {"dim": 32, "hidden_dim": 72, "n_heads": 4, "n_layers": 2, "vocab_size": 96}
HEADS, GROUPS, ROWS, WIDTH = 4, 2, 8, 32


def numbers(config: str, model: str, **options: Any) -> tuple[Any, Tensors]:
    """A small model of transformers and its state dict, no two elements of which are equal."""
    import transformers

    made = getattr(transformers, model)(getattr(transformers, config)(**options)).double()
    held, start = {}, 1  # zeros are what a converter puts where there is nothing
    for key, tensor in made.state_dict().items():
        shared = next((k for k, t in made.state_dict().items() if t.data_ptr() == tensor.data_ptr()), key)
        if shared in held:  # tied: as many numbers, under two keys
            held[key] = held[shared]
            continue
        held[key] = torch.arange(start, start + tensor.numel(), dtype=torch.float64).reshape(tensor.shape)
        start += tensor.numel()
    made.load_state_dict(held, assign=True)
    return made, held


def fms(architecture: str, config: str, model: str, **options: Any) -> Callable[[], tuple[Tensors, Tensors]]:
    """ibm-fms: its adapters of transformers' names."""

    def run() -> tuple[Tensors, Tensors]:
        importlib.import_module("fms.models")
        from fms.utils.serialization import get_adapted

        _, held = numbers(config, model, **options)
        size = SimpleNamespace(
            emb_dim=WIDTH, nheads=HEADS, kvheads=GROUPS, head_dim=ROWS, linear_config=None, fused_weights=False,
            tie_heads=False, num_hidden_layers=2, nlayers=2,
        )  # fmt: skip
        return held, dict(get_adapted(architecture, "hf", dict(held), {"model_config": size}))

    return run


def torchtune(package: str, function: str, config: str, model: str, **options: Any) -> Callable[[], Any]:
    """torchtune: its tables of transformers' names."""

    def run() -> tuple[Tensors, Tensors]:
        _, held = numbers(config, model, **options)
        module = importlib.import_module(f"torchtune.models.{package}")
        return held, dict(getattr(module, function)(dict(held), HEADS, GROUPS, WIDTH))

    return run


def titan(
    package: str, adapter: str, config: str, model: str, rope: str = "ComplexRoPE", **options: Any
) -> Callable[[], Any]:
    """torchtitan: its adapters of state dicts."""

    def run() -> tuple[Tensors, Tensors]:
        _, held = numbers(config, model, **options)
        module = importlib.import_module(f"torchtitan.models.{package}.state_dict_adapter")
        kind = getattr(importlib.import_module("torchtitan.models.common.rope"), rope).Config
        attention = SimpleNamespace(n_heads=HEADS, n_kv_heads=GROUPS, head_dim=ROWS, dim=WIDTH, q_lora_rank=0)
        attention.rope = object.__new__(kind)  # adapters ask of which kind it is
        layer = SimpleNamespace(attention=attention, moe=None, feed_forward=None)
        size = SimpleNamespace(**vars(attention), layers=[layer, layer], enable_weight_tying=False)
        return held, dict(getattr(module, adapter)(size, None).from_hf(dict(held)))

    return run


def curated(package: str, name: str, config: str, model: str, **options: Any) -> Callable[[], tuple[Tensors, Tensors]]:
    """curated-transformers: names from the hub's."""

    def run() -> tuple[Tensors, Tensors]:
        _, held = numbers(config, model, **options)
        module = importlib.import_module(f"curated_transformers.models.{package}")
        return held, dict(getattr(module, name).state_dict_from_hf(dict(held)))

    return run


def lens(package: str, config: str, model: str, **options: Any) -> Callable[[], tuple[Tensors, Tensors]]:
    """TransformerLens: its conversions of weights."""

    def run() -> tuple[Tensors, Tensors]:
        made, held = numbers(config, model, **options)
        module = importlib.import_module(f"transformer_lens.pretrained.weight_conversions.{package}")
        size = SimpleNamespace(
            n_layers=2, n_heads=HEADS, n_key_value_heads=options.get("num_key_value_heads"), d_model=WIDTH, d_head=ROWS,
            d_mlp=72, d_vocab=96, dtype=torch.float64, device="cpu", load_in_4bit=False,
            gated_mlp="intermediate_size" in options and "Llama" in config, attn_types=None, default_prepend_bos=True,
        )  # fmt: skip
        return held, dict(getattr(module, f"convert_{package}_weights")(made, size))

    return run


def fairseq2(package: str, config: str, model: str, **options: Any) -> Callable[[], tuple[Tensors, Tensors]]:
    """fairseq2: its conversions of transformers' state dicts."""

    def run() -> tuple[Tensors, Tensors]:
        _, held = numbers(config, model, **options)
        module = importlib.import_module(f"fairseq2.models.{package}.interop")
        size = SimpleNamespace(
            model_dim=WIDTH, num_attn_heads=HEADS, num_key_value_heads=GROUPS, num_layers=2, tied_embeddings=False
        )
        return held, dict(getattr(module, f"convert_{package}_state_dict")(dict(held), size))

    return run


def keras(package: str, config: str, model: str, prefix: str = "", **options: Any) -> Callable[[], Any]:
    """KerasHub: its converters of transformers' weights, layer by layer."""

    def run() -> tuple[Tensors, Tensors]:
        import os

        os.environ.setdefault("KERAS_BACKEND", "torch")
        made, held = numbers(config, model, **options)
        module = importlib.import_module(f"keras_hub.src.utils.transformers.convert_{package}")
        settings = made.config.to_dict()
        backbone = module.backbone_cls(**module.convert_backbone_config(settings))
        found: Tensors = {}

        def port_weight(keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
            tensor = held[hf_weight_key.removeprefix(prefix)].numpy()
            shape = tuple(keras_variable.shape)
            tensor = tensor if hook_fn is None else hook_fn(tensor, list(shape))
            found[keras_variable.path.replace("/", ".")] = torch.tensor(tensor).reshape(shape)

        module.convert_weights(backbone, SimpleNamespace(port_weight=port_weight), settings)
        return held, found

    return run


BERT = ("BertConfig", "BertForPreTraining")
CHECKS: Mapping[str, Callable[[], tuple[Tensors, Tensors]]] = {
    "fms: Llama": fms("llama", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "fms: RoBERTa": fms("roberta", "RobertaConfig", "RobertaForMaskedLM", **ENCODER),
    "fms: MPNet": fms("mpnet", "MPNetConfig", "MPNetModel", **ENCODER),
    "torchtune: Llama": torchtune("convert_weights", "hf_to_tune", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "torchtune: Qwen 2": torchtune(
        "qwen2._convert_weights", "qwen2_hf_to_tune", "Qwen2Config", "Qwen2ForCausalLM", **GROUPED
    ),
    "torchtitan: Llama": titan("llama3", "Llama3StateDictAdapter", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "torchtitan: Qwen 3": titan(
        "qwen3", "Qwen3StateDictAdapter", "Qwen3Config", "Qwen3ForCausalLM", "CosSinRoPE", **GROUPED, head_dim=ROWS
    ),
    "curated: Llama": curated("llama", "LlamaDecoder", "LlamaConfig", "LlamaModel", **GROUPED),
    "curated: BERT": curated("bert", "BERTEncoder", "BertConfig", "BertModel", **ENCODER),
    "curated: ALBERT": curated("albert", "ALBERTEncoder", "AlbertConfig", "AlbertModel", **ENCODER, embedding_size=20),
    "KerasHub: ALBERT": keras("albert", "AlbertConfig", "AlbertModel", "albert.", **ENCODER, embedding_size=20),
    "KerasHub: BERT": keras("bert", "BertConfig", "BertModel", "bert.", **ENCODER),
    "KerasHub: DistilBERT": keras("distilbert", "DistilBertConfig", "DistilBertModel", "distilbert.", **DISTIL),
    "KerasHub: ESM": keras("esm", "EsmConfig", "EsmModel", "esm.", **ENCODER, position_embedding_type="rotary"),
    "KerasHub: Llama": keras("llama3", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "KerasHub: Qwen 2": keras("qwen", "Qwen2Config", "Qwen2ForCausalLM", **GROUPED),
    "KerasHub: Gemma": keras("gemma", "GemmaConfig", "GemmaForCausalLM", **GROUPED, head_dim=ROWS),
    "TransformerLens: Llama": lens("llama", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "TransformerLens: Qwen 3": lens("qwen3", "Qwen3Config", "Qwen3ForCausalLM", **GROUPED, head_dim=ROWS),
    "TransformerLens: BERT": lens("bert", *BERT, **ENCODER),
    "fairseq2: Llama": fairseq2("llama", "LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "fairseq2: Qwen 2": fairseq2("qwen", "Qwen2Config", "Qwen2ForCausalLM", **GROUPED),
}


def origins(held: Tensors, made: Tensors) -> Iterator[tuple[str, str]]:
    """Each key that was made, and the one key of transformers all of whose numbers it has."""
    at = {key: (float(t.min()), float(t.max())) for key, t in held.items()}
    for key, tensor in made.items():
        if not isinstance(tensor, torch.Tensor) or tensor.numel() < 2:
            continue
        least, most = float(tensor.min()), float(tensor.max())
        found = [name for name, (low, high) in at.items() if low <= least and most <= high]
        if len(found) == 1:
            yield key, found[0]


def checked(held: Tensors, made: Tensors) -> Iterator[tuple[str, str]]:
    """Each entry that fires on what was made, with what it says otherwise of a leaf than the converter, or nothing."""
    tree = KeyTree.from_leaves([(k, tuple(t.shape), "float64") for k, t in made.items() if isinstance(t, torch.Tensor)])
    patterns = {key: p for p in recognised(build_patterns(tree), {}) for key in keys_of(p, tree)}
    for key, origin in origins(held, made):
        p = patterns[key]
        segments = tuple(key.split("."))
        for known in p.library:
            entry = layouts()[known.name]
            yield (
                known.name,
                _names(entry, known.depth, segments, origin)
                or _axes(entry, segments[known.depth :], made[key], held[origin]),
            )


def keys_of(p: Pattern, tree: KeyTree) -> list[str]:
    """The keys of a pattern."""
    return [tree.keys[at] for at in p.cells.values()]


def _names(entry: Layout, depth: int, segments: tuple[str, ...], origin: str) -> str:
    read = read_name(segments, [Known(entry.name, depth)])
    if read == segments:
        return ""
    wanted, got = numbered(_leaf(tuple(origin.split(".")))), numbered(_leaf(read[depth:]))
    alike = wanted[-len(got) :] == got or _roles(read) & _roles(tuple(origin.split(".")))
    return "" if alike else f"{'.'.join(segments)} reads as {'.'.join(got)}, is {origin}"


def _leaf(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path with its last name in the field's word for it: a gamma is a weight."""
    return (*path[:-1], " ".join(split_words(path[-1])))


def _roles(path: tuple[str, ...]) -> set[str]:
    """What a path stands for: a norm before the MLP is called so, or after the attention."""
    return {token.text for token in tokens(path) if token.text[0] == "@" and token.depth <= 1}


def _axes(entry: Layout, below: tuple[str, ...], made: torch.Tensor, held: torch.Tensor) -> str:
    first, dims = entry.first(below), entry.dimensions(below)
    if first and made.dim() == held.dim() == 2:
        turned = first.startswith("outputs") != (abs(float(made[0, -1] - made[0, 0])) == made.shape[1] - 1)
        return f"{'.'.join(below)} has {first} first otherwise" if turned else ""
    if dims and made.dim() == 3 and "in" in dims:
        flat = made.permute([dims.index(name) for name in ("head", "row", "in")]).reshape(held.shape)
        return "" if flat.equal(held) else f"{'.'.join(below)} is not {' '.join(dims)}"
    return ""


def main() -> int:
    """Run all converters of what is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="checks whose names contain this")
    only, failed = parser.parse_args().only, 0
    warnings.simplefilter("ignore")
    for name, run in CHECKS.items():
        if only not in name:
            continue
        try:
            found = list(checked(*run()))
        except (ImportError, AttributeError, KeyError, TypeError) as error:
            print(f"{name:24} left out: {type(error).__name__} {str(error)[:80]}")
            continue
        for entry in sorted({entry for entry, _ in found}):
            wrong = sorted({text for one, text in found if one == entry and text})
            failed += len(wrong)
            print(f"{name:24} {entry}: {sum(one == entry for one, _ in found) - len(wrong)} leaves agree")
            print("".join(f"    WRONG {text}\n" for text in wrong), end="", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
