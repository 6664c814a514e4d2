"""Pairs of real code for text and proteins of packages on PyPI."""

from __future__ import annotations

from typing import Any

import torch
from code_pairs import OUTSIDE, TOKENS, Pair, logits, outside
from outside import package
from pairs_vision import transformers_model

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GPT = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
PROTEIN = torch.tensor([[0, 5, 6, 7, 8, 9, 10, 4, 2]])
HIDDEN = lambda module: module(TOKENS).last_hidden_state  # noqa: E731


def between(one: tuple[Any, ...], other: tuple[Any, ...], run: Any = logits) -> None:
    """A model of transformers beside another: class, config, settings of each."""
    for (a, first, given), (b, second, wanted) in ((one, other), (other, one)):
        OUTSIDE[f"transformers {first} - {second}"] = lambda a=a, b=b, first=first, second=second, given=given, wanted=wanted: (  # noqa: E501
            transformers_model(a, first, **given), transformers_model(b, second, **wanted), run
        )  # fmt: skip


LLAMA = {**SIZES, "intermediate_size": 96, "num_key_value_heads": 2}
between(("LlamaForCausalLM", "Llama", {**LLAMA, "rms_norm_eps": 1e-5}),
        ("Phi3ForCausalLM", "Phi3", {**LLAMA, "pad_token_id": 0}))  # fmt: skip
between(("GPTJForCausalLM", "GPTJ", {**GPT, "rotary_dim": 8}),
        ("CodeGenForCausalLM", "CodeGen", {**GPT, "rotary_dim": 8}))  # fmt: skip


@outside("pytorch_pretrained_bert BertModel - transformers Bert")
def old_bert() -> Pair:
    old = package("pytorch_pretrained_bert.modeling")
    original = old.BertModel(old.BertConfig(50, 32, 2, 4, 64, max_position_embeddings=32))
    model = transformers_model("BertModel", "Bert", **SIZES, intermediate_size=64, max_position_embeddings=32)
    return original, model, (lambda module: module(TOKENS)[0][-1], HIDDEN)


@outside("pytorch_pretrained_bert GPT2 - transformers GPTBigCode")
def old_gpt2() -> Pair:
    old = package("pytorch_pretrained_bert.modeling_gpt2")
    original = old.GPT2LMHeadModel(old.GPT2Config(50, 32, 32, 32, 2, 4))
    model = transformers_model("GPTBigCodeForCausalLM", "GPTBigCode", multi_query=False,
                               activation_function="gelu_new", bos_token_id=0, eos_token_id=0, **GPT)  # fmt: skip
    return original, model, (lambda module: module(TOKENS)[0], logits)


@outside("pytorch_pretrained_bert OpenAIGPT - transformers OpenAIGPT")
def old_gpt() -> Pair:
    old = package("pytorch_pretrained_bert.modeling_openai")
    original = old.OpenAIGPTLMHeadModel(old.OpenAIGPTConfig(50, 0, 32, 32, 32, 2, 4))
    return original, transformers_model("OpenAIGPTLMHeadModel", "OpenAIGPT", **GPT), (lambda m: m(TOKENS), logits)


def _litgpt(name: str, model: str, config: str, settings: dict[str, Any], **own: Any) -> None:
    def make() -> Pair:
        package("transformers")
        lit = package("litgpt.model")
        made = lit.Config.from_name(
            name, n_layer=2, n_embd=32, n_head=4, padded_vocab_size=50, vocab_size=50, block_size=32, **own
        )
        original = lit.GPT(made)
        if name.startswith("Gemma"):
            original.lm_head.weight = original.transformer.wte.weight  # as in its checkpoints
        return original, transformers_model(model, config, **settings), (lambda m: m(TOKENS), logits)

    OUTSIDE[f"litgpt {name} - transformers {config}"] = make


_litgpt("Llama-2-7b-hf", "LlamaForCausalLM", "Llama",
        {**SIZES, "intermediate_size": 64, "rms_norm_eps": 1e-5}, intermediate_size=64)  # fmt: skip
_litgpt("Llama-3-8B", "LlamaForCausalLM", "Llama",
        {**LLAMA, "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
        intermediate_size=96, n_query_groups=2)  # fmt: skip
_litgpt("pythia-14m", "GPTNeoXForCausalLM", "GPTNeoX", {**SIZES, "intermediate_size": 128}, intermediate_size=128)
_litgpt("phi-2", "PhiForCausalLM", "Phi",
        {**SIZES, "intermediate_size": 128, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                                                 "partial_rotary_factor": 0.5}},
        intermediate_size=128, rotary_percentage=0.5)  # fmt: skip
_litgpt("Gemma-2b", "GemmaForCausalLM", "Gemma",
        {**SIZES, "intermediate_size": 64, "head_dim": 8, "num_key_value_heads": 1}, intermediate_size=64,
        head_size=8, n_query_groups=1)  # fmt: skip
_litgpt("Qwen2.5-0.5B", "Qwen2ForCausalLM", "Qwen2",
        {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "tie_word_embeddings": False},
        intermediate_size=96, n_query_groups=2)  # fmt: skip


@outside("esm ESM2 - transformers Esm")
def esm2() -> Pair:
    esm = package("esm")
    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    original = esm.model.esm2.ESM2(num_layers=2, embed_dim=32, attention_heads=4, alphabet=alphabet)
    model = transformers_model(
        "EsmForMaskedLM", "Esm", **{**SIZES, "vocab_size": 33}, intermediate_size=128, pad_token_id=1, mask_token_id=32,
        token_dropout=True, position_embedding_type="rotary", emb_layer_norm_before=False, layer_norm_eps=1e-5,
    )  # fmt: skip
    return original, model, (lambda module: module(PROTEIN)["logits"], lambda module: module(PROTEIN).logits)


@outside("mambapy - transformers Mamba")
def mamba() -> Pair:
    made = package("mambapy.mamba")
    original = made.Mamba(made.MambaConfig(d_model=32, n_layers=2))
    model = transformers_model("MambaModel", "Mamba", vocab_size=50, hidden_size=32, num_hidden_layers=2)
    inputs = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(1))
    layers = torch.nn.ModuleDict({"layers": model.layers})
    return original, layers, (
        lambda module: module(inputs), lambda module: _through(module["layers"], inputs),
    )  # fmt: skip


def _through(layers: Any, value: Any) -> Any:
    for layer in layers:
        value = layer(value)
    return value
