"""What the lint says of an entry is what transformers does: loaded and saved with small models and real files."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from real_models import quiet_transformers
from releases import leave_out, need_entry
from tiny_models import model_class, tiny_config
from typer.testing import CliRunner

from treealign import TreealignError
from treealign.dialects.lint_checks.results import KINDS
from treealign.dialects.lint_checks.rule_checks import escaped_dots, static
from treealign.dialects.linting import entry_report, lint

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def quiet():
    quiet_transformers()


def kinds(report):
    return {(finding.kind, finding.rule) for finding in report.findings}


def registered(rules, name="QwenModelOfATest"):
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping

    register_checkpoint_conversion_mapping(name, rules, overwrite=True)


def linted(*rules, of="LlamaModel"):
    """The report on these rules, as if they were the entry of a class."""
    from treealign.dialects.transformers.entries import registry_restored

    with registry_restored():
        registered(list(rules), of)
        return entry_report(of)


def rename(old, new):
    from transformers.core_model_loading import WeightRenaming

    return WeightRenaming(old, new)


@contextmanager
def registry_of(name, rules):
    from treealign.dialects.transformers.entries import registry_restored

    with registry_restored():
        registered(rules, name)
        yield


def tiny(name):
    kind = model_class(name)
    torch.manual_seed(0)
    return kind(tiny_config(kind))


def loaded(model, folder):
    """What `from_pretrained` makes of a folder, and what it reports."""
    return type(model).from_pretrained(folder, output_loading_info=True)


def saved_by_its_entry(model, folder):
    """The names that saving writes with every rule of the entry in use."""
    from safetensors import safe_open
    from transformers.conversion_mapping import get_model_conversion_mapping

    model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False)
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


# -- found in the registry, and confirmed with files -------------------------------------------------------------------


def test_a_reversal_that_loses_keys_loses_them_in_transformers(tmp_path):
    need_entry("Qwen2_5OmniThinkerForConditionalGeneration")
    assert "reversal" in {kind for kind, _ in kinds(entry_report("Qwen2_5OmniThinkerForConditionalGeneration"))}
    model = tiny("Qwen2_5OmniThinkerForConditionalGeneration")
    saved_by_its_entry(model, tmp_path)
    _, info = loaded(model, tmp_path)
    assert any(key.startswith("model.audio_tower.") for key in info["missing_keys"])


def test_an_entry_for_no_class_is_never_looked_up():
    need_entry("xCLIPVisionModel")
    from transformers import XCLIPVisionModel
    from transformers.conversion_mapping import extract_weight_conversions_for_model

    assert kinds(entry_report("xCLIPVisionModel")) == {("orphan", None)}
    model = tiny(XCLIPVisionModel.__name__)
    assert not any(type(rule).__name__ == "PrefixChange" for rule in extract_weight_conversions_for_model(model) or ())


def test_a_dot_that_matters_makes_names_that_no_model_has():
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    assert ("unescaped-dot", 0) in kinds(entry_report("dinov3_vit"))
    rule = get_checkpoint_conversion_mapping("dinov3_vit")[0]
    made, _ = rule.rename_source_key("model.layer.0.layer_scale1.lambda1")
    assert made not in tiny("DINOv3ViTModel").state_dict()


def test_a_shadowed_rule_is_not_used_when_its_checkpoint_loads(tmp_path):
    (finding,) = [f for f in entry_report("minimax_m2").findings if f.kind == "shadowed"]
    model = tiny("MiniMaxM2ForCausalLM")
    saved_by_its_entry(model, tmp_path)
    again, info = loaded(model, tmp_path)
    assert not info["missing_keys"]
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    written = get_checkpoint_conversion_mapping("minimax_m2")[finding.rule].source_patterns
    assert written not in [rule.source_patterns for rule in again._weight_conversions]


def test_a_rule_that_matches_too_much_leaves_keys_to_the_fallback_of_loading(tmp_path):
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    (finding,) = [f for f in entry_report("RfDetrForObjectDetection").findings if f.kind == "over-matching"]
    model = tiny("RfDetrForObjectDetection")
    saved_by_its_entry(model, tmp_path)
    rule = get_checkpoint_conversion_mapping("RfDetrForObjectDetection")[finding.rule]
    assert rule.rename_source_key("class_embed.bias")[0] not in model.state_dict()
    assert loaded(model, tmp_path)[1]["missing_keys"] == set()


def test_names_that_a_rule_reads_and_saving_does_not_write(tmp_path):
    need_entry("UltrabertForMaskedLM")
    (finding,) = [f for f in entry_report("UltrabertForMaskedLM").findings if f.kind == "not-written-back"]
    names = saved_by_its_entry(tiny("UltrabertForMaskedLM"), tmp_path)
    assert (finding.rule, [name for name in names if name.startswith("cls.")]) == (1, [])


def test_a_checkpoint_with_the_models_names_is_saved_otherwise(tmp_path):
    need_entry("Tipsv2TextModel")
    assert ("saved-otherwise", None) in kinds(entry_report("Tipsv2TextModel"))
    model = tiny("Tipsv2TextModel")
    model._weight_conversions = []
    model.save_pretrained(tmp_path)
    again, _ = loaded(model, tmp_path)
    again.save_pretrained(tmp_path / "again")
    files = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path, tmp_path / "again")]
    assert files[0] != files[1]


def test_a_dead_rule_is_used_neither_loading_nor_saving(tmp_path):
    need_entry("Qwen2VLModel")
    (finding,) = [f for f in entry_report("Qwen2VLModel").findings if f.kind == "dead"]
    model = tiny("Qwen2VLModel")
    saved_by_its_entry(model, tmp_path)
    again, info = loaded(model, tmp_path)
    assert (info["missing_keys"], finding.rule) == (set(), 0)
    assert not any(type(rule).__name__ == "PrefixChange" for rule in again._weight_conversions)


def test_fewer_rules_save_the_same_file(tmp_path):
    need_entry("cosmos3_omni")
    from transformers.core_model_loading import WeightRenaming

    (finding,) = [f for f in entry_report("cosmos3_omni").findings if f.kind == "smaller"]
    model = tiny("Cosmos3OmniModel")
    names = saved_by_its_entry(model, tmp_path / "many")
    fewer = [eval(text, {"WeightRenaming": WeightRenaming}) for text in finding.facts]
    model._weight_conversions = fewer
    model.save_pretrained(tmp_path / "few")
    files = [(tmp_path / side / "model.safetensors").read_bytes() for side in ("many", "few")]
    assert names
    assert files[0] == files[1]


def test_a_converter_that_loses_numbers_loses_them_in_files(tmp_path):
    need_entry("inkling2_text")
    from safetensors.torch import load_file, save_file

    (finding,) = [f for f in entry_report("inkling2_text").findings if f.kind == "reversal"]
    kind = model_class("Inkling2ForCausalLM")
    model = kind(tiny_config(kind, {"unpadded_vocab_size": 500}))
    saved_by_its_entry(model, tmp_path)
    given = load_file(tmp_path / "model.safetensors")
    (key,) = [key for key in given if key.endswith("unembed.weight")]
    given[key] += 1  # padding, too, as a trained file may have it
    save_file(given, tmp_path / "model.safetensors", {"format": "pt"})
    again, _ = loaded(model, tmp_path)
    again.save_pretrained(tmp_path / "again")
    other = [k for k, v in load_file(tmp_path / "again" / "model.safetensors").items() if not torch.equal(v, given[k])]
    assert ("lm_head.weight" in finding.says, other) == (True, [key])


def test_fewer_rules_that_convert_too_save_the_same_file_and_load_it(tmp_path):
    need_entry("UnlimitedOcrVisionEncoder")
    from transformers import core_model_loading

    (finding,) = [f for f in entry_report("UnlimitedOcrVisionEncoder").findings if f.kind == "smaller"]
    model = tiny("UnlimitedOcrVisionEncoder")
    saved_by_its_entry(model, tmp_path / "many")
    fewer = [eval(text, vars(core_model_loading)) for text in finding.facts]
    assert any(hasattr(rule, "operations") for rule in fewer)
    model._weight_conversions = fewer
    model.save_pretrained(tmp_path / "few")
    files = [(tmp_path / side / "model.safetensors").read_bytes() for side in ("many", "few")]
    assert files[0] == files[1]
    with registry_of(type(model).__name__, [eval(text, vars(core_model_loading)) for text in finding.facts]):
        again, info = loaded(model, tmp_path / "many")
    assert not info["missing_keys"]
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())


# -- on rules of our own -----------------------------------------------------------------------------------------------


def test_a_good_entry_has_no_finding():
    assert kinds(linted(rename(r"^blocks\.", r"^layers\."))) == set()


def test_two_keys_that_become_one_are_a_collision_and_no_checkpoint_passes():
    found = linted(rename("k_proj", "q_proj"))
    assert kinds(found) == {("collision", 0), ("reversal", 0), ("converted", 0)}


def test_text_that_stands_earlier_in_a_key_is_replaced_in_the_wrong_place():
    assert ("wrong-place", 0) in kinds(linted(rename("e(?=ight)", "E")))


def test_a_second_layout_is_read_and_not_written_back():
    found = linted(rename(r"^blocks\.", r"^layers\."), rename(r"^stages\.", r"^layers\."))
    assert ("not-written-back", 0) in kinds(found)


def test_a_rule_for_names_that_the_model_lacks_is_dead():
    assert ("dead", 1) in kinds(linted(rename(r"^blocks\.", r"^layers\."), rename("^foo", "^bar")))


def converting(old, new, *operations):
    from transformers import core_model_loading

    made = [getattr(core_model_loading, name)(dim=0) for name in operations]
    return core_model_loading.WeightConverter(old, new, operations=made)


def test_a_good_converter_has_no_finding():
    found = linted(converting("self_attn.qkv", [f"self_attn.{part}_proj" for part in "qkv"], "Chunk"))
    assert kinds(found) == set()


def test_a_converter_for_names_that_the_model_lacks_is_dead():
    found = linted(converting("self_attn.qkv", ["self_attn.left", "self_attn.right"], "Chunk"))
    assert kinds(found) == {("dead", 0)}


def test_renamings_beside_a_converter_that_say_what_one_could_are_told():
    one_by_one = [rename(f"old_{name}_proj", f"{name}_proj") for name in ("gate", "up", "down")]
    found = linted(*one_by_one, converting("self_attn.qkv", [f"self_attn.{part}_proj" for part in "qkv"], "Chunk"))
    (finding,) = found.findings
    assert (finding.kind, finding.says) == ("smaller", "2 rules do what 4 do")


def test_the_converters_of_an_entry_are_read_once(monkeypatch):
    from treealign.dialects import linting

    asked = []
    monkeypatch.setattr(linting, "conversions", lambda case: asked.append(case.name) or ())
    report = entry_report("mixtral")
    assert (len(report.models) > 2, len(asked)) == (True, 1)


def test_references_beyond_the_first_group_are_told():
    found = list(static([rename(r"a\.(\d+)\.b\.(\d+)", r"c.\1.d.\2")]))
    assert [(one.kind, one.rule) for one in found] == [("backreference", 0)]


def test_several_sources_of_one_renaming_are_told():
    assert [one.kind for one in static([rename(["a", "b"], "c")])] == ["two-sources"]


@pytest.mark.parametrize(
    ("pattern", "strict"),
    [("a.b", r"a\.b"), (r"a\.b", r"a\.b"), ("a.*b", "a.*b"), ("[.]x.", r"[.]x\."), (r"(?<!a\.)b.", r"(?<!a\.)b\.")],
)
def test_only_dots_that_stand_alone_are_escaped(pattern, strict):
    assert escaped_dots(pattern) == strict


# -- a checkpoint, the verb --------------------------------------------------------------------------------------------


def test_a_checkpoint_takes_the_place_of_what_is_saved(tmp_path):
    from safetensors.torch import save_file

    save_file({"model.layers.0.mlp.gate.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    found = lint("llava", tmp_path / "model.safetensors")
    assert {f.kind for f in found.findings} >= {"dead"}


def test_a_checkpoint_with_a_config_has_to_load_whole(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_llava = ROOT / "data" / "llava-tiny"
    assert lint("llava", tiny_llava).findings == ()
    tensors = load_file(tiny_llava / "model.safetensors")
    tensors.pop("language_model.lm_head.weight")
    save_file({**tensors, "left.over": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny_llava / "config.json").read_bytes())
    found = {finding.kind: finding for finding in lint("llava", tmp_path).findings}
    assert (found["dead"].rule, found["uncovered"].facts) == (
        0,
        ("get nothing: lm_head.weight", "go nowhere: left.over"),
    )


def test_an_unknown_entry_and_a_checkpoint_for_none_are_errors(tmp_path):
    with pytest.raises(TreealignError, match="no entry"):
        lint("nothing_of_that_name")
    with pytest.raises(TreealignError, match="for one entry"):
        lint(checkpoint=tmp_path)


def test_several_processes_give_the_entries_in_order(monkeypatch):
    from treealign.dialects import linting

    monkeypatch.setattr(linting, "_names", lambda entry: ["xCLIPTextModel", "llava", "xCLIPVisionModel"])
    told = []
    found = lint(workers=2, progress=told.append)
    assert [report.entry for report in found.entries] == ["xCLIPTextModel", "llava", "xCLIPVisionModel"]
    assert {*told} == {*found.entries}


def run(*arguments):
    from treealign.cli.verbs import app

    return CliRunner().invoke(app, ["lint", *arguments])


def test_the_verb_exits_0_when_clean_1_with_findings_2_for_another_library():
    need_entry("xCLIPTextModel")
    codes = [run(f"transformers:{name}").exit_code for name in ("llava", "xCLIPTextModel")]
    assert [*codes, run("diffusers").exit_code] == [0, 1, 2]


def test_the_text_fits_80_columns_but_for_rules_and_keys():
    lines = run("transformers:dinov3_vit", "--notes").stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_sarif_names_the_rule_the_level_and_the_line(tmp_path):
    run("transformers:dinov3_vit", "--sarif", str(tmp_path / "out.sarif"))
    log = json.loads((tmp_path / "out.sarif").read_text())
    (result,) = [r for r in log["runs"][0]["results"] if r["ruleId"] == "unescaped-dot"]
    place = result["locations"][0]
    assert (log["version"], result["level"]) == ("2.1.0", "warning")
    assert place["physicalLocation"]["region"]["startLine"] > 100
    assert {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]} == set(KINDS)


def test_every_result_of_sarif_has_a_file_and_the_rule_that_it_names():
    from treealign.cli.render_lint import sarif
    from treealign.dialects.lint_checks.results import EntryReport, Finding, Lint

    found = [Finding(kind, "made_by_code", None, "says") for kind in KINDS]
    (run_,) = sarif(Lint("5", (EntryReport("made_by_code", (), (), tuple(found)),)))["runs"]
    rules = run_["tool"]["driver"]["rules"]
    assert [rules[one["ruleIndex"]]["id"] for one in run_["results"]] == [one["ruleId"] for one in run_["results"]]
    files = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run_["results"]]
    assert {*files} == {"src/transformers/conversion_mapping.py"}


def test_json_holds_the_findings():
    need_entry("xCLIPTextModel")
    data = json.loads(run("transformers:xCLIPTextModel", "--json").stdout)
    assert [finding["kind"] for finding in data["entries"][0]["findings"]] == ["orphan"]


# -- the models that entries are checked on ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", ["dots1", "emu3", "lfm2_moe", "hunyuan_v1_moe", "BeitForSemanticSegmentation", "Sapiens2ForImageMatting"]
)
def test_a_default_config_that_leaves_something_open_is_completed(entry):
    need_entry(entry)
    found = entry_report(entry)
    if found.unchecked:
        leave_out(f"config that is completed: {found.unchecked[0][1]}")
    assert (found.unchecked, kinds(found)) == ((), set())
    assert found.models


def test_heads_that_do_not_divide_the_width_are_made_to():
    assert entry_report("aya_vision").models == ("AyaVisionForConditionalGeneration",)


def test_the_default_config_that_was_given_stays_as_it_is():
    from treealign.dialects.lint_checks.registered_models import completed, guessed

    kind = model_class("Dots1Model")
    config = kind.config_class()
    before = config.to_dict()
    made = guessed(kind, completed(kind, config))
    assert (config.to_dict(), made.n_routed_experts) == (before, 4)


def test_a_rule_for_layers_that_the_small_model_does_not_reach_is_not_dead():
    need_entry("dots3_note_vision_encoder")
    # its first layers are dense, its experts come after them
    assert kinds(entry_report("dots3_note_vision_encoder")) == set()


@pytest.mark.parametrize("entry", ["gemma4_unified", "minimax_m3_vl", "NemotronH_Omni_Reasoning_V3", "radio"])
def test_a_rule_for_a_part_or_a_kind_of_layer_that_the_default_config_leaves_out_is_not_dead(entry):
    need_entry(entry)
    found = {kind for kind, _ in kinds(entry_report(entry))}
    if "dead" in found:  # an older model may not have the part at all
        leave_out(f"part that a rule of {entry} is for, or turns it on otherwise")


def test_what_needs_a_library_says_so(monkeypatch):
    from treealign.dialects import linting
    from treealign.dialects.lint_checks.results import EntryReport, Lint

    def absent(kind, config=None):
        raise ImportError(f"{kind.__name__} requires the timm library but it was not found")

    monkeypatch.setattr(linting, "build", absent)
    from treealign.cli.render_lint import lint_lines

    report = entry_report("timm_wrapper")
    assert isinstance(report, EntryReport)
    text = " ".join(" ".join(lint_lines(Lint("5", (report,)))).split())
    assert "timm_wrapper: ImportError: TimmWrapperModel requires the timm library" in text
