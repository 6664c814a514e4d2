"""Architectures whose checkpoints differ from the model by names only: levels gone and new, names and indices moved."""

from __future__ import annotations

from functools import partial

import torch
from real_models import (
    Architecture,
    below,
    both,
    image,
    image_in_text,
    in_shards,
    noise,
    old_altclip,
    old_bert,
    old_dory,
    old_sam3,
    old_wav2vec2,
    pickled,
    plain,
    read_by_transformers,
    renamed,
    text,
    tiny,
    without,
)
from real_timm import TimmWrapper

from treealign import ConversionMapping, Rename

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZES, "image_size": 8, "patch_size": 4}
TEXT = {**SIZES, "vocab_size": 40, "max_position_embeddings": 64}
DECODER = {**TEXT, "num_key_value_heads": 1}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage4"],
}
DETECTION = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "num_queries": 5, "num_labels": 3}
DETR_HEADS = dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
DETR_WIDTHS = dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim"], 24)
SAM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_dim": 24,
    "image_size": 32,
    "patch_size": 8,
    "output_channels": 8,
    "window_size": 2,
    "global_attn_indexes": [1],
}
SAM3 = {
    "vision_config": {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            **SIZES,
            "image_size": 32,
            "patch_size": 4,
            "pretrain_image_size": 16,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    },
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 32, "patch_size": 4, "mask_input_channels": 4},
    "mask_decoder_config": {
        "hidden_size": 16,
        "mlp_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 8,
    },
}
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
DORY = [
    Rename("backbone.embeddings", "model.embed_tokens"),
    *(Rename(f"backbone.layers.{2 * i}.mixer", f"model.layers.{i}.self_attn") for i in range(3)),
    *(Rename(f"backbone.layers.{2 * i}.attn_alpha", f"model.layers.{i}.lambda_1") for i in range(3)),
    *(Rename(f"backbone.layers.{2 * i + 1}.mixer", f"model.layers.{i}.mlp") for i in range(3)),
    *(Rename(f"backbone.layers.{2 * i + 1}.mlp_alpha", f"model.layers.{i}.lambda_2") for i in range(3)),
    Rename("**.self_attn.g_proj", "**.self_attn.gate_proj"),
]


LEVELS_GONE = [
    Architecture(
        "llava",
        tiny(
            "LlavaForConditionalGeneration",
            text_config={"model_type": "llama", **DECODER},
            vision_config={"model_type": "clip_vision_model", **VISION},
            image_token_index=39,
        ),
        image_in_text(39, 4),
        in_shards,
        read_by_transformers,
    ),
    Architecture(
        "clip text",
        tiny("CLIPTextModel", **TEXT, **ENDS),
        text,
        partial(renamed, below("text_model")),
        read_by_transformers,
        dtype=torch.bfloat16,
    ),
    Architecture("bert base", tiny("BertModel", **TEXT), text, partial(renamed, below("bert")), read_by_transformers),
    Architecture("llama", tiny("LlamaForCausalLM", **DECODER), text, partial(renamed, below("language_model")), None),
    Architecture("qwen2", tiny("Qwen2ForCausalLM", **DECODER), text, partial(renamed, below("_orig_mod")), None),
    plain("clip vision", "CLIPVisionModel", image(), **VISION),
    plain("siglip vision", "SiglipVisionModel", image(), **VISION),
    plain("chinese clip", "ChineseCLIPModel", both, text_config=TEXT, vision_config=VISION, projection_dim=8),
    plain(
        "clipseg",
        "CLIPSegForImageSegmentation",
        both,
        text_config={**TEXT, **ENDS},
        vision_config=VISION,
        projection_dim=8,
        extract_layers=[0, 1],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=12,
    ),
    Architecture(
        "altclip",
        tiny("AltCLIPModel", text_config={**TEXT, "project_dim": 8}, vision_config=VISION, projection_dim=8),
        both,
        partial(renamed, old_altclip),
        read_by_transformers,
    ),
    plain(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        image_in_text(39, 4),
        text_config={"model_type": "gemma3_text", **DECODER, "head_dim": 8},
        vision_config={"model_type": "siglip_vision_model", **VISION},
        mm_tokens_per_image=4,
        image_token_index=39,
    ),
    Architecture(
        "sam3 tracker",
        tiny("Sam3TrackerModel", **SAM3),
        lambda: {"pixel_values": noise(1, 3, 32, 32), "input_points": torch.tensor([[[[5.0, 6.0]]]])},
        partial(renamed, old_sam3),
        read_by_transformers,
    ),
    plain(
        "detr", "DetrForObjectDetection", image(64), backbone_config=RESNET, **DETECTION, **DETR_HEADS, **DETR_WIDTHS
    ),
]

LEVELS_NEW = [
    Architecture("timm wrapper", TimmWrapper, image(), partial(renamed, without("timm_model")), None),
    Architecture(
        "sam vision",
        tiny("SamVisionModel", **SAM),
        image(32),
        partial(renamed, without("vision_encoder")),
        None,
    ),
    Architecture(
        "gpt2",
        tiny("GPT2LMHeadModel", vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64, **ENDS),
        text,
        partial(renamed, without("transformer")),
        read_by_transformers,
    ),
    plain("dinov3", "DINOv3ViTModel", image(), **VISION),
    plain(
        "qwen2 vl",
        "Qwen2VLForConditionalGeneration",
        text,
        text_config={**DECODER, "rope_parameters": ROPE},
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4},
    ),
    plain(
        "mimi",
        "MimiModel",
        lambda: {"input_values": noise(1, 1, 64)},
        **{**SIZES, "num_hidden_layers": 1, "head_dim": 8, "num_key_value_heads": 2},
        num_filters=4,
        num_residual_layers=1,
        upsampling_ratios=[4, 2],
        upsample_groups=16,
        codebook_size=8,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=2,
        num_semantic_quantizers=1,
    ),
]

NAMES_MOVED = [
    plain("vit", "ViTForImageClassification", image(), **VISION),
    plain("deit", "DeiTForImageClassification", image(), **VISION),
    plain("beit", "BeitForImageClassification", image(), **VISION, use_relative_position_bias=True),
    plain(
        "swin",
        "SwinForImageClassification",
        image(16),
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 1],
        num_heads=[2, 4],
        window_size=2,
    ),
    plain(
        "segformer",
        "SegformerForSemanticSegmentation",
        image(32),
        hidden_sizes=[8, 12],
        depths=[2, 1],
        num_attention_heads=[1, 2],
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        mlp_ratios=[2, 2],
        num_encoder_blocks=2,
        decoder_hidden_size=8,
    ),
    Architecture("bert", tiny("BertForMaskedLM", **TEXT), text, partial(pickled, old_bert), read_by_transformers),
    plain("gpt neox", "GPTNeoXForCausalLM", text, **TEXT),
    Architecture(
        "wav2vec2",
        tiny(
            "Wav2Vec2Model",
            **SIZES,
            conv_dim=[8, 8],
            conv_kernel=[4, 3],
            conv_stride=[2, 2],
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        ),
        lambda: {"input_values": noise(1, 64)},
        partial(renamed, old_wav2vec2),
        read_by_transformers,
    ),
    Architecture(
        "dory",
        tiny("DoryForCausalLM", **{**DECODER, "num_hidden_layers": 3}, head_dim=8, n_input_layers=1, n_output_layers=1),
        text,
        partial(renamed, old_dory),
        read_by_transformers,
        lambda folder, model: ConversionMapping(DORY),
    ),
]

RENAMES = LEVELS_GONE + LEVELS_NEW + NAMES_MOVED
