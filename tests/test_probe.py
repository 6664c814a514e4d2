"""A probe settles what names and shapes leave open, and only that; the model it was tried on is as it was."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import nn

import treealign
from treealign import TreealignError
from treealign.mapping.execution.execute import run
from treealign.mapping.operations import Interleave, RotaryUnpermute

ORIGINAL_LLAMA = {
    "self_attn": "attention",
    **{f"{n}_proj": f"w{n}" for n in "qkvo"},
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOKENS = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(0))


def tiny_llama():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def fit(model, loss, steps=40):
    """Train until the weights mean something: on random ones, no mapping is better than another."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def weights():
    return fit(tiny_llama(), lambda model: model(TOKENS, labels=TOKENS).loss)


def score(model):
    with torch.no_grad():
        return -model(TOKENS, labels=TOKENS).loss


def renamed(weights, names):
    found = {}
    for key, value in weights.items():
        for name, other in names.items():
            key = key.replace(name, other)  # noqa: PLW2901
        found[key] = value
    return found


def uncertain(suggestion):
    return {key for match in suggestion.matches if not match.certain for key in match.model}


def loaded_score(weights, suggestion):
    model = tiny_llama()
    treealign.load(model, weights, mapping=suggestion.mapping)
    return score(model)


@pytest.mark.parametrize("turned", [False, True])
def test_rotary_row_order_is_settled_by_a_probe_and_by_nothing_less(weights, turned):
    old = renamed(weights, ORIGINAL_LLAMA)
    if turned:
        heads = {"wq": 4, "wk": 2}
        for key in old:
            for name in heads.keys() & set(key.split(".")):
                old[key] = run([RotaryUnpermute(heads[name], 8)], [old[key]])[0]
    model = tiny_llama()
    turnable = {f"model.layers.{i}.self_attn.{n}_proj.weight" for i in range(2) for n in "qk"}
    assert uncertain(treealign.suggest(old, model)) == turnable
    suggestion = treealign.suggest(old, model, probe=score)
    assert suggestion.ok
    assert any(match.operations for match in suggestion.matches) == turned
    assert [answer.partition(": ")[0] for answer in suggestion.mapping.answers] == ["probe score"]
    assert loaded_score(old, suggestion) == score_of(weights)


def score_of(weights):
    model = tiny_llama()
    model.load_state_dict(weights)
    return score(model)


@pytest.mark.parametrize("names", [("norm_a", "norm_b"), ("norm_b", "norm_a")])
def test_norms_with_meaningless_names_are_settled_by_a_probe_and_by_nothing_less(weights, names):
    old = renamed(weights, dict(zip(("input_layernorm", "post_attention_layernorm"), names, strict=True)))
    model = tiny_llama()
    assert len(uncertain(treealign.suggest(old, model))) == 4
    suggestion = treealign.suggest(old, model, probe=score)
    assert suggestion.ok
    pairs = {match.checkpoint[0]: match.model[0] for match in suggestion.matches}
    assert pairs[f"model.layers.1.{names[0]}.weight"] == "model.layers.1.input_layernorm.weight"


def test_the_evidence_names_the_probe_and_both_scores(weights):
    old = renamed(weights, {"input_layernorm": "norm_a", "post_attention_layernorm": "norm_b"})
    suggestion = treealign.suggest(old, tiny_llama(), probe=score)
    (match,) = (m for m in suggestion.matches if m.checkpoint == ("model.layers.0.norm_a.weight",))
    (decision,) = suggestion.probed.decisions
    best, second = decision.trials
    said = "probe score: model.layers.{i}.norm_a -> model.layers.{i}.input_layernorm scores"
    assert match.evidence[-1].startswith(f"{said} {best.score:.6g}, next best {second.score:.6g} ")


def test_two_open_choices_are_settled_together(weights):
    old = renamed(weights, ORIGINAL_LLAMA | {"input_layernorm": "norm_b", "post_attention_layernorm": "norm_a"})
    suggestion = treealign.suggest(old, tiny_llama(), probe=score)
    assert (len(suggestion.probed.decisions), suggestion.ok) == (2, True)
    assert loaded_score(old, suggestion) == score_of(weights)


