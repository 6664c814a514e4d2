"""The command line as a user meets it: processes, exit codes, 80 columns, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
LLAVA = DATA / "llava-1.5-7b" / "checkpoint.json"
TINY = DATA / "llava-tiny" / "model.safetensors"


MODEL_TREE = Path(__file__).parent / "trees" / "llava-tiny-model.json"


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "treealign.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def widest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


@pytest.mark.parametrize("source", [LLAVA, TINY, f"transformers:{TINY.parent}"])
def test_show_fits_80_columns(source):
    done = run("show", source)
    assert (done.returncode, widest(done.stdout) <= 80) == (0, True)


def test_show_folds_repeats_and_counts():
    lines = run("show", TINY).stdout.splitlines()
    assert lines[1] == "89 keys in 39 patterns, 49.8 K parameters, 97.3 KiB, float16"
    assert any(line.split() == ["layers.{0..2}", "27", "keys", "27.8", "K"] for line in lines)


def test_show_says_where_repeats_disagree(tmp_path):
    leaves = [[f"layers.{i}.norm.weight", [8], "float32"] for i in range(4)]
    leaves += [[f"layers.{i}.mlp.weight", [8, 4 if i < 2 else 16], "float32"] for i in range(4)]
    leaves += [["layers.3.gate.weight", [8], "float32"]]
    lines = run("show", tree_file(tmp_path / "tree.json", leaves)).stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if "mlp" in line] == [
        "weight [8, 4] in {0..1}  [8, 16] in {2..3}"
    ]
    assert any(line.split()[:3] == ["gate", "in", "3"] for line in lines)


def test_show_json_counts_every_key_once():
    data = json.loads(run("show", LLAVA, "--json").stdout)
    assert (data["keys"], sum(p["count"] for p in data["patterns"])) == (686, 686)
    assert {p["pattern"]: p["shapes"] for p in data["patterns"]}["language_model.lm_head.weight"] == [[32064, 4096]]


def test_show_of_a_safetensors_file_imports_nothing_slow():
    code = (
        "import sys; sys.argv = ['treealign', 'show', sys.argv[1]]\n"
        "from treealign.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = ('torch', 'transformers', 'scipy', 'networkx', 'rich')\n"
        "print(*(m for m in slow if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, TINY], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_snapshot_stands_in_for_the_model(tmp_path):
    model = f"transformers:{TINY.parent}"
    assert run("snapshot", model, "-o", tmp_path / "tree.json").returncode == 0
    shown, again = run("show", model).stdout, run("show", tmp_path / "tree.json").stdout
    assert shown.partition(" keys in ")[2] == again.partition(" keys in ")[2] != ""


def test_a_factory_is_run_and_that_is_said(tmp_path):
    (tmp_path / "my_models.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))\n"
    )
    done = run("show", "my_models:make", cwd=tmp_path)
    assert "this is your code" in done.stderr
    assert done.stdout.splitlines()[1].startswith("4 keys in 2 patterns")


def test_talk_goes_to_stderr_and_leaves_json_alone():
    done = run("show", f"transformers:{TINY.parent}", "--json")
    assert "without weights" in done.stderr
    assert json.loads(done.stdout)["keys"] == 89


def test_suggest_prints_transforms_and_verdict_in_80_columns(published):
    done = published
    assert (done.returncode, widest(done.stdout) <= 80) == (0, True)
    assert "checkpoint -> model" in done.stdout
    assert "matched     89 of 89 checkpoint keys, 89 of them certain" in done.stdout
    assert "open        0 ambiguous, 0 missing, 0 unexpected, 0 mismatched" in done.stdout


def test_suggest_writes_a_mapping_that_maps_every_key(published, mapping_file):
    from treealign import ConversionMapping, read_tree

    mapped = ConversionMapping.from_json(mapping_file).map_keys(read_tree(TINY))
    assert mapped["language_model.lm_head.weight"] == ("lm_head.weight",)
    assert sorted(k for keys in mapped.values() for k in keys) == sorted(read_tree(MODEL_TREE).keys)


@pytest.fixture(scope="module")
def mapping_file(tmp_path_factory):
    return tmp_path_factory.mktemp("suggest") / "mapping.json"


@pytest.fixture(scope="module")
def published(mapping_file):
    return run("suggest", TINY, MODEL_TREE, "-o", mapping_file)


def test_check_of_a_suggested_mapping_ends_with_0(published, mapping_file):
    done = run("check", TINY, MODEL_TREE, mapping_file)
    assert (published.returncode, done.returncode) == (0, 0)
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith(LAWS)] == ["holds"] * 6


def test_check_says_which_law_is_broken_by_which_transform(tmp_path):
    done = run("check", TINY, MODEL_TREE, write_mapping(tmp_path, {"kind": "PrefixChange", "add": "model"}))
    states = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.startswith(LAWS)}
    assert done.returncode == 1
    assert {law for law, state in states.items() if state == "BROKEN"} == {"complete", "idempotent"}
    assert "by  add     model" in done.stdout


def test_check_of_a_mapping_that_cannot_run_claims_nothing_else(tmp_path):
    mapping = write_mapping(tmp_path, {"kind": "Rename", "pairs": [["**.gate_proj", "**.up_proj"]]})
    laws = json.loads(run("check", TINY, MODEL_TREE, mapping, "--json").stdout)["laws"]
    assert {law: one["holds"] for law, one in laws.items()} == {**dict.fromkeys(LAWS), "injective": False}


LAWS = ("complete", "injective", "exact", "reversible", "idempotent", "minimal")


def write_mapping(folder: Path, *transforms: dict[str, object]) -> Path:
    path = folder / "mapping.json"
    path.write_text(json.dumps({"format": "treealign.mapping", "version": 1, "transforms": transforms}))
    return path


def test_suggest_json_says_everything():
    data = json.loads(run("suggest", TINY, MODEL_TREE, "--json").stdout)
    assert (data["direction"], data["ok"], len(data["matches"])) == ("checkpoint -> model", True, 89)
    assert data["mapping"]["format"] == "treealign.mapping"
    assert all(match["certain"] and match["evidence"] for match in data["matches"])


def test_suggest_ends_with_1_and_lists_what_is_left_over(tmp_path):
    model = tree_file(tmp_path / "model.json", [["norm.weight", [8], "float32"], ["extra.bias", [7], "float32"]])
    checkpoint = tree_file(tmp_path / "checkpoint.json", [["norm.weight", [8], "float32"], ["old.w", [5], "float32"]])
    done = run("suggest", checkpoint, model)
    assert done.returncode == 1
    assert [line.split()[0] for line in listed(done.stdout)] == ["extra.bias", "old.w"]


def test_suggest_lists_whole_modules_as_one(tmp_path):
    left_over = [[f"text.layers.{i}.{name}", [3], "float32"] for i in range(9) for name in ("weight", "bias")]
    checkpoint = tree_file(tmp_path / "checkpoint.json", [["norm.weight", [8], "float32"], *left_over])
    model = tree_file(tmp_path / "model.json", [["norm.weight", [8], "float32"]])
    lines = listed(run("suggest", checkpoint, model).stdout)
    assert [line.split() for line in lines] == [["text.*", "18", "keys"]]


def listed(text: str) -> list[str]:
    """What is listed below the verdict."""
    below = text[text.index("\nopen ") :].partition("\n\n")[2]
    return [line for line in below.splitlines() if line.startswith("    ")]


def test_what_nothing_tells_apart_is_ambiguous_and_a_hint_settles_it(tmp_path):
    one = [[f"blocks.{i}.{name}.weight", [8], "float32"] for i in range(2) for name in ("foo", "bar")]
    two = [[f"blocks.{i}.{name}.weight", [8], "float32"] for i in range(2) for name in ("qux", "zip")]
    sides = [tree_file(tmp_path / name, leaves).name for name, leaves in (("one.json", one), ("two.json", two))]
    open_ended = run("suggest", *sides, cwd=tmp_path)
    assert (open_ended.returncode, "--hint " in open_ended.stdout) == (1, True)
    assert widest(open_ended.stdout) <= 80
    settled = run("suggest", *sides, "--hint", "foo=zip", "--hint", "bar=qux", cwd=tmp_path)
    assert settled.returncode == 0
    rules = [{word.removeprefix("**.") for word in line.split()} for line in settled.stdout.splitlines()]
    assert any({"foo", "zip"} <= words for words in rules)


def test_explain_gives_the_evidence_for_keys_and_patterns_of_either_side():
    keys = ("lm_head.weight", "language_model.model.layers.{i}.mlp.up_proj.weight")
    done = run("suggest", TINY, MODEL_TREE, "--explain", keys[0], "--explain", keys[1])
    assert done.stdout.startswith("certain match, checkpoint -> model\n    language_model.lm_head.weight\n")
    assert "language_model.model.layers.{0..2}.mlp.up_proj.weight" in done.stdout
    assert "would be lost" in done.stdout
    assert widest(done.stdout) <= 80


def test_a_snapshot_keeps_what_a_run_of_the_model_showed(tmp_path):
    done = run(
        "snapshot", f"transformers:{TINY.parent}:LlavaForConditionalGeneration", "-o", tmp_path / "t.json", "--trace"
    )
    trace = json.loads((tmp_path / "t.json").read_text()).get("trace")
    assert done.returncode == 0
    assert trace["problem"] == "" or "not traced: " in done.stderr


def test_explain_as_json_weighs_the_evidence():
    key = "model.language_model.layers.0.input_layernorm.weight"
    (one,) = json.loads(run("suggest", TINY, MODEL_TREE, "--explain", key, "--json").stdout)
    assert key in one["model"]
    assert min(rival["lost"] for rival in one["rivals"]) > 0.2
    assert one["settled_by"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "no-such-file.safetensors"], "no-such-file.safetensors"),
        (["show", "no_such_package.models:make"], "no such module"),
        (["show", "transformers:lllama"], "llama"),
        (["show", "transformers:llava:LlavaForNothing"], "it has LlavaForConditionalGeneration"),
        (["show", f"transformers:{DATA / 'corpus'}"], "no config.json"),
        (["show", DATA / "README.md"], "README.md"),
        (["snapshot", TINY, "-o", "no/such/folder/tree.json"], "no/such/folder: cannot write: there is no such folder"),
        (["suggest", TINY, LLAVA.with_name("mapping.json")], "not a checkpoint but a conversion mapping"),
        (["suggest", TINY, "transformers:llava", "--probe", "nothing"], "package.module:name"),
        (["suggest", TINY, MODEL_TREE, "--hint", "attn_norm"], "attn_norm"),
        (["suggest", TINY, MODEL_TREE, "--explain", "lm_head.wait"], "lm_head.weight"),
        (["suggest", TINY], "MODEL"),
        (
            ["check", TINY, MODEL_TREE, "no-such-mapping.json"],
            "no-such-mapping.json: the mapping cannot be read: No such",
        ),
        (["check", TINY, MODEL_TREE, MODEL_TREE], "-o FILE` writes a mapping"),
        (["record", "data.port.original:build", "-o", "run.pt"], "--run package.module:function"),
        (["suggest", "--batch", "no-such-list.txt"], "CHECKPOINT MODEL on each line"),
        (["show"], "MODEL"),
        (["shwo", TINY], "shwo"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_is_wrong(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_larger_than_the_memory_is_refused_before_it_is_built(tmp_path):
    sizes = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 400, "num_attention_heads": 64}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **sizes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run("suggest", TINY, f"transformers:{tmp_path}", "--probe", "json:dumps")
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not fit into memory" in done.stderr


def test_an_error_of_a_factory_names_the_users_line(tmp_path):
    (tmp_path / "my_models.py").write_text("def make():\n    raise ValueError('no such size: 13')\n")
    done = run("show", "my_models:make", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "ValueError: no such size: 13" in done.stderr
    assert "my_models.py:2" in done.stderr


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m treealign.cli show {LLAVA} --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def tree_file(path: Path, leaves: list[list[object]]) -> Path:
    head = {"format": "treealign.tree", "version": 1, "ordered": False, "libraries": {}, "modules": {}, "tied": {}}
    path.write_text(json.dumps({**head, "leaves": leaves}))
    return path
