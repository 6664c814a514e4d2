"""`probe="text"`: a language model's loss on a text that comes along, by the tokenizer beside the checkpoint."""

from __future__ import annotations

from importlib.resources import files

import pytest
import torch

import treealign
from treealign import TreealignError

TEXT = files("treealign.run").joinpath("text.txt").read_text(encoding="utf-8")


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint whose norms have names that say nothing, trained a little, with its tokenizer."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    from safetensors.torch import save_file

    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator([TEXT], vocab_size=300, show_progress=False)
    folder = tmp_path_factory.mktemp("trained")
    transformers.PreTrainedTokenizerFast(tokenizer_object=made._tokenizer).save_pretrained(folder)
    model = llama()
    ids = torch.tensor(made.encode(TEXT).ids[:128])[None]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    names = {"input_layernorm": "norm_a", "post_attention_layernorm": "norm_b"}
    state = {}
    for key, value in model.state_dict().items():
        part = next((name for name in names if name in key), "")
        state[key.replace(part, names[part]) if part else key] = value.detach()
    save_file(state, folder / "model.safetensors")
    return folder


def test_a_text_settles_what_names_leave_open(folder):
    assert treealign.suggest(folder, llama()).ambiguous
    assert not treealign.suggest(folder, llama(), probe="text").ambiguous


def test_without_a_tokenizer_the_error_says_where_it_looked(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(TreealignError, match="no tokenizer"):
        treealign.suggest(tmp_path, llama(), probe="text")


def test_a_probe_may_be_named(folder):
    with pytest.raises(TreealignError, match="has no score"):
        treealign.suggest(folder, llama(), probe="data.port.original:score")
