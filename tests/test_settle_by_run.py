"""What running the original beside the model settles, what it puts right, and what it must leave open."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import nn

from treealign import suggest

INPUTS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


class Named(nn.Module):
    """Layers under names that say nothing, in the order in which `forward` of a subclass takes them."""

    def __init__(self, *names: str, spare: bool = False) -> None:
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, self.layer(name))
        if spare:
            self.mask_token = nn.Parameter(torch.zeros(1, 16))

    def layer(self, name):
        return nn.Linear(16, 16)

    def layers(self):
        return [getattr(self, name) for name in self.names]


class Chain(Named):
    def forward(self, x):
        first, second = self.layers()
        return second(torch.tanh(first(x)))


class Summands(Named):
    """Three summands that trade places unseen, and a product of which only one factor is bent."""

    def forward(self, x):
        a, b, c, bent, plain = self.layers()
        return a(x) + b(x) + c(x) + torch.tanh(bent(x)) * plain(x)


class Branches(Named):
    """Two branches of a convolution and a norm: each pair of either shows, whole branches do not."""

    def layer(self, name):
        return nn.BatchNorm1d(4) if "n" in name else nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x):
        one, other, norm, other_norm = self.layers()
        return norm(one(x).relu()) + other_norm(other(x).relu())


class Rotary(nn.Module):
    """Rotary attention, pairs of rows side by side under original names, or in halves under those of transformers."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved, self.heads = interleaved, 2
        self.names = ["wq", "wk", "wv", "wo"] if interleaved else ["q_proj", "k_proj", "v_proj", "o_proj"]
        self.attention = nn.ModuleDict({name: nn.Linear(16, 16, bias=False) for name in self.names})
        self.config = type("Config", (), {"num_attention_heads": 2, "hidden_size": 16})()

    def rotated(self, x):
        turn = torch.arange(x.shape[2]).float()[:, None] / 100 ** (torch.arange(0, 8, 2).float() / 8)
        a, b = (x[..., ::2], x[..., 1::2]) if self.interleaved else x.chunk(2, -1)
        pair = a * turn.cos() - b * turn.sin(), a * turn.sin() + b * turn.cos()
        return torch.stack(pair, -1).flatten(-2) if self.interleaved else torch.cat(pair, -1)

    def forward(self, x):
        q, k, v = (self.attention[n](x).unflatten(-1, (2, 8)).transpose(1, 2) for n in self.names[:3])
        mixed = nn.functional.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v)
        return self.attention[self.names[3]](mixed.transpose(1, 2).flatten(2))


def pairs(suggestion):
    return {m.checkpoint[0]: m.model[0] for m in suggestion.matches}


def certain(suggestion):
    return {m.model[0].partition(".")[0] for m in suggestion.matches if m.certain}


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_names_that_say_nothing_are_settled_whichever_way_they_were_guessed(names):
    original, model = Chain(*names), Chain("beta", "alpha", spare=True)
    assert not certain(suggest(original.state_dict(), model))
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert not found.questions
    assert pairs(found)[f"{names[0]}.weight"] == "beta.weight"
    assert all(any(text.startswith("run") for text in match.evidence) for match in found.matches)


def test_a_wrong_guess_is_put_right_and_the_mapping_says_by_what():
    original, model = Rotary(True), Rotary(False)
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert found.ok
    (hint,) = found.ran.hints
    assert "interleaved to half split" in hint
    assert f"run: {hint}" in found.mapping.answers


def test_rows_that_nothing_compares_stay_open():
    """With one token there is nothing to attend to, so that queries and keys change no output."""
    original, model = Rotary(True), Rotary(False)
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS[:, :1])
    assert found.ran.proved
    assert [question.about for question in found.questions] == ["rows"]


def test_summands_that_trade_places_stay_open_and_what_is_beside_them_does_not():
    original, model = Summands(*"abcuw"), Summands("one", "two", "three", "four", "five")
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert found.ran.proved
    assert certain(found) == {"four", "five"}
    assert "no output tells it" in found.questions[0].why


