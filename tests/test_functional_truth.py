"""Models of transformers with random weights, from checkpoints under older names: same outputs, same bytes back."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from weights import state, write

from treealign import load, save

TEXT = {"input_ids": torch.tensor([[1, 5, 9, 3]])}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)}
IMAGE = {"image_size": 16, "patch_size": 8}
VISION = {**IMAGE, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ENCODER = {k: v for k, v in DECODER.items() if k not in ("num_key_value_heads", "bos_token_id", "eos_token_id")}
CLIP_TEXT = {**ENCODER, "eos_token_id": 2, "bos_token_id": 1}


def renamer(*rules):
    """The older name of a key: regular expressions as people write them, in order."""

    def old(key):
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return old


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER))


def bert_base():
    return transformers.BertModel(transformers.BertConfig(**ENCODER))


def clip_vision():
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))


def clip_text():
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_TEXT))


def altclip():
    text = {**ENCODER, "project_dim": 8}
    config = transformers.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    return transformers.AltCLIPModel(config)


def llava():
    text, vision = transformers.LlamaConfig(**DECODER), transformers.CLIPVisionConfig(**VISION)
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_index=9)
    return transformers.LlavaForConditionalGeneration(config)


def gpt_neox():
    config = {k: v for k, v in DECODER.items() if k != "num_key_value_heads"}
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**config))


def gpt2():
    sizes = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2))


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER))


def vit():
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))


def mixtral():
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**DECODER, num_local_experts=4))


def olmoe():
    return transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**DECODER, num_experts=4, num_experts_per_tok=2))


def qwen2():
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**DECODER))


LAYER_NORMS = renamer((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))
LLAVA = renamer(
    (r"^model\.language_model", "language_model.model"),
    (r"^lm_head", "language_model.lm_head"),
    (r"^model\.vision_tower", "vision_tower.vision_model"),
    (r"^model\.multi_modal", "multi_modal"),
)
RENAMED = {
    "bert, gamma and beta": (bert, LAYER_NORMS, TEXT),
    "bert, a level added": (bert_base, renamer((r"^", "bert.")), TEXT),
    "clip vision, a level removed": (clip_vision, renamer((r"^", "vision_model.")), PIXELS),
    "clip text, a level removed": (clip_text, renamer((r"^", "text_model.")), TEXT),
    "altclip, layer and layers": (altclip, renamer((r"\.layers\.", ".layer.")), {**TEXT, **PIXELS}),
    "llava, levels moved": (llava, LLAVA, TEXT),
    "gpt neox, another head": (gpt_neox, renamer((r"^lm_head", "embed_out")), TEXT),
    "gpt 2, a level added": (gpt2, renamer((r"^transformer\.", "")), TEXT),
    "llama, below a vision model": (llama, renamer((r"^", "language_model.")), TEXT),
    "qwen 2, compiled": (qwen2, renamer((r"^", "_orig_mod.")), TEXT),
}
# fresh models of these kinds are saved by transformers itself under the names of older checkpoints
CONVERTED = {"vit": (vit, PIXELS), "mixtral": (mixtral, TEXT), "olmoe": (olmoe, TEXT)}


def made(make, seed):
    torch.manual_seed(seed)
    model = make().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def comes_back(make, source, path, inputs, tmp_path):
    """Load into a model with other weights, run both, save, and compare."""
    model = made(make, seed=1)
    load(model, path)
    with torch.no_grad():
        expected, actual = (m(**inputs).to_tuple() for m in (source, model))
    pairs = [(a, b) for a, b in zip(expected, actual, strict=True) if isinstance(a, torch.Tensor)]
    save(model, tmp_path / "out")
    same_bytes = (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()
    return bool(pairs) and all(torch.equal(a, b) for a, b in pairs) and same_bytes


@pytest.mark.parametrize(("make", "old", "inputs"), RENAMED.values(), ids=RENAMED)
def test_a_checkpoint_under_older_names(make, old, inputs, tmp_path):
    source = made(make, seed=0)
    tied = {alias for alias in getattr(source, "all_tied_weights_keys", {}) if alias in source.state_dict()}
    tensors = {key: value for key, value in state(source).items() if key not in tied}
    path = write(tmp_path / "in.safetensors", {old(key): value for key, value in tensors.items()})
    assert comes_back(make, source, path, inputs, tmp_path)


@pytest.mark.parametrize(("make", "inputs"), CONVERTED.values(), ids=CONVERTED)
def test_a_checkpoint_that_transformers_wrote_under_older_names(make, inputs, tmp_path):
    source = made(make, seed=0)
    source.save_pretrained(tmp_path / "in")
    assert comes_back(make, source, tmp_path / "in" / "model.safetensors", inputs, tmp_path)
