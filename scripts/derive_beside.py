"""Check readings of the table of layouts by running two libraries side by side with one set of numbers.

    python scripts/derive_beside.py

The original's tensors are renamed as its entry reads them, loaded into the module of the other library, and both are
run on the same inputs: nothing may be missing or left over, and the outputs must be equal. Prints the largest
difference, and exits 1 where there is one. What is not installed is named and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch

from treealign.align.knowledge.entries import Known, read_name

CLOSE = 1e-5
Outputs = tuple[torch.Tensor, torch.Tensor]
SIZES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
SIZES |= {"encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "d_model": 32, "vocab_size": 96, "num_mel_bins": 8}
SIZES |= {"max_source_positions": 10, "max_target_positions": 12}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def renamed(original: torch.nn.Module, model: torch.nn.Module, entry: str, own: tuple[str, ...] = ()) -> None:
    """Give a model the random numbers of an original, under the names that an entry reads its own as."""
    for p in original.parameters():
        p.data = torch.randn_like(p) * 0.2
    held = {
        ".".join(read_name(tuple(key.split(".")), [Known(entry, 0)])): tensor
        for key, tensor in original.state_dict().items()
        if key not in own
    }
    model.load_state_dict(held)


def whisper() -> Iterator[Outputs]:
    """OpenAI's Whisper beside that of transformers."""
    from transformers import WhisperConfig, WhisperModel
    from whisper.model import ModelDimensions, Whisper

    original = Whisper(ModelDimensions(8, 10, 32, 4, 2, 96, 12, 32, 4, 2)).eval()
    model = WhisperModel(WhisperConfig(**SIZES, **TOKENS, attn_implementation="eager")).eval()
    renamed(original, model, "OpenAI's Whisper", ("alignment_heads",))
    audio, text = torch.rand(1, 8, 20), torch.arange(5)[None]
    heard = original.encoder(audio), model.encoder(audio).last_hidden_state
    yield heard
    states = model.decoder(input_ids=text, encoder_hidden_states=heard[1]).last_hidden_state
    yield original.decoder(text, heard[0]), states @ model.decoder.embed_tokens.weight.T


def squeeze() -> Iterator[Outputs]:
    """timm's squeeze and excite beside RegNet's of transformers."""
    from timm.layers.squeeze_excite import SEModule
    from transformers.models.regnet.modeling_regnet import RegNetSELayer

    original, model = SEModule(48, rd_channels=8), RegNetSELayer(48, 8)
    names = {"fc1": "attention.0", "fc2": "attention.2"}
    held = {f"{names[key[:3]]}{key[3:]}": tensor for key, tensor in original.state_dict().items()}
    model.load_state_dict(held)
    inputs = torch.rand(2, 48, 5, 5)
    yield original(inputs), model(inputs)


PAIRS: dict[str, Callable[[], Iterator[Outputs]]] = {"OpenAI's Whisper": whisper, "transformers, RegNet": squeeze}


def main() -> int:
    """Run all pairs of what is installed."""
    failed = 0
    for name, pair in PAIRS.items():
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                difference = max(float((a - b).abs().max()) for a, b in pair())
        except ImportError as error:
            print(f"{name:24} left out: {error}")
            continue
        failed += difference > CLOSE
        print(f"{name:24} {'WRONG: ' if difference > CLOSE else ''}outputs differ by {difference:.0e}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