def test_branches_that_trade_places_as_wholes_stay_open():
    original, model = Branches("foo", "bar", "nu", "nun"), Branches("p", "q", "n", "nn")
    found = suggest(original.state_dict(), model, original=original, inputs=torch.randn(2, 4, 9))
    assert found.ran.proved
    assert certain(found) == set()


def test_a_key_that_no_output_depends_on_stays_open():
    class Unread(Named):
        def forward(self, x):
            return self.layers()[0](x)

    original, model = Unread("one", "two"), Unread("beta", "alpha")
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert certain(found) == {"beta"}


def test_a_model_that_computes_something_else_settles_nothing():
    class Residual(Chain):
        def forward(self, x):
            return x + super().forward(x)

    original, model = Chain("one", "two"), Residual("beta", "alpha")
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert not found.ran.proved
    assert not certain(found)
    assert "differ" in found.findings[0]


def test_an_original_that_gives_something_else_each_time_settles_nothing():
    class Unsteady(Chain):
        calls = count(1)

        def forward(self, x):
            return super().forward(x) * next(self.calls)

    original, model = Unsteady("one", "two"), Chain("beta", "alpha")
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert not certain(found)
    assert "two runs of the original" in found.findings[0]


def test_the_checkpoint_may_have_a_prefix_that_the_original_has_not():
    original, model = Chain("one", "two"), Chain("beta", "alpha")
    checkpoint = {f"module.{key}": value for key, value in original.state_dict().items()}
    assert suggest(checkpoint, model, original=original, inputs=INPUTS).ok


@pytest.mark.parametrize("order", ["pqrst", "tsrqp", "rtpsq"])
def test_layers_are_found_whatever_the_order_in_which_they_are_called(order):
    class Blocks(nn.Module):
        def __init__(self, names, order):
            super().__init__()
            self.order = order
            self.blocks = nn.ModuleList(nn.ModuleDict({n: nn.Linear(16, 16) for n in names}) for _ in range(2))

        def forward(self, x):
            for block in self.blocks:
                for name in self.order:
                    x = torch.tanh(block[name](x))
            return x

    names = ("one", "two", "three", "four", "five")
    original, model = Blocks("pqrst", order), Blocks(names, names)
    found = suggest(original.state_dict(), model, original=original, inputs=INPUTS)
    assert found.ok
    assert {a.split(".")[2]: b.split(".")[2] for a, b in pairs(found).items()} == dict(zip(order, names, strict=True))
    assert found.ran.runs < 100


def test_what_wraps_or_compiles_a_model_is_no_matter():
    original, model = Chain("one", "two"), Chain("beta", "alpha")
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert suggest(original.state_dict(), wrapped, original=original, inputs=INPUTS).ok


def test_a_leaf_that_bears_its_name_is_no_other_leaf_of_its_module():
    """The two biases of a recurrent layer are summed, so that no output tells them apart: their names do."""

    class Recurrent(Named):
        def layer(self, name):
            return nn.LSTM(16, 16, batch_first=True)

        def forward(self, x):
            first, second = self.layers()
            return second(first(x)[0])[0]

    original, model = Recurrent("one", "two"), Recurrent("beta", "alpha")
    assert suggest(original.state_dict(), model, original=original, inputs=INPUTS).ok


def test_heads_of_which_a_part_rotates_are_tried_by_the_size_that_the_model_says():
    """Rows of q, k and v one after the other, as litgpt keeps them, beside those by head of GPT-NeoX."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention

    class ByPart(GPTNeoXAttention):
        @property
        def query_key_value(self):
            return lambda x: self.qkv(x).unflatten(-1, (3, -1, 8)).transpose(-3, -2).flatten(-3)

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    original, model = (
        transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(vocab_size=50, **sizes)) for _ in range(2)
    )
    attention = original.gpt_neox.layers[0].attention
    attention.qkv = attention._modules.pop("query_key_value")
    attention.__class__ = ByPart
    found = suggest(original.state_dict(), model, original=original, run=lambda m: m(torch.arange(9)[None]).logits)
    assert found.ok
    assert found.ran.hints == ("query_key_value: rows by head of 8 in the model",)
