"""Architectures whose checkpoints hold other tensors than the model: one or more for each operation of transformers.

Mappings are written by hand where names and shapes leave something open, as a person would who knows the model.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from real_mappings import ERNIE, INKLING_1, INKLING_2, KIMI, LOOP, MISTRAL, NOMIC, RF_DETR, STEP
from real_models import (
    Architecture,
    guess,
    image,
    plain,
    published_by_transformers,
    read_by_transformers,
    text,
    tiny,
    written,
)
from real_renames import DECODER, ROPE, SIZES, TEXT, VISION

from treealign import ConversionMapping, Convert, Rename
from treealign.mapping.operations import Concat, Split

NO_MLP = {key: value for key, value in DECODER.items() if key != "intermediate_size"}
EXPERTS = {"moe_intermediate_size": 12, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
INKLING = {
    **NO_MLP,
    **EXPERTS,
    "head_dim": 8,
    "swa_num_attention_heads": 2,
    "swa_num_key_value_heads": 1,
    "swa_head_dim": 8,
    "sliding_window_size": 8,
    "d_rel": 4,
    "rel_extent": 8,
    "n_routed_experts": 3,
    "max_position_embeddings": 64,
}
TRIMMED = {"unpadded_vocab_size": 38, "n_layers_per_attn_res_block": 1, "eos_token_id": 2}
SIZES_ONLY = {key: value for key, value in SIZES.items() if key != "intermediate_size"}


def experts_transposed(model):
    """As published: what the experts take in stands before what they give."""
    return {key: t.transpose(1, 2) if ".experts." in key else t for key, t in model.state_dict().items()}


def two_vocabularies(model):
    """As published: 40 rows and 4 more. transformers would save halves."""
    tensors = published_by_transformers(model)
    both = torch.cat([tensors["wte.embedding"], tensors["wte.new_embedding"]])
    return {**tensors, "wte.embedding": both[:40].clone(), "wte.new_embedding": both[40:].clone()}


def by_hand(architecture: Architecture, *transforms, refused=True, **options) -> Architecture:
    """Needs its mapping; `refused` is False where it takes a suggestion long to find that out."""
    mapping = ConversionMapping(transforms)
    return replace(architecture, mapping=lambda folder, model: mapping, refused=refused, options=options)


def guessed(architecture: Architecture) -> Architecture:
    return replace(architecture, mapping=guess, refused=True)


SURE = [
    plain("stack and concatenate: mixtral", "MixtralForCausalLM", text, **DECODER, num_local_experts=3),
    plain("stack, gate and up: olmoe", "OlmoeForCausalLM", text, **DECODER, num_experts=4, num_experts_per_tok=2),
    plain(
        "stack: nemotron h",
        "NemotronHForCausalLM",
        text,
        **{key: value for key, value in DECODER.items() if key != "num_hidden_layers"},
        **EXPERTS,
        head_dim=8,
        moe_shared_expert_intermediate_size=20,
        n_routed_experts=3,
        layers_block_type=["attention", "moe", "mamba"],
        ssm_state_size=4,
        mamba_num_heads=2,
        mamba_head_dim=8,
        n_groups=1,
        chunk_size=4,
        use_mamba_kernels=False,
    ),
    Architecture(
        "transpose: qwen3 vl moe",
        tiny(
            "Qwen3VLMoeForConditionalGeneration",
            text_config={**DECODER, **EXPERTS, "head_dim": 8, "num_experts": 3, "rope_parameters": ROPE},
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_heads": 2,
                "patch_size": 4,
                "out_hidden_size": 16,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
        ),
        text,
        partial(written, experts_transposed),
        read_by_transformers,
    ),
    plain(
        "concatenate shards: qwen4 exp",
        "Qwen4ExpForCausalLM",
        text,
        **NO_MLP,
        **EXPERTS,
        **LINEAR,
        head_dim=8,
        shared_expert_intermediate_size=12,
        num_experts=3,
        layer_types=["linear_attention", "full_attention"],
        hc_count=2,
        hc_lowrank=4,
        ple_layer_ids=[1],
        ple_embed_dim=4,
        ngram_size=2,
        heads_per_ngram=2,
        ngram_vocab_size_base=20,
        make_ngram_vocab_size_divisible_by=4,
        split_ngram_parts=4,
        indexer_n_heads=2,
        indexer_kv_heads=1,
        indexer_head_dim=8,
        indexer_budget=4,
        indexer_compress_ratio=2,
        eos_token_id=2,
    ),
]

GUESSED = [
    guessed(plain("chunk in three: jina v3", "JinaEmbeddingsV3Model", text, **TEXT)),
    guessed(plain("chunk in two: dinov2", "Dinov2Model", image(), **VISION, use_swiglu_ffn=True)),
    guessed(plain("chunk in four: hrm text", "HrmTextForCausalLM", text, **DECODER)),
    guessed(
        plain(
            "concatenate three: olmo hybrid",
            "OlmoHybridForCausalLM",
            text,
            **DECODER,
            **{**LINEAR, "linear_num_value_heads": 2, "linear_key_head_dim": 6},
            pad_token_id=0,
            layer_types=["linear_attention", "full_attention"],
        )
    ),
]

BY_HAND = [
    by_hand(
        plain("chunk in three, gate after up: nomic bert", "NomicBertModel", text, **TEXT),
        *NOMIC,
    ),
    by_hand(
        plain(
            "chunk, a level added: rf detr",
            "RfDetrForObjectDetection",
            image(16),
            backbone_config={
                "model_type": "rf_detr_dinov2",
                **SIZES,
                "image_size": 16,
                "patch_size": 4,
                "mlp_ratio": 2,
                "num_windows": 1,
                "out_features": ["stage1", "stage2"],
                "num_register_tokens": 0,
            },
            d_model=16,
            decoder_layers=2,
            decoder_ffn_dim=24,
            decoder_self_attention_heads=2,
            decoder_cross_attention_heads=2,
            num_queries=4,
            group_detr=1,
            num_labels=3,
        ),
        *RF_DETR,
        refused=False,
    ),
    by_hand(
        Architecture(
            "split grouped q, k, v, concatenate vocabularies: molmo2",
            tiny("Molmo2TextModel", **DECODER, head_dim=8, additional_vocab_size=4),
            text,
            partial(written, two_vocabularies),
            read_by_transformers,
        ),
        Rename("**.attn_norm", "**.input_layernorm"),
        Rename("**.ff_norm", "**.post_attention_layernorm"),
        Rename("**.self_attn.attn_out", "**.self_attn.o_proj"),
        Rename("**.mlp.ff_out", "**.mlp.down_proj"),
        Convert("**.att_proj", ["**.q_proj", "**.k_proj", "**.v_proj"], Split(0, (16, 8, 8))),
        Convert("**.ff_proj", ["**.up_proj", "**.gate_proj"], Split(0, (24, 24))),
        Convert(["wte.embedding", "wte.new_embedding"], "embed_tokens.weight", Concat(0, (40, 4))),
    ),
    by_hand(
        plain(
            "split in four: lara mini",
            "LaraMiniForCausalLM",
            text,
            **NO_MLP,
            **EXPERTS,
            **LINEAR,
            head_dim=8,
            shared_expert_intermediate_size=12,
            num_experts=3,
            pad_token_id=0,
        ),
        Rename("**.linear_attn.out_norm", "**.linear_attn.norm"),
        Convert(
            "**.in_proj", ["**.in_proj_qkv", "**.in_proj_z", "**.in_proj_b", "**.in_proj_a"], Split(0, (64, 32, 4, 4))
        ),
    ),
    by_hand(
        plain(
            "concatenate stacks, chunk and turn: step3p7",
            "Step3p7ForConditionalGeneration",
            text,
            text_config={
                **DECODER,
                **EXPERTS,
                "head_dim": 8,
                "mlp_layer_types": ["dense", "sparse"],
                "layer_types": ["full_attention", "full_attention"],
                "n_routed_experts": 3,
                "share_expert_dim": 12,
                "sliding_window": 4,
            },
            vision_config={**SIZES, "image_size": 16, "patch_size": 4, "mlp_ratio": 1.5, "max_position_embeddings": 16},
        ),
        *STEP,
    ),
    by_hand(
        plain(
            "turn q and k: mistral large 4",
            "MistralLarge4ForConditionalGeneration",
            text,
            text_config={
                **DECODER,
                **EXPERTS,
                **LATENT,
                "num_key_value_heads": 2,
                "n_routed_experts": 4,
                "head_dim": 4,
                "index_topk": 4,
                "index_head_dim": 8,
                "index_n_heads": 2,
            },
            vision_config={"model_type": "pixtral", **SIZES, "image_size": 16, "patch_size": 4},
        ),
        *MISTRAL,
        refused=False,
    ),
    by_hand(
        plain(
            "deinterleave, and split: inkling",
            "InklingForConditionalGeneration",
            text,
            text_config={**INKLING, "intermediate_size": 24, "mlp_layer_types": ["dense", "sparse"]},
            audio_config={"n_mel_bins": 4, "mel_vocab_size": 8},
            vision_config={"patch_size": 4, **SIZES_ONLY},
        ),
        *INKLING_1,
    ),
    by_hand(
        plain("trim a vocabulary: inkling 2", "Inkling2ForCausalLM", text, **INKLING, **TRIMMED),
        *INKLING_2,
        allow_lossy=True,
    ),
    by_hand(
        plain(
            "reshape and join: inkling 2 loop",
            "Inkling2LoopForCausalLM",
            text,
            **{**INKLING, "num_hidden_layers": 4},
            **TRIMMED,
            loop_layer_index_start=1,
            loop_layer_index_end=3,
            loop_num_passes=2,
            loop_gate_rank=4,
        ),
        *LOOP,
        refused=False,
        allow_lossy=True,
    ),
    by_hand(
        plain(
            "chunk and turn, a chain of names: kimi k25",
            "Kimi_K25ForConditionalGeneration",
            text,
            text_config={
                "model_type": "deepseek_v3",
                **DECODER,
                **EXPERTS,
                **LATENT,
                "num_key_value_heads": 2,
                "q_lora_rank": 8,
                "n_routed_experts": 4,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
            },
            vision_config={**SIZES, "patch_size": 4, "pos_emb_height": 4, "pos_emb_width": 4, "pos_emb_time": 2},
            projection_hidden_size=16,
            tie_word_embeddings=False,
        ),
        *KIMI,
        refused=False,
    ),
    by_hand(
        plain(
            "transpose, chunk, experts of two towers: ernie 4.5 vl",
            "Ernie4_5_VLMoeForConditionalGeneration",
            text,
            text_config={
                **DECODER,
                "moe_intermediate_size": [12, 8],
                "moe_k": 2,
                "moe_num_experts": 4,
                "moe_num_shared_experts": 1,
                "mlp_layer_types": ["dense", "sparse"],
                "rope_parameters": ROPE,
            },
            vision_config={"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "patch_size": 4},
        ),
        *ERNIE,
    ),
]
CONVERSIONS = SURE + GUESSED + BY_HAND
