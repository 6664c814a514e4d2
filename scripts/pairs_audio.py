"""Pairs of real code for sound and for diffusion of packages on PyPI."""

from __future__ import annotations

import torch
from code_pairs import OUTSIDE, Pair, outside
from outside import package
from pairs_vision import transformers_model

WAVE = torch.randn(1, 2000, generator=torch.Generator().manual_seed(4))
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONVOLUTIONS = {"conv_dim": [16, 16, 16], "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2]}
SHAPES = list(zip(*CONVOLUTIONS.values(), strict=True))
POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


def _speech(model: str, config: str, *, large: bool) -> None:
    """wav2vec 2.0 and its like of torchaudio beside those of transformers."""

    def make() -> Pair:
        original = package("torchaudio.models").wav2vec2_model(
            extractor_mode="layer_norm" if large else "group_norm", extractor_conv_layer_config=SHAPES,
            extractor_conv_bias=large, encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16,
            encoder_pos_conv_groups=4, encoder_num_layers=2, encoder_num_heads=2, encoder_attention_dropout=0.0,
            encoder_ff_interm_features=64, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0,
            encoder_layer_norm_first=large, encoder_layer_drop=0.0, aux_num_out=11,
        )  # fmt: skip
        made = transformers_model(
            model, config, vocab_size=11, feat_extract_norm="layer" if large else "group", conv_bias=large,
            do_stable_layer_norm=large, **SMALL, **CONVOLUTIONS, **POSITIONS, num_feat_extract_layers=3,
        )  # fmt: skip
        return original, made, (lambda module: module(WAVE)[0], lambda module: module(WAVE).logits)

    OUTSIDE[f"torchaudio wav2vec2{' large' if large else ''} - transformers {config}"] = make


_speech("Wav2Vec2ForCTC", "Wav2Vec2", large=False)
_speech("Wav2Vec2ForCTC", "Wav2Vec2", large=True)
_speech("HubertForCTC", "Hubert", large=False)
_speech("UniSpeechForCTC", "UniSpeech", large=False)
_speech("UniSpeechSatForCTC", "UniSpeechSat", large=True)


@outside("torchaudio wavlm - transformers WavLM")
def wavlm() -> Pair:
    original = package("torchaudio.models").wavlm_model(
        extractor_mode="group_norm", extractor_conv_layer_config=SHAPES, extractor_conv_bias=False,
        encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16, encoder_pos_conv_groups=4,
        encoder_num_layers=2, encoder_num_heads=2, encoder_num_buckets=32, encoder_max_distance=80,
        encoder_attention_dropout=0.0, encoder_ff_interm_features=64, encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0, encoder_layer_norm_first=False, encoder_layer_drop=0.0, aux_num_out=11,
    )  # fmt: skip
    made = transformers_model(
        "WavLMForCTC", "WavLM", vocab_size=11, feat_extract_norm="group", conv_bias=False, num_buckets=32,
        max_bucket_distance=80, num_feat_extract_layers=3, **SMALL, **CONVOLUTIONS, **POSITIONS,
    )  # fmt: skip
    return original, made, (lambda module: module(WAVE)[0], lambda module: module(WAVE).logits)


@outside("whisper - transformers Whisper")
def whisper() -> Pair:
    own = package("whisper.model")
    original = own.Whisper(own.ModelDimensions(8, 20, 32, 2, 2, 50, 16, 32, 2, 2))
    torch.nn.init.normal_(original.decoder.positional_embedding)  # it is made of memory that nothing was written to
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
    model = transformers_model(
        "WhisperForConditionalGeneration", "Whisper", vocab_size=50, num_mel_bins=8, max_source_positions=20,
        max_target_positions=16, decoder_attention_heads=2, encoder_ffn_dim=128, decoder_ffn_dim=128, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
        **sizes,
    )  # fmt: skip
    mel = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(5))
    words = torch.tensor([[1, 5, 9, 2, 6]])
    return original, model, (
        lambda module: module(mel, words), lambda module: module(mel, decoder_input_ids=words).logits
    )  # fmt: skip


@outside("encodec - transformers Encodec")
def encodec() -> Pair:
    parts = package("encodec.modules")
    quantizer = package("encodec.quantization").ResidualVectorQuantizer(dimension=16, n_q=2, bins=32)
    seanet = {"channels": 1, "dimension": 16, "n_filters": 4, "ratios": [4, 2], "n_residual_layers": 1, "lstm": 1,
              "causal": True, "norm": "weight_norm"}  # fmt: skip
    original = package("encodec.model").EncodecModel(
        parts.SEANetEncoder(**seanet), parts.SEANetDecoder(**seanet), quantizer, [1.5], 24000, 1, False, None
    )
    model = transformers_model(
        "EncodecModel", "Encodec", hidden_size=16, num_filters=4, upsampling_ratios=[4, 2], num_residual_layers=1,
        num_lstm_layers=1, codebook_size=32, codebook_dim=16, target_bandwidths=[30.0], sampling_rate=24000,
        use_causal_conv=True, norm_type="weight_norm",
    )  # fmt: skip
    wave = WAVE[:, None, :800]
    return original, model, (
        lambda m: m.decoder(m.encoder(wave)), lambda m: m.decoder(m.encoder(wave)),
    )  # fmt: skip


@outside("torchaudio HDemucs - demucs HDemucs")
def demucs() -> Pair:
    sizes = {"channels": 8, "depth": 4, "nfft": 256}
    original = package("torchaudio.models").HDemucs(["a", "b"], **sizes)
    model = package("demucs.hdemucs").HDemucs(["a", "b"], hybrid_old=False, wiener_iters=0, end_iters=0, **sizes)
    wave = torch.randn(1, 2, 6000, generator=torch.Generator().manual_seed(7))
    return original, model, lambda module: module(wave)


LATENT = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(8))


@outside("monai AutoencoderKL - diffusers AutoencoderKL")
def autoencoder() -> Pair:
    diffusers = package("diffusers")
    original = package("monai.networks.nets").AutoencoderKL(
        spatial_dims=2, in_channels=3, out_channels=3, channels=(8, 16), latent_channels=4, num_res_blocks=1,
        norm_num_groups=4, attention_levels=(False, False), with_encoder_nonlocal_attn=True,
        with_decoder_nonlocal_attn=True,
    )  # fmt: skip
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return original, model, (
        lambda m: m.decode(m.encode(LATENT)[0]),
        lambda m: m.decode(m.encode(LATENT).latent_dist.mean).sample,
    )  # fmt: skip


@outside("monai DiffusionModelUNet - diffusers UNet2DConditionModel")
def unet() -> Pair:
    diffusers = package("diffusers")
    original = package("monai.networks.nets").DiffusionModelUNet(
        spatial_dims=2, in_channels=3, out_channels=3, channels=(8, 16), num_res_blocks=1, norm_num_groups=4,
        attention_levels=(False, True), num_head_channels=8, with_conditioning=True, cross_attention_dim=12,
        resblock_updown=False,
    )  # fmt: skip
    model = diffusers.UNet2DConditionModel(
        sample_size=32, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=12, attention_head_dim=(1, 2),
        flip_sin_to_cos=True,
    )  # fmt: skip
    time, words = torch.tensor([3]), torch.randn(1, 5, 12, generator=torch.Generator().manual_seed(9))
    return original, model, (
        lambda m: m(LATENT, time, context=words), lambda m: m(LATENT, time, words).sample
    )  # fmt: skip