@pytest.mark.parametrize("taking_turns", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_order_and_turns_of_fused_rows_are_settled(weights, taking_turns, swapped):
    old = {}
    for key, value in weights.items():
        if "up_proj" in key:
            continue
        if "gate_proj" not in key:
            old[key] = value
            continue
        parts = [value, weights[key.replace("gate", "up")]]
        fused = torch.cat(parts[::-1] if swapped else parts)
        old[key.replace("gate_proj", "w13")] = run([Interleave(0, (1, 1))], [fused])[0] if taking_turns else fused
    suggestion = treealign.suggest(old, tiny_llama(), probe=score)
    assert suggestion.ok
    assert loaded_score(old, suggestion) == score_of(weights)


@pytest.mark.parametrize("by_heads", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_fused_qkv_is_settled_with_its_heads_and_their_rows(weights, by_heads, turned):
    old = {key: value for key, value in weights.items() if not any(f"{n}_proj" in key for n in "qkv")}
    for i in range(2):
        parts = [weights[f"model.layers.{i}.self_attn.{n}_proj.weight"] for n in "qkv"]
        if turned:
            parts = [run([RotaryUnpermute(len(p) // 8, 8)], [p])[0] for p in parts[:2]] + parts[2:]
        fused = torch.cat(parts)
        fused = run([Interleave(0, (16, 8, 8))], [fused])[0] if by_heads else fused
        old[f"model.layers.{i}.self_attn.query_key_value.weight"] = fused
    suggestion = treealign.suggest(old, tiny_llama(), probe=score, max_probes=128)
    assert suggestion.ok
    assert loaded_score(old, suggestion) == score_of(weights)


def test_two_towers_are_exchanged_whole():
    def towers(first, second):
        torch.manual_seed(0)
        parts = {name: nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)) for name in (first, second)}
        return nn.ModuleDict(parts)

    old = towers("foo", "bar").state_dict()
    model, x = towers("alice", "bob"), torch.linspace(-1, 1, 5)
    truth = towers("foo", "bar")
    wanted = truth["foo"](x) - 2 * truth["bar"](x)

    def closeness(m):
        return -(m["bob"](x) - 2 * m["alice"](x) - wanted).abs().sum()

    suggestion = treealign.suggest(old, model, probe=closeness)
    assert suggestion.ok
    assert {match.checkpoint[0][:3]: match.model[0].split(".")[0] for match in suggestion.matches} == {
        "foo": "bob", "bar": "alice",
    }  # fmt: skip


def test_equal_scores_settle_nothing(weights):
    old = renamed(weights, {"input_layernorm": "norm_a", "post_attention_layernorm": "norm_b"})
    suggestion = treealign.suggest(old, tiny_llama(), probe=lambda _: 1.0)
    assert len(uncertain(suggestion)) == 4
    assert "the probe scores alternatives alike: 1 and 1" in suggestion.ambiguous[0].settled_by


def test_differences_that_the_probe_itself_makes_settle_nothing(weights):
    old = renamed(weights, {"input_layernorm": "norm_a", "post_attention_layernorm": "norm_b"})
    values = iter([3.0, 2.5, 2.4, 2.6, 2.5, 2.4, 2.6, 2.5])
    assert len(uncertain(treealign.suggest(old, tiny_llama(), probe=lambda _: next(values)))) == 4


def test_where_no_alternative_is_right_the_best_of_them_is_not_taken(weights):
    old = renamed(weights, ORIGINAL_LLAMA)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    for key in old:
        if "wq" in key:
            old[key] = old[key][order]
    assert uncertain(treealign.suggest(old, tiny_llama(), probe=score))


def test_a_score_of_minus_infinity_rejects(weights):
    old = renamed(weights, {"input_layernorm": "norm_a", "post_attention_layernorm": "norm_b"})
    suggestion = treealign.suggest(old, tiny_llama(), probe=lambda _: -math.inf)
    assert "rejects all" in suggestion.ambiguous[0].settled_by


def test_a_bound_that_is_too_small_leaves_the_choice_open(weights):
    old = renamed(weights, ORIGINAL_LLAMA)
    calls = []
    suggestion = treealign.suggest(old, tiny_llama(), probe=lambda m: calls.append(1) or score(m), max_probes=6)
    assert uncertain(suggestion)
    assert len(calls) <= 6


def test_choices_too_many_to_combine_are_gone_through_one_by_one(weights):
    old = renamed(weights, ORIGINAL_LLAMA | {"input_layernorm": "norm_b", "post_attention_layernorm": "norm_a"})
    suggestion = treealign.suggest(old, tiny_llama(), probe=score, max_probes=20)
    assert suggestion.probed.probes <= 20
    # what is settled is right, the rest is open
    certain = {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.certain}
    assert certain.get("model.layers.0.norm_b.weight", "model.layers.0.input_layernorm.weight") == (
        "model.layers.0.input_layernorm.weight"
    )


def test_the_probe_is_not_asked_when_nothing_is_open(weights):
    def never(_):
        raise AssertionError

    assert treealign.suggest(weights, tiny_llama(), probe=never).ok


def test_a_model_that_stays_unfilled_is_not_probed(weights):
    old = renamed(weights, ORIGINAL_LLAMA)
    del old["model.norm.weight"]
    suggestion = treealign.suggest(old, tiny_llama(), probe=score)
    assert suggestion.probed is None
    assert "stay without weights" in suggestion.findings[0]


class Counting(nn.Module):
    """Two norms that only order tells apart, and running statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(6), nn.LayerNorm(6)
        self.batch, self.out = nn.BatchNorm1d(6), nn.Linear(6, 6)

    def forward(self, x):
        return self.out(self.batch(self.second(torch.tanh(self.first(x)) * 3)))


INPUTS = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS.roll(1, 0)


def error_in_training(model):
    return ((model.train()(INPUTS) - TARGETS) ** 2).mean()


@cache
def counted():
    torch.manual_seed(0)
    return renamed(fit(Counting(), error_in_training, 150), {"first": "aaa", "second": "bbb"})


def counting():
    return Counting(), counted()


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_norms_are_exchanged_with_their_biases():
    model, old = counting()
    suggestion = treealign.suggest(old, model, probe=lambda m: -error_in_training(m))
    (decision,) = suggestion.probed.decisions
    assert (len(decision.trials), suggestion.ok) == (2, True)


def test_the_model_has_its_weights_buffers_gradients_and_modes_again():
    model, old = counting()
    error_in_training(model).backward()
    model.out.eval()
    before, modes = state(model), [m.training for m in model.modules()]
    gradients = [p.grad.clone() for p in model.parameters()]
    objects = list(map(id, model.parameters()))

    def destructive(m):
        error_in_training(m).backward()
        return -error_in_training(m)

    treealign.suggest(old, model, probe=destructive)
    assert same(before, state(model))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))
    assert list(map(id, model.parameters())) == objects


def test_a_probe_that_raises_leaves_the_model_as_it_was():
    model, old = counting()
    before = state(model)
    with pytest.raises(ZeroDivisionError):
        treealign.suggest(old, model, probe=lambda _: 1 / 0)
    assert same(before, state(model))


def test_running_statistics_of_one_trial_do_not_reach_the_next():
    model, old = counting()
    seen = []

    def watching(m):
        seen.append(m.batch.running_mean.clone())
        return -error_in_training(m)

    treealign.suggest(old, model, probe=watching)
    assert all(torch.equal(mean, old["batch.running_mean"]) for mean in seen)


@pytest.mark.parametrize(
    ("checkpoint", "model", "said"),
    [
        ("tensors", "tree", "a probe needs the model itself"),
        ("tensors", "meta", "on the meta device"),
        ("tree", "module", "no tensors"),
    ],
)
def test_what_cannot_be_probed_is_refused(checkpoint, model, said):
    module, old = counting()
    sides = {"tensors": old, "tree": treealign.read_tree(old)}
    models = {"module": module, "tree": treealign.read_tree(module), "meta": Counting().to("meta")}
    with pytest.raises(TreealignError, match=said):
        treealign.suggest(sides[checkpoint], models[model], probe=error_in_training)


def test_a_key_without_weights_blocks_a_probe_only_if_the_score_depends_on_it():
    class Net(nn.Module):
        def __init__(self, uses_token):
            super().__init__()
            self.alpha, self.beta = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.mask_token = nn.Parameter(torch.zeros(1, 6))
            self.uses_token = uses_token

        def forward(self, x):
            return self.beta(torch.tanh(self.alpha(x))) + (self.mask_token if self.uses_token else 0)

    torch.manual_seed(0)
    teacher, x = Net(False), torch.randn(32, 6)
    target = teacher(x).detach()
    checkpoint = {"one.weight": teacher.beta.weight.detach(), "two.weight": teacher.alpha.weight.detach()}

    def closeness(model):
        return -(model(x) - target).square().mean()

    assert not treealign.suggest(checkpoint, Net(False), probe=closeness).ambiguous
    blocked = treealign.suggest(checkpoint, Net(True), probe=closeness)
    assert len(blocked.ambiguous) == 1
    assert "depends on them" in blocked.findings[0]
