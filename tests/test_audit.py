"""`audit`: changes of trees said as changes of modules, and names translated either way."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from auditing import NEW, OLD, audited, llava, tree
from typer.testing import CliRunner

import treealign
from treealign import TreealignError
from treealign.changes.results import Severity

BLOCK = [("attn.q.weight", (8, 8)), ("attn.k.weight", (4, 8)), ("norm.weight", (8,)), ("mlp.up.weight", (32, 8))]


def stack(form: str, count: int = 3, rows=BLOCK, start: int = 0):
    return [(form.format(i + start) + name, shape) for i in range(count) for name, shape in rows]


def kinds(audit) -> list[tuple[str, str, int]]:
    return [(change.kind, change.summary, change.keys) for change in audit.changes]


def test_the_level_that_llava_lost_is_one_change_with_its_391_keys():
    named = [change for change in llava().changes if change.kind != "class changed"]
    assert [(change.summary, change.keys) for change in named] == [
        ("level `vision_model` removed below `model.vision_tower`", 391)
    ]
    assert named[0].pairs == (("model.vision_tower.vision_model", "model.vision_tower"),)
    assert named[0].severity == Severity("mapped", "mapped", "no")
    assert named[0].certain


def test_the_module_above_a_lost_level_does_not_count_as_another_class():
    assert [change.summary.partition(":")[0] for change in llava().changes[1:]] == [
        "class SiLU changed to SiLUActivation"
    ]


def test_the_same_pair_the_other_way_round_is_an_inserted_level():
    assert kinds(treealign.audit(NEW, OLD))[0] == (
        "level inserted",
        "level `vision_model` inserted below `model.vision_tower`",
        391,
    )


def test_two_equal_trees_have_no_changes():
    audit = treealign.audit(NEW, NEW)
    assert (audit.changes, audit.ok) == ((), True)


def test_a_renamed_module_says_below_what():
    old, new = stack("model.layers.{}."), [(k.replace("attn", "self_attn"), s) for k, s in stack("model.layers.{}.")]
    change = audited(old, new).changes[0]
    assert (change.kind, change.keys) == ("renamed", 6)
    assert change.pairs == (("model.layers.{0..2}.attn", "model.layers.{0..2}.self_attn"),)


def test_a_reindexed_list_is_told_from_a_rename():
    old, new = stack("layers.{}.", start=1), stack("layers.{}.")
    head = [("head.weight", (5, 8))]
    assert [change.kind for change in audited(old + head, new + head).changes] == ["list reindexed"]


def test_fused_tensors_are_one_change_of_all_their_keys():
    rows = [("attn.q.weight", (8, 8)), ("attn.k.weight", (2, 8)), ("attn.v.weight", (2, 8)), ("norm.weight", (8,))]
    fused = [("attn.qkv.weight", (12, 8)), ("norm.weight", (8,))]
    old, new = stack("layers.{}.", rows=rows), stack("layers.{}.", rows=fused)
    assert [(c.kind, c.keys) for c in audited(old, new).changes] == [("tensors fused", 9)]
    assert [(c.kind, c.keys) for c in audited(new, old).changes] == [("tensors split", 3)]


def test_what_comes_and_goes_is_listed_by_whole_modules():
    extra = [("pooler.dense.weight", (7, 7)), ("pooler.dense.bias", (7,))]
    gone = audited([*stack("layers.{}."), *extra], stack("layers.{}.")).changes
    assert [(c.kind, c.summary, c.keys) for c in gone] == [("leaves removed", "`pooler` removed", 2)]
    assert gone[0].severity == Severity("no", "no", "no")
    come = audited(stack("layers.{}."), [*stack("layers.{}."), *extra]).changes
    assert [(c.kind, c.summary, c.keys) for c in come] == [("leaves added", "`pooler` added", 2)]
    assert come[0].severity.resolves == "yes"


def test_a_resized_and_a_retyped_tensor_keep_their_names():
    old = treealign.KeyTree.from_leaves([("a.weight", (3, 5), "float32"), ("embed.weight", (100, 5), "float32")])
    new = treealign.KeyTree.from_leaves([("a.weight", (3, 5), "bfloat16"), ("embed.weight", (128, 5), "float32")])
    assert kinds(treealign.audit(old, new)) == [
        ("tensors resized", "[100, 5] resized to [128, 5]: embed.weight", 1),
        ("tensors retyped", "float32 retyped to bfloat16: a.weight", 1),
    ]


def test_classes_and_ties_are_compared_where_both_sides_know_them():
    leaves = [("embed.weight", (9, 4)), ("norm.weight", (4,)), ("head.weight", (9, 4))]
    before = tree(*leaves, modules={"": "Net", "norm": "LayerNorm"}, tied={"head.weight": "embed.weight"})
    after = tree(*leaves, modules={"": "Net", "norm": "RMSNorm"})
    assert [(c.kind, c.summary) for c in treealign.audit(before, after).changes] == [
        ("tie lost", "`head.weight` no longer shares `embed.weight`"),
        ("class changed", "class LayerNorm changed to RMSNorm: norm"),
    ]
    assert treealign.audit(after, before).changes[0].kind == "tie added"
    assert treealign.audit(tree(*leaves), after).changes == ()


def test_an_audit_that_rests_on_a_guess_says_so():
    old = [(f"blocks.{i}.{name}.weight", (8,)) for i in range(2) for name in ("foo", "bar")]
    new = [(f"blocks.{i}.{name}.weight", (8,)) for i in range(2) for name in ("qux", "zip")]
    assert {change.certain for change in audited(old, new).changes} <= {False}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model.vision_tower.vision_model.encoder.layers.1", "model.vision_tower.encoder.layers.1"),
        (
            "model.vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias",
            "model.vision_tower.encoder.layers.1.mlp.fc1.bias",
        ),
        ("model.vision_tower.vision_model.encoder.layers.1.mlp.activation_fn", None),
        ("model.language_model.layers.3", "model.language_model.layers.3"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_names_are_translated_either_way(old, new):
    new = new or old.replace(".vision_model", "")
    assert (llava().rename(old), llava().old_name(new)) == (new, old)


def test_a_lost_level_leads_to_the_module_that_took_its_place_and_that_one_keeps_its_name():
    assert llava().rename("model.vision_tower.vision_model") == "model.vision_tower"
    assert llava().rename("model.vision_tower") == "model.vision_tower"
    assert llava().old_name("model.vision_tower") == "model.vision_tower"


def test_every_key_and_its_module_come_back_from_a_translation_and_back():
    audit = llava()
    assert [audit.old_name(audit.rename(key)) for key in audit.old.keys] == list(audit.old.keys)


def test_a_name_that_is_not_there_is_an_error_with_those_like_it():
    with pytest.raises(TreealignError, match="no such name") as caught:
        llava().rename("vision_tower.vision_model.post_layernorm")
    assert "model.vision_tower.vision_model.post_layernorm" in str(caught.value)


def test_a_name_without_counterpart_and_one_with_several_are_errors():
    rows = [("attn.q.weight", (8, 8)), ("attn.k.weight", (2, 8)), ("attn.v.weight", (2, 8)), ("norm.weight", (8,))]
    fused = [("attn.qkv.weight", (12, 8)), ("norm.weight", (8,)), ("extra.bias", (3,))]
    audit = audited(stack("layers.{}.", rows=fused), stack("layers.{}.", rows=rows))
    with pytest.raises(TreealignError, match="several counterparts"):
        audit.rename("layers.0.attn.qkv.weight")
    with pytest.raises(TreealignError, match="no counterpart"):
        audit.rename("layers.0.extra.bias")


def test_a_module_of_which_a_part_moved_out_keeps_no_wrong_counterpart():
    old = [("model.layers.0.weight", (3, 4)), ("model.norm.weight", (4,)), ("visual.proj.weight", (6, 4))]
    new = [
        ("model.text.layers.0.weight", (3, 4)),
        ("model.text.norm.weight", (4,)),
        ("model.visual.proj.weight", (6, 4)),
    ]
    assert audited(old, new).rename("model") == "model.text"


def test_changes_and_references_are_all_that_the_data_holds():
    data = llava().as_dict()
    assert list(data) == ["changes", "references"]
    assert data["changes"][0]["mapping"] == [{"old": "model.vision_tower.vision_model", "new": "model.vision_tower"}]
    assert data["changes"][0]["severity"] == {"loads": "mapped", "saves": "mapped", "resolves": "no"}


def test_a_snapshot_of_a_model_carries_classes_ties_and_the_versions_of_its_libraries(tmp_path):
    from treealign.cli.verbs import app

    (tmp_path / "tied_net.py").write_text(
        "import torch\n\ndef make():\n    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))\n"
        "    net[1].weight = net[0].weight\n    return net\n"
    )
    path = tmp_path / "tree.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = CliRunner().invoke(app, ["snapshot", "tied_net:make", "-o", str(path)])
    assert done.exit_code == 0, done.output
    written = json.loads(path.read_text())
    assert written["libraries"]["torch"] == version("torch")  # without the label of a build
    assert written["modules"] == {"": "Sequential", "0": "Linear", "1": "Linear"}
    assert written["tied"] == {"1.weight": "0.weight"}
