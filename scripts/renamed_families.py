"""The families of `derive_renames.py`: which converter, which small model, and by which keys the library is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch

State = dict[str, Any]
Held = Mapping[str, Any]  # what a converter defines
NONE = "none"  # nothing turns the rows of q and k


@dataclass(frozen=True)
class Family:
    """One model of its authors.

    `pairs` makes a converter's list of both names, `run` does the rest to the state dict. `case` is a case of a corpus
    whose keys the converter is given, `above` what its keys stand under. `rows` are those of tensors whose keys
    contain a text, where a converter counts on their number.
    """

    name: str
    file: str
    model: str
    config: Callable[[], Any]
    marks: tuple[str, ...]
    pairs: Callable[[Held, Any], Sequence[tuple[str, str]]] | None = None
    run: Callable[[Held, State, Any], State] = lambda held, state, model: state
    case: str = ""
    above: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    rotary: str = NONE
    lacks: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    anywhere: tuple[str, ...] = ()


def configured(name: str, **options: Any) -> Callable[[], Any]:
    """A configuration of transformers; another one inside it is a pair of its name and its options."""

    def make() -> Any:
        import transformers

        given = {
            key: configured(value[0], **value[1])() if isinstance(value, tuple) and isinstance(value[0], str) else value
            for key, value in options.items()
        }
        return getattr(transformers, name)(**given)

    return make


def by_key(function: str, *more: str, **options: Any) -> Callable[[Held, State, Any], State]:
    """Run what a converter does to each key, then its steps on the whole."""

    def run(held: Held, state: State, model: Any) -> State:
        rename = partial(held[function], **options)
        for key in list(state):
            state[rename(key)] = state.pop(key)
        return steps(*more)(held, state, model)

    return run


def steps(*names: str) -> Callable[[Held, State, Any], State]:
    """Run steps of a converter that change a state dict in place or make another, given the configuration if wanted."""

    def run(held: Held, state: State, model: Any) -> State:
        for name in names:
            wanted = held[name].__code__.co_varnames[: held[name].__code__.co_argcount]
            config = model.config
            given = {"config": config, "model": model, "hidden_size": getattr(config, "hidden_size", None)}
            given["backbone_config"] = getattr(config, "backbone_config", None)
            told = held[name](state, **{key: value for key, value in given.items() if key in wanted})
            state = state if told is None else told[0] if isinstance(told, tuple) else told
        return state

    return run


def written(converter: str, *methods: str) -> Callable[[Held, State, Any], State]:
    """Run the methods of a converter that is a class: each writes what it takes out of one state dict into another."""

    def run(held: Held, state: State, model: Any) -> State:
        made: State = {}
        own = held[converter](None, model.config)
        for method in methods:
            getattr(own, method)(made, state)
        return made

    return run


def saved(function: str, until: str, **config: Any) -> Callable[[Held, State, Any], State]:
    """Run a converter from file to files up to a step of it, with the state dict in place of what it loads."""

    def run(held: Held, state: State, model: Any) -> State:
        made: State = {}

        def stop(*given: Any) -> None:
            raise InterruptedError

        files = {"load": lambda *path, **options: state, "save": lambda part, path: made.update(part)}
        own = held[function].__globals__
        own |= {"torch": SimpleNamespace(**{**vars(torch), **files}), until: stop}
        with TemporaryDirectory() as folder, suppress(InterruptedError):
            (Path(folder) / "config.yaml").write_text(json.dumps({"model": config}), "utf-8")  # JSON is YAML
            held[function](folder, folder)
        return made

    return run


def listed(function: str = "create_rename_keys", *more: Any, **options: Any) -> Callable[[Held, Any], Any]:
    """The list of pairs that a function makes of the configuration."""
    return lambda held, config: held[function](*(more or (config,)), **options)


def table(held: Held, config: Any) -> Any:
    """The list of pairs that stands in a converter."""
    return held["rename_keys"]


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
RESNET = (
    "ResNetConfig",
    {
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [16, 16, 16, 16],
        "embedding_size": 16,
        "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"],
    },
)
DETR = {
    "backbone_config": RESNET,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 256,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
DPT = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 12, 16, 20], "fusion_hidden_size": 24}
TOWERS = {"text_config": SMALL, "vision_config": SMALL}
LAYERS = "transformer.decoder.layers.{}."
ALL = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}
DEEP: dict[str, Any] = {"hidden_sizes": [16, 32, 48, 64], "depths": [3, 3, 3, 3]}
MASKS = (
    "sem_seg_head.adapter_1.weight", "sem_seg_head.predictor.mask_embed.layers.{}.weight",
    "sem_seg_head.predictor.transformer.decoder.layers.{}.multihead_attn.in_proj_weight",
)  # fmt: skip

FAMILIES = (
    Family(
        "DETR of its authors",
        "detr/convert_detr_original_pytorch_checkpoint_to_pytorch.py",
        "DetrForObjectDetection",
        configured("DetrConfig", **DETR),
        (LAYERS + "multihead_attn.in_proj_weight", LAYERS + "norm3", "input_proj.weight", "query_embed.weight"),
        pairs=table,
        run=steps("read_in_q_k_v"),
        rows={"in_proj": 768},
        lacks=(LAYERS + "cross_attn", "mask_embed"),
    ),
    Family(
        "Conditional DETR of its authors",
        "conditional_detr/convert_conditional_detr_original_pytorch_checkpoint_to_pytorch.py",
        "ConditionalDetrForObjectDetection",
        configured("ConditionalDetrConfig", **DETR),
        (
            LAYERS + "sa_qcontent_proj.weight",
            LAYERS + "ca_qpos_sine_proj.weight",
            LAYERS + "norm3",
            "input_proj.weight",
        ),
        pairs=table,
        run=steps("read_in_q_k_v"),
        rows={"in_proj": 768},
    ),
    Family(
        "Deformable DETR of its authors",
        "deformable_detr/convert_deformable_detr_to_pytorch.py",
        "DeformableDetrForObjectDetection",
        configured("DeformableDetrConfig", **DETR),
        (
            LAYERS + "cross_attn.sampling_offsets.weight",
            LAYERS + "self_attn.in_proj_weight",
            LAYERS + "norm3",
            "transformer.level_embed",
        ),
        run=by_key("rename_key", "read_in_q_k_v"),
        case="originals/deformable_detr_sensetime__hf",
        lacks=(LAYERS + "ca_text",),
    ),
    Family(
        "TimeSformer of its authors",
        "timesformer/convert_timesformer_to_pytorch.py",
        "TimesformerForVideoClassification",
        configured("TimesformerConfig", **SMALL),
        ("blocks.{}.temporal_attn.qkv.weight", "blocks.{}.temporal_fc.weight", "time_embed"),
        run=steps("convert_state_dict"),
        case="originals/timesformer_facebook__hf",
        above="model.",
    ),
    Family(
        "MobileViT of ml-cvnets",
        "mobilevit/convert_mlcvnets_to_pytorch.py",
        "MobileViTForImageClassification",
        configured("MobileViTConfig"),
        ("layer_3.1.local_rep.conv_3x3.block.conv.weight", "layer_3.1.global_rep.0.pre_norm_mha.1.qkv_proj.weight"),
        run=steps("convert_state_dict"),
        case="originals/mobilevit_apple__hf",
    ),
    Family(
        "SuperPoint of its authors",
        "superpoint/convert_superpoint_to_pytorch.py",
        "SuperPointForKeypointDetection",
        configured("SuperPointConfig"),
        ("conv1a.weight", "conv4b.weight", "convPa.weight", "convDb.weight"),
        pairs=listed("create_rename_keys", None, None),
        rotary="",
    ),
    Family(
        "CLIPSeg of its authors",
        "clipseg/convert_clipseg_original_pytorch_to_hf.py",
        "CLIPSegForImageSegmentation",
        configured("CLIPSegConfig", **TOWERS, extract_layers=[0, 1]),
        ("clip_model.visual.conv1.weight", "film_mul.weight", "reduces.{}.weight", "trans_conv.weight"),
        run=steps("convert_state_dict"),
        case="originals/clipseg_timojl__hf",
    ),
    Family(
        "DPT of its authors",
        "dpt/convert_dpt_to_pytorch.py",
        "DPTForDepthEstimation",
        configured("DPTConfig", **SMALL | {"num_hidden_layers": 4}, **DPT),
        (
            "pretrained.model.blocks.{}.attn.qkv.weight",
            "scratch.refinenet1.out_conv.weight",
            "scratch.layer1_rn.weight",
            "pretrained.act_postprocess1.0.project.0.weight",
        ),
        run=by_key("rename_key", "read_in_q_k_v"),
        case="originals/dpt_intel__hf",
    ),
    Family(
        "Depth Anything of its authors",
        "depth_anything/convert_depth_anything_to_hf.py",
        "DepthAnythingForDepthEstimation",
        configured(
            "DepthAnythingConfig",
            backbone_config=("Dinov2Config", SMALL | {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]}),
            reassemble_hidden_size=32,
            neck_hidden_sizes=[8, 12, 16, 20],
            fusion_hidden_size=24,
        ),
        (
            "pretrained.blocks.{}.attn.qkv.weight",
            "depth_head.scratch.refinenet1.out_conv.weight",
            "depth_head.projects.{}.weight",
        ),
        pairs=listed(),
        run=steps("read_in_q_k_v"),
    ),
    Family(
        "MusicGen of audiocraft",
        "musicgen/convert_musicgen_transformers.py",
        "MusicgenForCausalLM",
        configured("MusicgenDecoderConfig", **SMALL, ffn_dim=64),
        (
            "transformer.layers.{}.cross_attention.in_proj_weight",
            "transformer.layers.{}.norm_cross.weight",
            "linears.{}.weight",
            "emb.{}.weight",
            "out_norm.weight",
        ),
        run=steps("rename_state_dict"),
        case="originals/musicgen_audiocraft__hf",
    ),
    Family(
        "PVT of its authors",
        "pvt/convert_pvt_to_pytorch.py",
        "PvtForImageClassification",
        configured("PvtConfig", depths=[3, 3, 3, 3], num_attention_heads=[1, 2, 3, 4], hidden_sizes=[16, 32, 48, 64]),
        ("patch_embed1.proj.weight", "block1.{}.attn.kv.weight", "pos_embed1", "block1.{}.norm1.weight"),
        pairs=listed(),
        run=steps("read_in_k_v"),
    ),
    Family(
        "PVT v2 of its authors",
        "pvt_v2/convert_pvt_v2_to_pytorch.py",
        "PvtV2ForImageClassification",
        configured("PvtV2Config", depths=[3, 3, 3, 3], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4]),
        ("patch_embed1.proj.weight", "block1.{}.attn.kv.weight", "block1.{}.mlp.dwconv.dwconv.weight", "norm1.weight"),
        pairs=listed(),
        run=steps("read_in_k_v"),
        lacks=("pos_embed1", "block1.{}.mlp.dwconv.conv"),
        anywhere=("!decode_head", "!decoder"),
    ),
    Family(
        "CvT of its authors",
        "cvt/convert_cvt_original_pytorch_checkpoint_to_pytorch.py",
        "CvtForImageClassification",
        configured("CvtConfig", depth=[3, 3, 3], embed_dim=[16, 32, 48], num_heads=[1, 2, 3]),
        (
            "stage0.patch_embed.proj.weight",
            "stage0.blocks.{}.attn.conv_proj_q.conv.weight",
            "stage0.blocks.{}.attn.proj_q.weight",
        ),
        pairs=lambda held, config: [
            (old, new)
            for stage, depth in enumerate(config.depth)
            for some in (
                held["embeddings"](stage),
                *(held["attention"](stage, n) for n in range(depth)),
                *((held["cls_token"](stage),) if config.cls_token[stage] else ()),
                held["final"](),
            )
            for new, old in some
        ],
    ),
    Family(
        "SegFormer of its authors", "segformer/convert_segformer_original_to_pytorch.py",
        "SegformerForSemanticSegmentation", configured("SegformerConfig", depths=[2, 2, 2, 2]),
        ("backbone.patch_embed1.proj.weight", "backbone.block1.{}.attn.kv.weight",
         "decode_head.linear_fuse.conv.weight", "decode_head.linear_c1.proj.weight"),
        run=steps("rename_keys", "read_in_k_v"), case="originals/segformer_nvidia__hf",
    ),
    Family(
        "AST of its authors",
        "audio_spectrogram_transformer/convert_audio_spectrogram_transformer_original_to_pytorch.py",
        "ASTForAudioClassification", configured("ASTConfig", **SMALL),
        ("module.v.blocks.{}.attn.qkv.weight", "module.v.dist_token", "module.mlp_head.0.weight"),
        run=steps("convert_state_dict"), case="originals/ast_yuangong__hf",
    ),
    Family(
        "GIT of its authors", "git/convert_git_to_pytorch.py",
        "GitForCausalLM", configured("GitConfig", **SMALL, vision_config=SMALL),
        ("image_encoder.transformer.resblocks.{}.attn.in_proj_weight", "textual.visual_projection.0.weight",
         "textual.transformer.encoder.layer.{}.attention.self.query.weight"),
        pairs=listed(), run=steps("read_in_q_k_v"),
    ),
    Family(
        "RT-DETR of its authors", "rt_detr/convert_rt_detr_original_pytorch_checkpoint_to_hf.py",
        "RTDetrForObjectDetection", configured("RTDetrConfig", backbone_config=("RTDetrResNetConfig", {})),
        ("backbone.conv1.conv1_1.conv.weight", "backbone.res_layers.{}.blocks.{}.branch2a.conv.weight",
         "encoder.encoder.{}.layers.{}.self_attn.in_proj_weight",
         "decoder.decoder.layers.{}.cross_attn.value_proj.weight"),
        pairs=listed(), run=steps("read_in_q_k_v"), rows={"in_proj": 768},
    ),
    Family(
        "MaskFormer of its authors, on a ResNet", "maskformer/convert_maskformer_resnet_to_pytorch.py",
        "MaskFormerForInstanceSegmentation",
        configured("MaskFormerConfig", backbone_config=("ResNetConfig", DEEP | ALL)),
        ("backbone.stem.conv1.weight", *MASKS),
        pairs=listed(), run=steps("read_in_decoder_q_k_v"), rows={"in_proj": 768},
    ),
    Family(
        "MaskFormer of its authors, on a Swin", "maskformer/convert_maskformer_swin_to_pytorch.py",
        "MaskFormerForInstanceSegmentation",
        configured("MaskFormerConfig", backbone_config=("MaskFormerSwinConfig", SWIN | ALL)),
        ("backbone.patch_embed.proj.weight", *MASKS),
        pairs=listed(), run=steps("read_in_swin_q_k_v", "read_in_decoder_q_k_v"), rows={"predictor": 768},
    ),
    Family(
        "OLMo of its authors", "olmo/convert_olmo_weights_to_hf.py",
        "OlmoForCausalLM", configured("OlmoConfig", **SMALL, vocab_size=64),
        ("wte.weight", "blocks.{}.att_proj.weight", "blocks.{}.attn_out.weight", "blocks.{}.ff_proj.weight",
         "blocks.{}.ff_out.weight"),
        pairs=lambda held, config: [("transformer.ff_out.weight",) * 2],
        run=saved("write_model", "write_json", n_layers=2, n_heads=4, d_model=32, max_sequence_length=64,
                  vocab_size=64, multi_query_attention=False),
        above="transformer.", rows={"att_proj": 96}, rotary="half split",
    ),
    Family(
        "Mask2Former of its authors, on a Swin",
        "mask2former/convert_mask2former_original_pytorch_checkpoint_to_pytorch.py",
        "Mask2FormerForUniversalSegmentation",
        configured("Mask2FormerConfig", backbone_config=("SwinConfig", SWIN | ALL), decoder_layers=4, encoder_layers=2),
        ("backbone.patch_embed.proj.weight", "sem_seg_head.pixel_decoder.adapter_1.weight",
         "sem_seg_head.predictor.transformer_cross_attention_layers.{}.multihead_attn.in_proj_weight",
         "sem_seg_head.predictor.mask_embed.layers.{}.weight"),
        pairs=lambda held, config: [("criterion.empty_weight", "criterion.empty_weight")],
        run=written("OriginalMask2FormerCheckpointToOursConverter", "replace_pixel_module",
                    "replace_transformer_module", "replace_universal_segmentation_module"),
        rows={"in_proj": 768},
    ),
    Family(
        "Grounding DINO of its authors", "grounding_dino/convert_grounding_dino_to_hf.py",
        "GroundingDinoForObjectDetection",
        configured("GroundingDinoConfig", text_config=("BertConfig", SMALL),
                   backbone_config=("SwinConfig", SWIN | {"out_indices": [2, 3, 4]})),
        ("backbone.0.patch_embed.proj.weight", "transformer.encoder.fusion_layers.{}.gamma_v",
         "transformer.decoder.layers.{}.ca_text.out_proj.weight"),
        pairs=lambda held, config: held["create_rename_keys"]({}, config),
    ),
    Family(
        "ViLT of its authors", "vilt/convert_vilt_original_to_pytorch.py",
        "ViltForQuestionAnswering", configured("ViltConfig", **SMALL),
        ("transformer.blocks.{}.attn.qkv.weight", "text_embeddings.word_embeddings.weight",
         "token_type_embeddings.weight", "transformer.patch_embed.proj.weight"),
        pairs=listed(vqa_model=True), run=steps("read_in_q_k_v"),
    ),
)  # fmt: skip
