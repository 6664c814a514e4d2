"""A proof by running: equal values in both, equal outputs, and what these say of each key."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from treealign import ConversionMapping, PrefixChange, Rename, TreealignError, prove

INPUTS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
SAME = ConversionMapping(())


class Attention(nn.Module):
    """Pre-norm attention with the casts of real code, a batch norm, an in-place activation and a result with names."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm, self.batch_norm = nn.LayerNorm(width), nn.BatchNorm1d(width)
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.heads = heads

    def forward(self, x):
        x = self.norm(x.float()).to(x.dtype)
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        mixed = nn.functional.dropout(self.o(mixed), 0.5, self.training)
        return {"hidden": self.batch_norm(mixed.transpose(1, 2)).relu_()}


class Codebook(nn.Module):
    """The nearest of a frozen table: a gradient says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 4)
        self.register_buffer("table", torch.zeros(8, 4))

    def forward(self, x):
        return nn.functional.embedding(torch.cdist(self.project(x), self.table).argmin(-1), self.table).round(
            decimals=3
        )


class Summands(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def test_outputs_of_equal_modules_are_equal_exactly():
    proof = prove(Attention(), Attention(), SAME, inputs=INPUTS)
    assert proof.proved
    assert proof.difference < 1e-12
    assert proof.precision == "float64"


def test_a_wrong_mapping_is_refuted():
    proof = prove(Attention(), Attention(), ConversionMapping([Rename({"q": "k", "k": "q"})]), inputs=INPUTS)
    assert not proof.proved
    assert "differ" in proof.reason
    assert set(proof.verdicts.values()) == {"unproved"}


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ("q.weight", "proved"),
        ("q.bias", "proved"),
        ("k.bias", "unproved"),  # a softmax takes no notice of it
        ("mask_token", "unproved"),
        ("batch_norm.running_var", "proved"),
        ("batch_norm.num_batches_tracked", "follows its module"),
    ],
)
def test_each_key_has_the_verdict_that_outputs_allow(key, verdict):
    assert prove(Attention(), Attention(), SAME, inputs=INPUTS).verdicts[key] == verdict


def test_a_table_that_is_searched_is_proved_although_it_has_no_gradient():
    assert prove(Codebook(), Codebook(), SAME, inputs=INPUTS).verdicts["table"] == "proved"


def test_modules_and_inputs_are_as_they_were():
    original, model, inputs = Attention().half(), Attention().train(), INPUTS.clone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert prove(original, model, SAME, inputs=inputs).proved
    assert model.training
    assert torch.equal(inputs, INPUTS)
    assert {value.dtype for value in original.parameters()} == {torch.float16}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_two_sides_may_be_called_otherwise():
    model = nn.Sequential(Attention())
    runs = (lambda module: module(x=INPUTS)["hidden"], lambda module: [module(INPUTS)])
    assert prove(Attention(), model, [PrefixChange(add="0")], run=runs).proved
    pair = ({"x": INPUTS}, (INPUTS,))
    assert prove(Attention(), model, [PrefixChange(add="0")], inputs=pair).proved


def test_a_mapping_is_suggested_where_none_is_given():
    assert prove(Attention(), nn.Sequential(Attention()), inputs=INPUTS).proved


def test_a_key_that_nothing_fills_and_the_run_reads_refutes():
    without_bias = Summands()
    model = Summands()
    model.b = nn.Linear(16, 16)
    assert not prove(without_bias, model, SAME, inputs=INPUTS).proved


def test_a_module_that_draws_another_result_each_time_is_refused():
    class Counting(Summands):
        count = 0

        def forward(self, x):
            self.count += 1
            return super().forward(x) * self.count

    with pytest.raises(TreealignError, match="two runs of the original"):
        prove(Counting(), Summands(), SAME, inputs=INPUTS)


def test_results_of_unlike_number_are_an_error():
    runs = (lambda module: module(INPUTS), lambda module: [module(INPUTS)] * 2)
    with pytest.raises(TreealignError, match="same number of tensors"):
        prove(Summands(), Summands(), SAME, run=runs)


def test_a_model_on_the_meta_device_is_refused():
    with torch.device("meta"):
        model = Summands()
    with pytest.raises(TreealignError, match="meta device"):
        prove(Summands(), model, SAME, inputs=INPUTS)


def test_code_that_runs_in_float32_only_is_proved_in_float32():
    class Narrow(Summands):
        def forward(self, x):
            assert self.a.weight.dtype == torch.float32
            return super().forward(x)

    proof = prove(Narrow(), Summands(), SAME, inputs=INPUTS)
    assert (proof.proved, proof.precision) == (True, "float32")


def test_weights_that_the_original_ties_and_the_model_does_not_are_one_value():
    class Tied(nn.Module):
        def __init__(self, tie):
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
            if tie:
                self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    tokens = torch.arange(11)[None]
    assert prove(Tied(True), Tied(False), SAME, inputs=tokens).proved
    assert prove(Tied(False), Tied(True), SAME, inputs=tokens).proved


def test_a_parametrised_weight_is_compared_by_what_it_makes():
    def layer():
        return nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))

    proof = prove(layer(), layer(), SAME, inputs=INPUTS)
    assert proof.proved
    assert proof.verdicts["parametrizations.weight.original1"] == "proved"


def test_a_table_of_sizes_whose_other_values_stop_the_code_is_depended_on():
    class Sized(Summands):
        def __init__(self):
            super().__init__()
            self.register_buffer("sizes", torch.tensor([2, 5, 16]))

        def forward(self, x):
            return super().forward(x.reshape(self.sizes.tolist()))

    proof = prove(Sized(), Sized(), SAME, inputs=INPUTS)
    assert proof.proved
    assert proof.verdicts["sizes"] == "proved"
