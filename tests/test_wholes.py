"""Containers of equal contents: one verdict for all of each, by the names at the place where they differ."""

from __future__ import annotations

import pytest
from truths import Truth

LEAVES = {"transform.dense.weight": (8, 8), "transform.dense.bias": (8,), "decoder.weight": (30, 8), "bias": (30,)}


def heads(*names):
    """Heads of one kind, each called otherwise on the two sides, beside a body that says nothing of them."""
    truth = Truth()
    for old, new in names:
        for leaf, shape in LEAVES.items():
            truth.pair(f"{old}.{leaf}", f"{new}.{leaf}", shape)
    truth.pair("text.fc.weight", "text.fc.weight", (24, 8))
    return truth


@pytest.mark.parametrize(
    "names",
    [
        (("heads.fairseq_mlm", "mlm_head"), ("heads.cmd.mlm_head", "mmm_text_head")),
        (("heads.pretrain_itm", "itm_head"), ("heads.joint.itm_head", "match_head")),
        (("alpha", "head_one"), ("omega", "head_two")),
    ],
)
def test_a_word_that_both_have_settles_neither_and_they_share_one_verdict(names):
    truth = heads(*names)
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain
    for _, new in names:
        assert len({f"{new}.{leaf}" in certain for leaf in LEAVES}) == 1


@pytest.mark.parametrize(
    "names",
    [
        (("mlm_head", "heads.mlm_head"), ("itm_head", "heads.itm_head")),
        (("text_head", "language.head"), ("image_head", "vision.head")),
        (("self_attn", "self_attn"), ("cross_attn", "encoder_attn")),
    ],
)
def test_a_word_that_only_one_has_settles_all_of_both(names):
    truth = heads(*names)
    wrong, certain = truth.judged(truth.suggestion())
    assert wrong == set()
    assert certain >= {f"{new}.{leaf}" for _, new in names for leaf in LEAVES}


def attentions(old, new, projections):
    """Two attentions of equal leaves in each block."""
    truth = Truth()
    for n in range(2):
        for a, b in zip(old, new, strict=True):
            for x, y in projections:
                truth.pair(f"blocks.{n}.{a}.{x}.weight", f"layers.{n}.{b}.{y}.weight", (12, 12))
                truth.pair(f"blocks.{n}.{a}.{x}.bias", f"layers.{n}.{b}.{y}.bias", (12,))
            truth.pair(f"blocks.{n}.{a}.norm_q.weight", f"layers.{n}.{b}.norm_q.weight", (12,))
        truth.pair(f"blocks.{n}.ffn.weight", f"layers.{n}.ffn.weight", (30, 12))
    return truth


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("self_attn", "cross_attn"), ("attn1", "attn2")),
        (("spatial", "temporal"), ("mixer_a", "mixer_b")),
        (("left", "right"), ("first", "second")),
    ],
)
@pytest.mark.parametrize(
    "projections",
    [
        (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")),
        (("wq", "query"), ("wk", "key"), ("wv", "value"), ("wo", "out")),
    ],
)
def test_no_container_is_torn_apart(old, new, projections):
    suggestion = attentions(old, new, projections).suggestion()
    for n in range(2):
        for b in new:
            sources = {
                m.checkpoint[0].split(".")[2] for m in suggestion.matches if m.model[0].startswith(f"layers.{n}.{b}.")
            }
            assert len(sources) == 1


def test_an_attention_is_known_by_how_much_it_holds():
    truth = Truth()
    for n in range(2):
        p, q = f"blocks.{n}.", f"transformer_blocks.{n}."
        truth.fused(f"{p}attn.qkv.weight", [f"{q}attn1.to_{x}.weight" for x in "qkv"], (16, 16))
        truth.pair(f"{p}attn.proj.weight", f"{q}attn1.to_out.0.weight", (16, 16))
        truth.pair(f"{p}attn.proj.bias", f"{q}attn1.to_out.0.bias", (16,))
        for leaf, shape in (("weight", (16, 16)), ("bias", (16,))):
            truth.pair(f"{p}cross_attn.q_linear.{leaf}", f"{q}attn2.to_q.{leaf}", shape)
            truth.fused(f"{p}cross_attn.kv_linear.{leaf}", [f"{q}attn2.to_{x}.{leaf}" for x in "kv"], shape)
            truth.pair(f"{p}cross_attn.proj.{leaf}", f"{q}attn2.to_out.0.{leaf}", shape)
        truth.pair(f"{p}mlp.fc1.weight", f"{q}ff.net.0.proj.weight", (40, 16))
        truth.pair(f"{p}mlp.fc2.weight", f"{q}ff.net.2.weight", (16, 40))
    wrong, _ = truth.judged(truth.suggestion())
    assert wrong == set()


def test_a_fused_group_takes_its_places_before_a_lone_key_of_the_same_shape():
    truth = Truth()
    for n in range(2):
        p, q = f"stages.0.blocks.{n}.", f"encoder.layers.0.blocks.{n}."
        for leaf, shape in (("weight", (16, 16)), ("bias", (16,))):
            new = [f"{q}attention.self.{x}.{leaf}" for x in ("query", "key", "value")]
            truth.fused(f"{p}attn.w_msa.qkv.{leaf}", new, shape)
            truth.pair(f"{p}attn.w_msa.proj.{leaf}", f"{q}attention.output.dense.{leaf}", shape)
        truth.pair(f"{p}norm1.weight", f"{q}layernorm_before.weight", (16,))
        truth.pair(f"{p}ffn.layers.0.0.weight", f"{q}intermediate.dense.weight", (40, 16))
    wrong, _ = truth.judged(truth.suggestion())
    assert wrong == set()


def test_leaves_of_a_module_stay_together_where_only_the_weight_is_reshaped():
    truth = Truth()
    for n in range(2):
        for old, new in (
            ("proj.0", "self.query"),
            ("proj.1", "self.key"),
            ("proj.2", "self.value"),
            ("merge", "output"),
        ):
            p, q = f"layers.{n}.attn.{old}", f"layers.{n}.attention.{new}"
            truth.pair(f"{p}.weight", f"{q}.weight", (8, 8, 1), lambda t: t.squeeze(-1))
            truth.pair(f"{p}.bias", f"{q}.bias", (8,))
    goals = {}
    for match in truth.suggestion().matches:
        goals.setdefault(match.checkpoint[0].rpartition(".")[0], set()).add(match.model[0].rpartition(".")[0])
    assert all(len(modules) == 1 for modules in goals.values())
