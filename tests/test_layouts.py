"""Known layouts: recognised by marks that only one library writes, settled only where that library's code was run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from aligning import aligned
from cases import read_cases
from numbering import computes

from treealign import suggest
from treealign.align.knowledge import entries, reading, recognising, saying
from treealign.align.knowledge.entries import Fused, layouts
from treealign.align.knowledge.recognising import recognised
from treealign.align.patterns import build_patterns
from treealign.mapping.operations import Permute
from treealign.tree.keytree import KeyTree

D = 48
BLOCK = {"norm1": (D,), "norm2": (D,), "attn.proj": (D, D), "mlp.fc1": (4 * D, D), "mlp.fc2": (D, 4 * D)}


def timm_vit(without=()):
    """Two blocks of a ViT as timm spells it."""
    leaves = {"patch_embed.proj.weight": (D, 3, 4, 4), "pos_embed": (1, 5, D), "cls_token": (1, 1, D)}
    for layer in range(2):
        at = f"blocks.{layer}"
        leaves |= {f"{at}.{name}.weight": shape for name, shape in BLOCK.items()}
        leaves |= {f"{at}.attn.qkv.weight": (3 * D, D), f"{at}.attn.qkv.bias": (3 * D,)}
    return {key: shape for key, shape in leaves.items() if not any(name in key for name in without)}


def split_vit():
    """The same with q, k and v apart, as transformers spells it."""
    leaves = {"embeddings.patch_embeddings.projection.weight": (D, 3, 4, 4), "embeddings.cls_token": (1, 1, D)}
    leaves["embeddings.position_embeddings"] = (1, 5, D)
    names = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    names |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for layer in range(2):
        at = f"layers.{layer}"
        leaves |= {f"{at}.{names[name]}.weight": shape for name, shape in BLOCK.items()}
        for part in "qkv":
            leaves |= {f"{at}.attention.{part}_proj.weight": (D, D), f"{at}.attention.{part}_proj.bias": (D,)}
    return leaves


def fused_matches(suggestion):
    return [m for m in suggestion.matches if any("attn.qkv" in key for key in m.checkpoint)]


def known(monkeypatch, *rows):
    """The table, these entries alone in it."""
    table = {row.name: row for row in rows}
    for module in (entries, reading, recognising, saying):
        monkeypatch.setattr(module, "layouts", lambda: table)


def test_marks_of_a_library_settle_how_the_rows_of_a_fused_leaf_stand():
    matches = fused_matches(aligned(timm_vit(), split_vit()))
    assert all(m.certain for m in matches)
    said = f"layout timm ViT: q k v by part, no rotary embedding ({layouts()['timm ViT'].checked})"
    assert all(said in m.evidence for m in matches)


@pytest.mark.parametrize("mark", ["pos_embed", "norm1", "patch_embed"])
def test_a_library_that_lacks_one_mark_is_not_recognised(mark):
    assert not any(m.certain for m in fused_matches(aligned(timm_vit(without=[mark]), split_vit())))


def test_an_entry_that_was_only_read_settles_nothing(monkeypatch):
    known(monkeypatch, replace(layouts()["timm ViT"], run=False))
    assert not any(m.certain for m in fused_matches(aligned(timm_vit(), split_vit())))


def test_two_entries_that_contradict_each_other_settle_nothing(monkeypatch):
    one = layouts()["timm ViT"]
    run = ("blocks", "{}", "attn", "qkv")
    known(monkeypatch, one, replace(one, name="another", rows={run: Fused(("q", "k", "v"), "by head")}, run=False))
    assert not any(m.certain for m in fused_matches(aligned(timm_vit(), split_vit())))


def test_a_layout_in_another_order_than_guessed_moves_the_parts(monkeypatch):
    run = ("blocks", "{}", "attn", "qkv")
    known(monkeypatch, replace(layouts()["timm ViT"], rows={run: Fused(("k", "v", "q"), "by part")}))
    suggestion = aligned(timm_vit(), split_vit())
    assert all(m.certain for m in fused_matches(suggestion))
    tensors = {key: torch.arange(shape[0]).float() for key, shape in timm_vit().items()}
    made = dict(suggestion.mapping.apply({key: tensors[key] for key in tensors if key.endswith("attn.qkv.bias")}))
    assert [made[f"layers.0.attention.{part}_proj.bias"][0] for part in "kvq"] == [0, D, 2 * D]


def test_classes_of_the_model_tell_apart_what_names_do_not():
    leaves = [
        ("layers.0.self_attn.q_proj.weight", (8, 8), "float32"),
        ("layers.0.self_attn.o_proj.weight", (8, 8), "f"),
    ]
    names = []
    for name in ("Qwen2Attention", "LlamaAttention"):
        tree = KeyTree.from_leaves(leaves, modules={"layers.0.self_attn": name})
        names.append({entry.name for p in recognised(build_patterns(tree), tree.modules) for entry in p.library})
    assert [("transformers, rows as in llama.cpp" in found) for found in names] == [True, False]


@pytest.mark.parametrize("entry", layouts().values(), ids=lambda entry: entry.name)
def test_every_entry_has_several_marks_a_fact_and_a_source(entry):
    assert len(entry.has) + len(entry.anywhere) > 1
    assert entry.rows or entry.rotary or entry.axes or entry.heads or entry.names
    assert entry.source


def settled_wrong(cases):
    """Matches that a layout has settled and that are not so, by the numbers that they compute."""
    for case in cases:
        groups = {frozenset(group.checkpoint): group for group in case.groups}
        for match in suggest(*case.trees(False)).matches:
            if match.certain and any(e.startswith("layout ") for e in match.evidence):
                group = groups.get(frozenset(match.checkpoint))
                if group is None or computes(match, group, case) is False:
                    yield case.name, match.checkpoint


@pytest.mark.parametrize("corpus", ["pairs", "originals", "transformers"])
def test_what_a_layout_settles_is_so_by_numbers(corpus):
    every = {"transformers": 16}.get(corpus, 4)
    assert list(settled_wrong(list(read_cases(corpus))[::every])) == []


@pytest.mark.parametrize("name", ["Step3p7VisionModel", "Inkling2Model"])
def test_a_family_that_shares_names_with_a_known_library_and_not_its_rows_stays_open(name):
    (case, *_) = read_cases("transformers", name)
    keys = {key for group in case.groups if "rows" in group.operation for key in group.checkpoint}
    matches = [m for m in suggest(*case.trees(False)).matches if keys & set(m.checkpoint)]
    assert matches
    assert not any(m.certain for m in matches if not m.operations or name.startswith("Step"))


def test_what_a_library_calls_its_own_way_is_read_as_the_field_spells_it():
    leaves = {"token_embd.weight": (9, 8)}
    for layer in range(2):
        leaves |= {f"blk.{layer}.ffn_{name}.weight": (8, 8) for name in ("gate", "up", "down")}
    model = {"model.embed_tokens.weight": (9, 8)}
    for layer in range(2):
        model |= {f"model.layers.{layer}.mlp.{name}_proj.weight": (8, 8) for name in ("gate", "up", "down")}
    assert all(m.certain for m in aligned(leaves, model).matches)


def test_which_dimension_is_first_is_settled_where_both_sides_are_known():
    blocks = {
        "attn.in_proj_weight": (96, 32),
        "attn.in_proj_bias": (96,),
        "ln_1.weight": (32,),
        "mlp.c_fc.weight": (8, 32),
    }
    leaves = {
        "visual.proj": (32, 32),
        "text_projection": (32, 32),
        "logit_scale": (),
        "visual.conv1.weight": (32, 3, 4, 4),
    }
    leaves |= {f"visual.transformer.resblocks.{n}.{name}": shape for n in range(2) for name, shape in blocks.items()}
    model = {"visual_projection.weight": (32, 32), "text_projection.weight": (32, 32), "logit_scale": ()}
    modules = {"visual_projection": "Linear", "text_projection": "Linear"}
    found = [m for m in aligned(leaves, model, modules=modules).matches if "projection" in m.model[0]]
    assert [(m.certain, m.operations) for m in found] == [(True, (Permute((1, 0)),))] * 2


@pytest.mark.parametrize(("rows", "fused"), [(64, True), (32, False)])
def test_a_fused_gate_and_up_has_twice_the_rows_that_the_next_layer_takes(rows, fused):
    leaves = {"token_embd.weight": (99, 8), "blk.0.attn_qkv.weight": (24, 8), "blk.0.ffn_norm.weight": (8,)}
    leaves |= {"blk.0.ffn_up.weight": (rows, 8), "blk.0.ffn_down.weight": (8, 32)}
    tree = KeyTree.from_leaves([(key, shape, "float32") for key, shape in leaves.items()])
    (up,) = (p for p in recognised(build_patterns(tree), {}) if "ffn_up" in p.template)
    assert ("gate_up_proj" in up.named) == fused


@pytest.mark.parametrize("entry", layouts().values(), ids=lambda entry: entry.name)
def test_no_name_of_an_entry_spells_another_order_than_its_rows(entry):
    for run, spelled in entry.names.items():
        made = entry.fused(run)
        named = [s for s in spelled if s in ("gate_up_proj", "up_gate_proj", "qkv_proj")]
        assert made is None or not named or named[0].startswith(("_".join(made.parts), "".join(made.parts)))


def test_an_attention_that_turns_rows_without_a_module_named_so_is_no_proof_that_nothing_turns():
    """RoFormer has a table of positions, and turns by it."""
    leaves = {"encoder.embed_positions.weight": (9, D)}
    model = dict(leaves)
    for layer in range(2):
        leaves |= {f"encoder.layer.{layer}.attn.{part}.weight": (D, D) for part in ("q", "k", "v")}
        model |= {f"encoder.layer.{layer}.attention.self.{part}.weight": (D, D) for part in ("query", "key", "value")}
    certain = []
    for name in ("BertSelfAttention", "RoFormerSelfAttention"):
        modules = {f"encoder.layer.{layer}.attention.self": name for layer in range(2)}
        sides = (
            [(key, shape, "float32") for key, shape in leaves.items()],
            [(k, s, "float32") for k, s in model.items()],
        )
        suggestion = suggest(KeyTree.from_leaves(sides[0]), KeyTree.from_leaves(sides[1], modules=modules))
        certain.append({m.certain for m in suggestion.matches if m.model[0].endswith(("query.weight", "key.weight"))})
    assert certain == [{True}, {False}]
