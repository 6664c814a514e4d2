"""What is said about one key: what counts, each rival with what speaks for and against, what would settle it."""

from __future__ import annotations

import pytest
from aligning import aligned

from treealign import TreealignError
from treealign.align.asking.explaining import explain
from treealign.align.knowledge.weights import MARGIN
from treealign.cli.render_explanation import asked_keys, explanation_lines

LAYERS = ("attn.q_proj", "attn.k_proj", "mlp.up_proj")


def norms(first, second, **more):
    found = {f"layers.{i}.{name}.weight": (4, 4) for i in range(2) for name in LAYERS}
    return found | {f"layers.{i}.{name}.weight": (4,) for i in range(2) for name in (first, second)} | more


def explained(suggestion, key):
    (one,) = explain(suggestion.alignment, [key])
    return one


def test_a_rival_comes_with_what_speaks_for_and_against_the_exchange():
    suggestion = aligned(norms("attention_norm", "ffn_norm"), norms("input_layernorm", "post_attention_layernorm"))
    one = explained(suggestion, "layers.0.attention_norm.weight")
    (rival,) = one.rivals
    assert one.certain
    assert rival.lost > MARGIN
    assert rival.checkpoint == ("layers.0.ffn_norm.weight", "layers.1.ffn_norm.weight")
    assert ("role pre_attn", 1.0) in rival.for_match
    assert ("role post_attn", 1.0) in rival.for_exchange


def test_an_exchange_that_loses_nothing_is_why_a_match_is_open():
    suggestion = aligned(norms("foo", "bar"), norms("input_layernorm", "post_attention_layernorm"))
    one = explained(suggestion, "layers.1.foo.weight")
    assert not one.certain
    assert one.rivals[0].lost <= MARGIN
    assert len(one.alternatives) == 2


def test_a_key_of_the_model_is_explained_by_the_same_match():
    suggestion = aligned(norms("attention_norm", "ffn_norm"), norms("input_layernorm", "post_attention_layernorm"))
    keys = "layers.0.ffn_norm.weight", "layers.1.post_attention_layernorm.weight"
    assert explain(suggestion.alignment, keys[:1]) == explain(suggestion.alignment, keys[1:])


def test_what_descends_from_a_match_does_not_speak_for_it():
    old = {f"{m}.{leaf}": (4,) for m in ("foo", "bar") for leaf in ("weight", "bias")}
    new = {f"{m}.{leaf}": (4,) for m in ("qux", "zip") for leaf in ("weight", "bias")}
    suggestion = aligned(old | {"head.weight": (2, 4)}, new | {"head.weight": (2, 4)})
    one = explained(suggestion, "foo.weight")
    exchange = next(rival for rival in one.rivals if rival.checkpoint == ("bar.weight",))
    assert exchange.lost == 0


def test_a_missing_key_is_shown_what_is_most_like_it_and_why_that_does_not_fit():
    old = norms("attention_norm", "ffn_norm", **{"head.weight": (5, 4)})
    suggestion = aligned(old, norms("attention_norm", "ffn_norm", **{"heads.weight": (3, 7)}))
    one = explained(suggestion, "heads.weight")
    assert (one.checkpoint, one.model, one.certain) == ((), ("heads.weight",), False)
    assert any(text.startswith("shapes ") for rival in one.rivals for text, _ in rival.for_match)


def test_a_hint_counts_by_its_own_words():
    hints = {"foo": "post_attention_layernorm"}
    suggestion = aligned(norms("foo", "bar"), norms("input_layernorm", "post_attention_layernorm"), hints=hints)
    one = explained(suggestion, "layers.0.foo.weight")
    assert one.evidence[0][0] == "hint foo=post_attention_layernorm"


def test_a_conversion_is_explained_with_its_parts_and_how_their_rows_can_stand():
    fused = {"layers.0.attn.qkv.weight": (12, 4), "norm.weight": (4,)}
    parts = {f"layers.0.attn.{n}_proj.weight": (4, 4) for n in "qkv"} | {"norm.weight": (4,)}
    one = explained(aligned(fused, parts), "layers.0.attn.qkv.weight")
    assert len(one.model) == 3
    assert one.operations
    assert [text.partition(": --hint")[0] for text in one.alternatives] == [
        "rows by part",
        "rows by head of 2 in the checkpoint",
        "rows from interleaved to half split, heads of 2",
        "rows from half split to interleaved, heads of 2",
        "rows by part, k then v then q",
        "rows by head of 2 in the checkpoint, from interleaved to half split",
    ]


@pytest.mark.parametrize(
    "text", ["layers.{i}.foo.weight", "layers.{0..1}.foo.weight", "layers.{}.foo.weight", "layers.0.foo.weight"]
)
def test_a_key_or_a_pattern_may_be_asked_for(text):
    suggestion = aligned(norms("foo", "bar"), norms("foo", "bar"))
    sides = suggestion.alignment.checkpoint, suggestion.alignment.model
    wanted = ["layers.0.foo.weight", "layers.1.foo.weight"]
    assert asked_keys(text, *sides) == (wanted if "{" in text else wanted[:1])


def test_a_key_that_neither_side_has_is_refused_with_those_like_it():
    suggestion = aligned(norms("foo", "bar"), norms("foo", "bar"))
    with pytest.raises(TreealignError, match=r"layers\.0\.foo\.weight"):
        asked_keys("layers.0.fo.weight", suggestion.alignment.checkpoint, suggestion.alignment.model)


def test_every_key_of_a_suggestion_can_be_explained():
    old = norms("foo", "ffn_norm", **{"attn.qkv.weight": (12, 4), "extra": (7,), "embed.weight": (9, 4)})
    new = norms("bar", "ffn_norm", **{f"attn.{n}.weight": (4, 4) for n in "qkv"}, **{"embed.weight": (11, 4)})
    suggestion = aligned(old, new)
    found = [one for key in (*old, *new) for one in explain(suggestion.alignment, [key])]
    assert len(found) >= len({*old, *new})
    assert all(len(line) <= 80 for line in "\n".join(explanation_lines(found, suggestion)).splitlines())
