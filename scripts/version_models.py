"""Tiny models with random weights, written by whichever transformers is installed where this runs.

python scripts/version_models.py FOLDER

For each model: FOLDER/<name>/tree.json, model.safetensors and outputs.safetensors.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from treealign import read_tree

TEXT = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 4}
BERT = {name: value for name, value in TEXT.items() if name not in ("num_key_value_heads", "head_dim")}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION |= {"image_size": 8, "patch_size": 4, "projection_dim": 12}
LLAMA, CLIP = {"model_type": "llama", **TEXT}, {"model_type": "clip_vision_model", **VISION}
CLIP_TEXT = {**BERT, "projection_dim": 12, "eos_token_id": 39, "bos_token_id": 0, "pad_token_id": 1}
QWEN_VISION = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4, "in_channels": 3}
ROPE = {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 0]}

# name: (class, configuration)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", BERT),
    "llama": ("LlamaForCausalLM", TEXT),
    "mixtral": ("MixtralForCausalLM", {**TEXT, "num_local_experts": 4}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        {**TEXT, "num_experts": 4, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28},
    ),
    "olmoe": ("OlmoeForCausalLM", {**TEXT, "num_experts": 4, "num_experts_per_tok": 2}),
    "llava": ("LlavaForConditionalGeneration", {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 38}),
    "vipllava": (
        "VipLlavaForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 38, "vision_feature_layers": [-1, -2]},
    ),
    "video_llava": (
        "VideoLlavaForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 38, "video_token_index": 37},
    ),
    "llava_next": (
        "LlavaNextForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 38},
    ),
    "paligemma": (
        "PaliGemmaForConditionalGeneration",
        {
            "text_config": {"model_type": "gemma", **TEXT, "num_image_tokens": 4},
            "vision_config": {"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
            "image_token_index": 38,
            "projection_dim": 16,
            "hidden_size": 16,
        },
    ),
    "qwen2_vl": (
        "Qwen2VLForConditionalGeneration",
        {
            **TEXT,
            "vision_config": QWEN_VISION,
            "rope_scaling": ROPE,
            "image_token_id": 38,
            "video_token_id": 37,
            "vision_start_token_id": 36,
        },
    ),
    "clip": ("CLIPModel", {"text_config": CLIP_TEXT, "vision_config": VISION, "projection_dim": 12}),
    "clip_vision": ("CLIPVisionModel", VISION),
    "siglip_vision": ("SiglipVisionModel", VISION),
    "vit": ("ViTModel", {**VISION}),
    "dinov2": ("Dinov2Model", {**VISION, "mlp_ratio": 2}),
    "t5": (
        "T5ForConditionalGeneration",
        {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
    ),
}


def build(name: str) -> torch.nn.Module:
    """The model as the installed transformers defines it, each weight drawn from a seed."""
    import transformers

    transformers.logging.set_verbosity_error()
    kind = getattr(transformers, MODELS[name][0])
    model: torch.nn.Module = kind(kind.config_class(**MODELS[name][1])).eval()
    drawn = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                around = 1.0 if tensor.dim() == 1 and key.endswith("weight") else 0.0
                tensor.copy_(torch.randn(tensor.shape, generator=drawn) * 0.2 + around)
    return model


def outputs(name: str, model: torch.nn.Module) -> torch.Tensor:
    """What a forward pass gives."""
    words = torch.arange(3, 11)[None]
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    given: dict[str, torch.Tensor] = {"input_ids": words}
    if name in ("clip_vision", "siglip_vision", "vit", "dinov2"):
        given = {"pixel_values": pixels}
    elif name == "clip":
        given = {"input_ids": words, "pixel_values": pixels}
    elif name == "t5":
        given = {"input_ids": words, "decoder_input_ids": words}
    with torch.no_grad():
        made: torch.Tensor = model(**given)[0]
    return made.contiguous()


def write(name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = build(name)
    libraries = {library: version(library) for library in ("torch", "transformers")}
    read_tree(model).to_json(folder / "tree.json", libraries=libraries)
    own = {t.data_ptr(): (key, t.contiguous()) for key, t in reversed(model.state_dict().items())}
    save_file(dict(own.values()), folder / "model.safetensors")
    save_file({"output": outputs(name, model)}, folder / "outputs.safetensors")


def main() -> None:
    """Write all models; one that this release does not have, or builds otherwise, is named on stderr."""
    folder, failed = Path(sys.argv[1]), {}
    for name in sys.argv[2:] or MODELS:
        try:
            write(name, folder / name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    (folder / "failed.json").write_text(json.dumps(failed, indent=2))
    print("\n".join(f"{name}: {reason}" for name, reason in failed.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
