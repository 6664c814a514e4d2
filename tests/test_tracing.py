"""A run on the meta device shows who feeds whom; what follows from it is right or left open, never silently wrong."""

from __future__ import annotations

import pytest
import torch
from aligning import certain_pairs
from torch import nn

from treealign import KeyTree, read_tree, suggest
from treealign.align.matching.traced_roles import Flow
from treealign.tree.tracing import Trace, trace_model

TOKENS = {"input_ids": torch.zeros(1, 6, dtype=torch.int64)}


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x):
        scores = self.q_proj(x) @ self.k_proj(x).transpose(-1, -2)
        return self.o_proj(scores.softmax(-1) @ self.v_proj(x))


class Block(nn.Module):
    """Norms and linear layers by the names that are given: in order of definition, the roles are told by `forward`."""

    def __init__(self, norms, linears, post, size=8):
        super().__init__()
        self.attn, self.post = Attention(size), post
        for name in sorted({*norms.values()}):
            self.add_module(name, nn.LayerNorm(size))
        for name in sorted({*linears.values()}):
            shape = (2 * size, size) if name == linears["down"] else (size, 2 * size)
            self.add_module(name, nn.Linear(*shape))
        self.norms, self.linears = norms, linears

    def forward(self, x):
        first, second = (getattr(self, self.norms[n]) for n in ("attn", "mlp"))
        gate, up, down = (getattr(self, self.linears[n]) for n in ("gate", "up", "down"))

        def mlp(y):
            return down(nn.functional.silu(gate(y)) * up(y))

        if self.post:
            x = first(x + self.attn(x))
            return second(x + mlp(x))
        x = x + self.attn(first(x))
        return x + mlp(second(x))


