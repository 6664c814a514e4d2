"""Stale references: found where they stand, resolved as their reader does, respelled, repaired."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from auditing import DATA, NEW, OLD, audited, llava, scanned
from references import cases, pair

import treealign
from treealign import KeyTree, TreealignError
from treealign.changes.repairing import repairs, write_repairs
from treealign.changes.results import NOTHING, OTHER, STILL
from treealign.changes.shims import shim_source

STALE = DATA / "stale-names"


def found(audit) -> list[tuple[int, str, str | None, str]]:
    return [(one.line, one.old, one.new, one.status) for one in audit.references]


def changed(audit) -> list[tuple[int, str, str | None, str]]:
    return [row for row in found(audit) if row[3] != STILL]


def repaired(audit) -> dict[str, str]:
    return {repair.file: repair.after for repair in repairs(audit.translation, audit.references)}


def test_the_string_of_a_test_that_skips_parameters_is_found_with_line_spelling_and_diff():
    audit = llava().scan([STALE / "check_training.py"])
    assert changed(audit)[0] == (
        *(10, "model.vision_tower.vision_model.encoder.layers.1", "model.vision_tower.encoder.layers.1"),
        NOTHING,
    )
    (repair,) = repairs(audit.translation, audit.references)
    lines = repair.diff.splitlines()
    assert '-        if "model.vision_tower.vision_model.encoder.layers.1" in name:' in lines
    assert '+        if "model.vision_tower.encoder.layers.1" in name:' in lines
    assert "+    return model.vision_tower.embeddings.patch_embedding.weight" in lines
    assert len([line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]) == 4


def test_a_name_that_still_matches_is_only_listed_with_all():
    audit = llava().scan([STALE / "check_training.py"])
    assert (12, "model.multi_modal_projector", None, STILL) not in changed(audit)
    assert [row[1] for row in found(audit) if row[3] == STILL] == ["model.multi_modal_projector"]


def test_the_pattern_of_an_adapter_config_is_respelled_as_a_pattern():
    audit = llava().scan([STALE / "adapter_config.json"])
    pattern = r"model\.vision_tower{}\.encoder\.layers\.\d+\.self_attn\.(q_proj|v_proj)"
    old, new = pattern.format(r"\.vision_model"), pattern.format("")
    assert changed(audit) == [(5, old, new, NOTHING)]
    before = json.loads((STALE / "adapter_config.json").read_text())
    (after,) = repaired(audit).values()
    assert json.loads(after) == before | {"target_modules": new}


def test_a_device_map_and_a_skip_list_keep_their_comments():
    audit = llava().scan([STALE / "placement.yaml"])
    assert changed(audit) == [
        (2, "model.vision_tower.vision_model", "model.vision_tower", NOTHING),
        (7, "vision_model", "vision_tower", NOTHING),
    ]
    (after,) = repaired(audit).values()
    assert "  model.vision_tower: 0\n" in after
    assert "  - vision_tower # its norms do not bear eight bits\n" in after


def test_the_keys_of_a_lora_adapter_are_references_and_get_their_new_names(tmp_path):
    import torch
    from safetensors.torch import save_file

    at = "base_model.model.model.vision_tower.vision_model.encoder.layers.{}.self_attn.q_proj.lora_{}.weight"
    tensors = {at.format(i, part): torch.zeros(1) for i in range(2) for part in "AB"}
    tensors["base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    rows = found(llava().scan([tmp_path]))
    old = at.replace("{}", "{{0..1}}", 1).format("A")
    assert (0, old, old.replace(".vision_model", ""), NOTHING) in rows
    assert sorted(status for *_, status in rows) == [NOTHING, NOTHING, STILL]


IN_LOOP = "import re\nfor n, p in m.named_parameters():\n  "
READERS = [
    # reader, setting as Python, status, spelling
    ("suffix", 'target_modules = ["vision_model.encoder.layers.0.self_attn.q_proj"]', NOTHING, "vision_tower"),
    ("suffix", 'target_modules = ["q_proj", "v_proj"]', STILL, None),
    ("fullmatch", r'target_modules = r".*vision_model.*\.(q_proj|k_proj)"', NOTHING, ".*vision_tower.*"),
    ("fullmatch", r'target_modules = r".*language_model.*\.(q_proj|k_proj)"', STILL, None),
    ("path", 'device_map = {"model.vision_tower.vision_model.encoder": 0}', NOTHING, "model.vision_tower.encoder"),
    ("path", 'device_map = {"model.vision_tower": 0}', STILL, None),
    ("skip", 'modules_to_not_convert = ["vision_model"]', NOTHING, "vision_tower"),
    ("skip", 'llm_int8_skip_modules = ["multi_modal_projector"]', STILL, None),
    (
        "glob",
        'tp_plan = {"model.vision_tower.vision_model.encoder.layers.*.mlp.fc1": "colwise"}',
        NOTHING,
        "model.vision_",
    ),
    ("plan", 'tp_plan = {"model.language_model.layers.*.mlp.up_proj": "colwise"}', STILL, None),
    ("rank", 'rank_pattern = {"vision_model.encoder.layers.0.self_attn.q_proj": 4}', NOTHING, "vision_tower"),
    ("contains", 'FREEZE = ["vision_tower.vision_model"]', NOTHING, "vision_tower"),
    (
        "startswith",
        'for n, p in m.named_parameters():\n  n.startswith("model.vision_tower.vision_model.")',
        NOTHING,
        "model.",
    ),
    (
        "search",
        'import re\nfor n, p in m.named_parameters():\n  re.search(r"vision_model\\.encoder", n)',
        NOTHING,
        None,
    ),
    ("exact", 'm.get_submodule("model.vision_tower.vision_model.encoder")', NOTHING, "model.vision_tower.encoder"),
    ("exact", 'state["model.vision_tower.vision_model.post_layernorm.weight"]', NOTHING, "model.vision_tower.post"),
    (
        "f-string",
        'for i in r:\n  f(f"model.vision_tower.vision_model.encoder.layers.{i}.mlp")',
        NOTHING,
        "model.vision_tower.e",
    ),
    (
        "format",
        'x = "model.vision_tower.vision_model.encoder.layers.%d.mlp" % 3',
        NOTHING,
        "model.vision_tower.encoder",
    ),
    ("chain", "x = model.vision_tower.vision_model.encoder.layers[-1].mlp", NOTHING, "model.vision_tower.encoder"),
    ("getattr", 'x = getattr(model.vision_tower, "vision_model")', NOTHING, "model.vision_tower"),
]


@pytest.mark.parametrize(("reader", "source", "status", "spelling"), READERS)
def test_each_reader_resolves_names_as_its_library_does(tmp_path, reader, source, status, spelling):
    rows = found(scanned(llava(), tmp_path, "use.py", source + "\n"))
    assert {row[3] for row in rows} - {STILL} == {status} - {STILL}, reader
    assert status in {row[3] for row in rows}, reader
    assert spelling is None or all(row[2].startswith(spelling) for row in rows if row[3] != STILL)


def test_classes_to_wrap_are_names_too(tmp_path):
    source = '{"fsdp_transformer_layer_cls_to_wrap": ["CLIPVisionTransformer", "LlamaDecoderLayer", "Linear4bit"]}'
    assert found(scanned(llava(), tmp_path, "fsdp_llava.json", source)) == [
        (1, "CLIPVisionTransformer", "CLIPVisionModel", NOTHING),
        (1, "LlamaDecoderLayer", None, STILL),
    ]


LOOKALIKES = [
    "from transformers.models.clip import vision_model",
    "x = 'https://host/vision_tower/vision_model/encoder'",
    "x = 'vision_model.safetensors'",
    "x = self.vision_model.embeddings.patch_embedding  # of CLIP",
    "x = cfg.model.vision_tower.vision_model.hidden_size",
    "x = 'a sentence on model.vision_tower.vision_model and more'",
    "x = {'vision_model': 3}",
    "x = 'vision_model_type'",
    "def f():\n    'model.vision_tower.vision_model.encoder'",
    "if hasattr(model.vision_tower, 'vision_model'):\n    tower = model.vision_tower.vision_model",
]


@pytest.mark.parametrize("source", LOOKALIKES)
def test_what_only_looks_like_a_name_is_no_finding(tmp_path, source):
    assert changed(scanned(llava(), tmp_path, "use.py", source + "\n")) == []


def test_a_lower_bound_of_certainty_lists_what_may_speak_of_another_model(tmp_path):
    audit = scanned(llava(), tmp_path, "use.py", LOOKALIKES[3] + "\n", minimum=0.0)
    assert [row[1] for row in changed(audit)] == ["vision_model.embeddings.patch_embedding"]


def test_a_name_that_means_another_module_now_matches_something_else(tmp_path):
    shapes = [(3,), (5,), (7,)]
    old = [(f"trunk.norm{i}.weight", shape) for i, shape in enumerate(shapes)]
    new = [(f"trunk.norm{i + 1}.weight", shape) for i, shape in enumerate(shapes)]
    audit = scanned(
        audited(old, new), tmp_path, "use.py", 'm.get_submodule("trunk.norm1")\nm.get_submodule("trunk.norm2")\n'
    )
    assert changed(audit) == [(1, "trunk.norm1", "trunk.norm2", OTHER), (2, "trunk.norm2", "trunk.norm3", OTHER)]
    assert repaired(audit) == {}, "done twice, it would be wrong"


def test_fused_tensors_are_respelled_but_not_repaired(tmp_path):
    parts = [("attn.q_proj.weight", (8, 8)), ("attn.k_proj.weight", (2, 8)), ("attn.v_proj.weight", (2, 8))]
    old = [(f"layers.{i}.{name}", shape) for i in range(2) for name, shape in [*parts, ("norm.weight", (8,))]]
    fused = [("attn.qkv.weight", (12, 8)), ("norm.weight", (8,))]
    new = [(f"layers.{i}.{name}", shape) for i in range(2) for name, shape in fused]
    audit = scanned(audited(old, new), tmp_path, "adapter_config.json", '{"target_modules": ["q_proj"]}')
    assert changed(audit) == [(1, "q_proj", "qkv", NOTHING)]
    assert repaired(audit) == {}


def test_what_is_worth_listing_is_not_yet_worth_writing(tmp_path):
    old = [("model.layers.0.mlp.up_proj.weight", (3, 4)), ("visual.proj.weight", (5, 4))]
    new = [(key.replace("model.", "model.text.").replace("visual", "model.visual"), shape) for key, shape in old]
    audit = scanned(audited(old, new), tmp_path, "plan.py", 'tp_plan = {"model.layers.*.mlp.up_proj": "colwise"}\n')
    assert changed(audit) == [(1, "model.layers.*.mlp.up_proj", "model.text.layers.*.mlp.up_proj", NOTHING)]
    assert repaired(audit) == {}, "every decoder has such a module"


# -- bad input


def test_what_cannot_be_read_is_listed_and_skipped(tmp_path):
    good = 'model.get_submodule("model.vision_tower.vision_model.encoder")\n'
    (tmp_path / "good.py").write_text(good)
    (tmp_path / "broken.py").write_text("def f(:\n  vision_tower, vision_model\n")
    (tmp_path / "binary.py").write_bytes(b"\0\1vision_tower vision_model")
    (tmp_path / "latin.py").write_bytes("vision_tower = vision_model = 'ä'".encode("latin-1"))
    (tmp_path / "no.json").write_text('{"vision_tower": "vision_model"')
    (tmp_path / "no.yaml").write_text("vision_tower: [vision_model\n")
    (tmp_path / "deep.py").write_text("vision_tower = vision_model" + " + 1" * 20000)
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(100 << 20)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.py").symlink_to(tmp_path / "self.py")
    audit = llava().scan([tmp_path])
    assert [row[1] for row in changed(audit)] == ["model.vision_tower.vision_model.encoder"]
    skipped = {Path(one.file).name for one in audit.skipped}
    broken = {"broken.py", "binary.py", "latin.py", "no.json", "no.yaml", "deep.py", "cut.safetensors", "huge.json"}
    assert skipped == broken | {"pipe.py", "gone.py", "self.py"}


def test_a_file_that_may_not_be_read_is_listed(tmp_path, monkeypatch):
    (tmp_path / "secret.py").write_text("x = 1")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    (one,) = llava().scan([tmp_path]).skipped
    assert (one.file, one.reason) == (str(tmp_path / "secret.py"), "Permission denied")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    outside, inside = tmp_path / "outside.py", tmp_path / "inside"
    outside.write_text('m.get_submodule("model.vision_tower.vision_model.encoder")\n')
    inside.mkdir()
    (inside / "link.py").symlink_to(outside)
    audit = llava().scan([inside])
    assert (audit.references, [one.reason for one in audit.skipped]) == (
        *((),),
        ["a link that leads out of the scanned folder"],
    )


def test_a_path_that_does_not_exist_is_an_error():
    with pytest.raises(TreealignError, match="no such file"):
        llava().scan(["nowhere"])


def test_a_pattern_that_could_take_for_ever_is_not_run(tmp_path):
    source = 'target_modules = r"(([a-z_.]+)+)+vision_model!"\n'
    assert found(scanned(llava(), tmp_path, "use.py", source)) == []


# -- repair


def stale_file(
    folder, text='x = m.get_submodule("model.vision_tower.vision_model.encoder")\r\n# ä\r\n', encoding="utf-8"
):
    path = folder / "use.py"
    path.write_bytes(text.encode(encoding))
    audit = llava().scan([path])
    return path, repairs(audit.translation, audit.references)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_repair_keeps_line_ends_encoding_and_mode(tmp_path, encoding):
    path, made = stale_file(tmp_path, encoding=encoding)
    path.chmod(0o750)
    before = path.read_bytes()
    assert write_repairs(made) == ()
    assert path.read_bytes() == before.replace(b".vision_model", b"")
    assert path.stat().st_mode & 0o777 == 0o750


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path):
    path, made = stale_file(tmp_path)
    path.write_text("x = 2\n")
    assert [(one.file, one.reason) for one in write_repairs(made)] == [(str(path), "changed meanwhile")]
    assert path.read_text() == "x = 2\n"


def test_a_git_tree_with_changes_is_not_written_unless_forced(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    path, made = stale_file(tmp_path)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "use.py").write_bytes(path.read_bytes() + b"# more\n")
    made = repairs(llava().translation, llava().scan([path]).references)
    with pytest.raises(TreealignError, match="not committed"):
        write_repairs(made)
    assert b"vision_model" in path.read_bytes()
    assert write_repairs(made, force=True) == ()
    assert b"vision_model" not in path.read_bytes()


def test_the_verb_writes_and_the_second_run_finds_nothing(tmp_path):
    path, _ = stale_file(tmp_path)
    command = [sys.executable, "-m", "treealign.cli", "audit", OLD, NEW, "--scan", path]
    first = subprocess.run([*command, "--fix", "--write"], capture_output=True, text=True, check=False)
    assert (first.returncode, first.stdout.count("\n+x = "), "wrote 1 file" in first.stderr) == (1, 1, True)
    data = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=False).stdout)
    assert (list(data), data["references"]) == (["changes", "references"], [])


def test_references_as_data_have_these_five_fields(tmp_path):
    path, _ = stale_file(tmp_path)
    assert llava().scan([path]).as_dict()["references"] == [
        {
            "file": str(path),
            "line": 1,
            "old": "model.vision_tower.vision_model.encoder",
            "new": "model.vision_tower.encoder",
            "status": NOTHING,
        }
    ]


def test_an_audit_with_nothing_but_names_that_hold_is_clean(tmp_path):
    audit = scanned(treealign.audit(NEW, NEW), tmp_path, "use.py", 'm.get_submodule("model.vision_tower.encoder")\n')
    assert audit.ok
    assert [row[3] for row in found(audit)] == [STILL]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_repair_of_yaml_hits_its_place_behind_other_alphabets(tmp_path, line_end):
    lines = [
        "# größer 模型 🦙",
        "device_map:",
        "  model.vision_tower.vision_model.encoder: 0 # wie früher",
        "x: 'ü'",
        "",
    ]
    path = tmp_path / "settings.yaml"
    path.write_bytes(line_end.join(lines).encode())
    audit = llava().scan([path])
    assert write_repairs(repairs(audit.translation, audit.references)) == ()
    assert path.read_bytes() == line_end.join(lines).replace(".vision_model", "").encode()


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case['pair']}-{case['file']}")
def test_a_repaired_file_holds_nothing_that_could_be_repaired(tmp_path, case):
    path = tmp_path / case["file"]
    path.write_text(case["text"])
    audit = pair(case["pair"]).scan([path])
    before = len([one for one in audit.references if one.changed])
    made = repairs(audit.translation, audit.references)
    assert write_repairs(made) == ()
    left = [one for one in pair(case["pair"]).scan([path]).references if one.changed]
    assert len(left) == before - sum(len(repair.references) for repair in made)
    assert repairs(audit.translation, left) == ()


def in_doubt(tmp_path):
    """Two versions in which nothing says which of two modules is which, and a file that names all."""
    sides = [
        {f"net.layers.{i}.{name}.weight": (8, 8) for i in range(3) for name in names} | {f"{root}.last.weight": (4, 8)}
        for names, root in ((("foo", "bar"), "net.gone"), (("zip", "zap"), "net.here"))
    ]
    sides = [KeyTree.from_leaves([(k, s, "float32") for k, s in side.items()], ordered=True) for side in sides]
    (tmp_path / "conf.py").write_text('SKIP = ["net.layers.0.foo", "net.layers.1.bar", "net.gone.last"]\n')
    return [*sides, tmp_path / "conf.py"]


def test_a_name_that_is_only_guessed_is_written_nowhere_until_it_is_answered_or_accepted(tmp_path):
    old, new, path = in_doubt(tmp_path)
    found = treealign.audit(old, new)
    (question,) = [q for q in found.suggestion.questions if q.about == "names"]
    told = found.scan([path])
    guesses = {one.old for one in told.references if one.guess}
    assert guesses == {"net.layers.0.foo", "net.layers.1.bar"}
    for audit, repaired in ((told, set()), (found.accept().scan([path]), guesses)):
        made = [one.old for repair in repairs(audit.translation, audit.references) for one in repair.references]
        assert set(made) & guesses == repaired
    (other,) = question.options[1:]
    answered = treealign.audit(old, new, hints=[other.hint])
    assert answered.rename("net.layers.0.foo") != found.rename("net.layers.0.foo")
    assert not any(one.guess and one.old in guesses for one in answered.scan([path]).references)


def test_no_shim_leads_to_names_that_are_guessed(tmp_path):
    found = treealign.audit(*in_doubt(tmp_path)[:2])
    with pytest.raises(TreealignError, match="new names are guessed"):
        shim_source(found.translation)
    assert "'foo'" in shim_source(found.accept().translation)