class Net(nn.Module):
    def __init__(self, norms, linears=None, post=False):
        super().__init__()
        linears = linears or {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
        self.embed = nn.Embedding(16, 8)
        self.layers = nn.ModuleList(Block(norms, linears, post) for _ in range(2))

    def forward(self, input_ids):
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return x


def checkpoint(norms, linears=None, post=False):
    """A tree as a safetensors file has it: no modules, no order."""
    model = Net(norms, linears, post)
    return KeyTree.from_leaves(list(read_tree(model).leaves))


NAMED = {"attn": "attn_norm", "mlp": "ffn_norm"}
ORDERS = [{"attn": "norm_a", "mlp": "norm_b"}, {"attn": "norm_b", "mlp": "norm_a"}]


@pytest.mark.parametrize("norms", ORDERS)
def test_two_norms_with_meaningless_names_are_told_apart_by_what_they_feed(norms):
    model = Net(norms)
    without = certain_pairs(suggest(checkpoint(NAMED), read_tree(model)))
    assert "layers.0.attn_norm.weight" not in without
    certain = certain_pairs(suggest(checkpoint(NAMED), read_tree(model, example_inputs=TOKENS)))
    for i in range(2):
        for end in ("weight", "bias"):
            assert certain[f"layers.{i}.attn_norm.{end}"] == f"layers.{i}.{norms['attn']}.{end}"
            assert certain[f"layers.{i}.ffn_norm.{end}"] == f"layers.{i}.{norms['mlp']}.{end}"


@pytest.mark.parametrize("norms", ORDERS)
def test_in_a_block_that_norms_after_adding_a_norm_still_goes_to_the_part_that_it_is_named_for(norms):
    tree = read_tree(Net(norms, post=True), example_inputs=TOKENS)
    certain = certain_pairs(suggest(checkpoint(NAMED, post=True), tree))
    assert certain["layers.0.attn_norm.weight"] == f"layers.0.{norms['attn']}.weight"


def test_the_evidence_says_that_a_run_showed_it():
    found = suggest(checkpoint(NAMED), read_tree(Net(ORDERS[1]), example_inputs=TOKENS))
    (match,) = (m for m in found.matches if m.checkpoint == ("layers.0.attn_norm.weight",))
    assert "a run of the model shows that it is pre_attn" in match.evidence


def test_a_run_of_one_side_settles_nothing_where_the_other_side_says_nothing():
    found = suggest(checkpoint({"attn": "aaa", "mlp": "bbb"}), read_tree(Net(ORDERS[0]), example_inputs=TOKENS))
    assert "layers.0.aaa.weight" not in certain_pairs(found)


@pytest.mark.parametrize("norms", ORDERS)
def test_norms_after_adding_are_told_apart_by_what_they_take(norms):
    names = {"attn": "post_self_attn_norm", "mlp": "post_mlp_norm"}
    tree = read_tree(Net(norms, post=True), example_inputs=TOKENS)
    certain = certain_pairs(suggest(checkpoint(names, post=True), tree))
    assert certain["layers.1.post_self_attn_norm.weight"] == f"layers.1.{norms['attn']}.weight"


@pytest.mark.parametrize(("gate", "up"), [("aaa", "bbb"), ("bbb", "aaa")])
def test_the_gate_is_what_goes_through_the_activation(gate, up):
    model = Net(NAMED, {"gate": gate, "up": up, "down": "ccc"})
    tree = read_tree(model, example_inputs=TOKENS)
    certain = certain_pairs(suggest(checkpoint(NAMED), tree))
    assert certain["layers.0.gate_proj.weight"] == f"layers.0.{gate}.weight"
    assert certain["layers.1.up_proj.weight"] == f"layers.1.{up}.weight"
    assert "layers.0.gate_proj.weight" not in certain_pairs(suggest(checkpoint(NAMED), read_tree(model)))


def test_the_order_of_use_is_that_of_the_run_and_not_of_the_definition():
    trace = trace_model(Net(ORDERS[1]), TOKENS)
    used = [key for key in trace.order if key.startswith("layers.0.norm")]
    assert used == ["layers.0.norm_b.bias", "layers.0.norm_b.weight", "layers.0.norm_a.bias", "layers.0.norm_a.weight"]


def test_the_model_is_as_it_was():
    model = Net(NAMED)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.layers[0].eval()
    read_tree(model, example_inputs=TOKENS)
    assert [m.training for m in model.layers] == [False, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("inputs", [torch.zeros(2, 5), {"nonsense": 1}, True])
def test_a_run_that_fails_is_said_and_changes_nothing(inputs):
    model = Net(ORDERS[0])
    tree = read_tree(model, example_inputs=inputs)
    found = suggest(checkpoint(NAMED), tree)
    assert any(tree.trace.problem in finding for finding in found.findings)
    assert found.matches == suggest(checkpoint(NAMED), read_tree(model)).matches


def test_a_model_that_asks_for_values_is_not_traced():
    class Asking(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    assert "meta" in trace_model(Asking(2, 2), torch.zeros(1, 2)).problem


def test_the_tree_json_keeps_the_trace(tmp_path):
    tree = read_tree(Net(NAMED), example_inputs=TOKENS)
    tree.to_json(tmp_path / "tree.json")
    assert read_tree(tmp_path / "tree.json") == tree
    assert read_tree(tmp_path / "tree.json").trace == tree.trace


TINY = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
PRE = {"input_layernorm": "pre_attn", "post_attention_layernorm": "pre_mlp"}
GEMMA = {
    "input_layernorm": "pre_attn",
    "post_attention_layernorm": "post_attn",
    "pre_feedforward_layernorm": "pre_mlp",
    "post_feedforward_layernorm": "post_mlp",
}
GATED = {"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"}
T5 = {"d_model": 32, "d_ff": 48, "num_layers": 1, "num_heads": 4, "d_kv": 8}
BERT = {"attention.output.LayerNorm": "post_attn", "output.LayerNorm": "post_mlp"}


@pytest.mark.parametrize(
    ("name", "more", "prefix", "roles"),
    [
        ("LlamaForCausalLM", {"num_key_value_heads": 2}, "model.layers.1", PRE | GATED),
        (
            "Qwen3ForCausalLM",
            {"num_key_value_heads": 2, "head_dim": 8},
            "model.layers.1",
            PRE | {"self_attn.q_norm": ""},
        ),
        ("Gemma2ForCausalLM", {"num_key_value_heads": 2, "head_dim": 8}, "model.layers.1", GEMMA | GATED),
        ("Olmo2ForCausalLM", {}, "model.layers.1", {n: GEMMA[n] for n in GEMMA if n.startswith("post")}),
        ("BertModel", {}, "encoder.layer.1", BERT),
        ("MixtralForCausalLM", {"num_key_value_heads": 2, "num_local_experts": 4}, "model.layers.1", PRE),
        ("T5Model", T5, "encoder.block.0", {"layer.0.layer_norm": "pre_attn", "layer.1.layer_norm": "pre_mlp"}),
        ("ViTModel", {"image_size": 32}, "layers.0", {"layernorm_before": "pre_attn", "layernorm_after": "pre_mlp"}),
        ("GPTNeoXForCausalLM", {}, "gpt_neox.layers.1", PRE),
    ],
)
def test_the_roles_of_real_models_are_those_of_their_names(name, more, prefix, roles):
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, name)
    with torch.device("meta"):
        model = model_class(model_class.config_class(**TINY | more))
    tree = read_tree(model, example_inputs=True)
    assert tree.trace.problem == ""
    flow = Flow.of(tree)
    assert {module: flow.role(f"{prefix}.{module}") for module in roles} == roles


def test_an_ambiguous_flow_gives_no_role():
    feeds = (("n", "q"), ("n", "k"), ("q", "o"), ("k", "o"), ("n", "fc"), ("fc", "out"))
    flow = Flow(Trace((), feeds, ("fc",), ("q", "k")), frozenset({"n"}), frozenset({"n"}))
    assert flow.role("n") == ""
