"""`treealign lock`: the lock reads back as it was written, and whatever is not as locked fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
from auditing import NEW, OLD, llava, tree
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from treealign import KeyTree, TreealignError, read_tree
from treealign.changes.lock_text import folded_exactly
from treealign.changes.locking import lock_text, read_lock, write_lock
from treealign.cli.verbs import app

ROOT = Path(__file__).parent.parent
NAMES = st.text('ab01{}. \n"=:[]é', min_size=1, max_size=8)
SHAPES = st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which the tree of LLaVA before the change is locked under the name of a file that holds today's."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(OLD, "model.json")
    assert lock("model.json").exit_code == 0
    return tmp_path


def lock(*arguments: str):
    return CliRunner().invoke(app, ["lock", *arguments])


def same(a: KeyTree, b: KeyTree) -> bool:
    return (set(a.leaves), a.modules, a.tied) == (set(b.leaves), b.modules, b.tied)


@given(
    st.dictionaries(NAMES, SHAPES, max_size=12),
    st.sampled_from(["float32", None]),
    st.sampled_from(["buffer", "parameter"]),
)
def test_a_lock_reads_back_as_the_tree_it_was_written_from(tmp_path_factory, shapes, dtype, kind):
    keys = list(shapes)
    whole = KeyTree.from_leaves(
        [(key, shape, dtype, kind) for key, shape in shapes.items()],
        modules=dict.fromkeys(["", *keys[:3]], "Linear"),
        tied=dict(pairwise(keys)),
    )
    path = tmp_path_factory.mktemp("lock") / "treealign.lock"
    write_lock(path, {"a": whole, "b": KeyTree.from_leaves([])})
    assert same(read_lock(path)["a"], whole)
    assert len(read_lock(path)["b"]) == 0


def test_repeats_that_are_no_rectangle_fold_into_several_lines():
    assert list(folded_exactly(["l.0.e.0.w", "l.1.e.0.w", "l.1.e.1.w", "l.2.e.0.w"])) == [
        "l.{0,2}.e.0.w",
        "l.1.e.{0..1}.w",
    ]


def test_a_lock_is_small_and_a_change_of_one_layer_changes_few_lines():
    text = lock_text({"llava": read_tree(OLD)})
    assert len(text.splitlines()) < 100
    before = tree(*((f"l.{i}.w", (4,)) for i in range(9)))
    after = tree(*((f"l.{i}.w", (4 + (i == 3),)) for i in range(9)))
    lines = [set(lock_text({"m": one}).splitlines()) for one in (before, after)]
    assert lines[1] - lines[0] == {"l.{0..2,4..8}.w [4] float32", "l.3.w [5] float32"}


@pytest.mark.parametrize("line", ["a.w [4", "a.{9..1000000000}.w [4] float32", "a.w [4] float32\na.w [4] float32", "?"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "treealign.lock"
    path.write_text(lock_text({"m": tree(("b.w", (4,)))}) + line + "\n", encoding="utf-8")
    with pytest.raises(TreealignError, match=r"line [56]"):
        read_lock(path)


def test_a_model_that_is_as_locked_passes(project):
    done = lock("--check")
    assert (done.exit_code, done.stdout) == (0, "model.json: as locked\n")


def test_a_model_that_changed_fails_and_the_audit_is_printed(project):
    shutil.copy(NEW, "model.json")
    done = lock("--check")
    assert done.exit_code == 1
    assert "391 level `vision_model` removed below `model.vision_tower`" in done.stdout
    assert "*.mapping.json" in done.stdout


def test_a_change_that_a_mapping_beside_the_lock_covers_passes(project):
    shutil.copy(NEW, "model.json")
    assert lock("--check", "--mapping", "level.mapping.json").exit_code == 1
    done = lock("--check", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["models"][0]["covered_by"] == "level.mapping.json"


def test_locking_again_renews_what_is_named_and_keeps_the_rest(project):
    shutil.copy(NEW, "other.json")
    assert lock("other.json").exit_code == 0
    assert list(read_lock("treealign.lock")) == ["model.json", "other.json"]
    shutil.copy(NEW, "model.json")
    assert lock().exit_code == 0
    assert lock("--check").exit_code == 0


def test_a_mapping_for_another_change_does_not_cover_this_one(project):
    from treealign import ConversionMapping, Rename

    shutil.copy(NEW, "model.json")
    ConversionMapping([Rename("lm_head", "head")]).to_json("other.mapping.json")
    assert lock("--check").exit_code == 1


def test_without_a_lock_there_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(TreealignError, match="treealign lock MODEL"):
        read_lock(tmp_path / "treealign.lock")


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "treealign.cli.pytest_plugin", "-p", "no:cacheprovider"]
    environment = {**os.environ, **plugins}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_plugin_passes_fails_and_passes_again_as_the_verb_does(project):
    (project / "pytest.ini").write_text("[pytest]\n")
    assert "1 passed" in run_pytest(project, "--treealign").stdout
    shutil.copy(NEW, "model.json")
    failed = run_pytest(project, "--treealign")
    assert failed.returncode == 1
    assert "level `vision_model` removed below `model.vision_tower`" in failed.stdout
    llava().mapping.to_json("level.mapping.json")
    assert run_pytest(project, "--treealign").returncode == 0


def test_the_plugin_does_nothing_unless_it_is_asked(project):
    shutil.copy(NEW, "model.json")
    (project / "pytest.ini").write_text("[pytest]\n")
    assert run_pytest(project).returncode == 5  # no tests


def test_a_model_that_is_gone_fails_with_what_is_wrong_and_no_traceback(project):
    (project / "pytest.ini").write_text("[pytest]\n")
    (project / "model.json").unlink()
    done = run_pytest(project, "--treealign")
    assert (done.returncode, "model.json" in done.stdout, "Traceback" in done.stdout) == (1, True, False)


def test_the_plugin_without_a_lock_is_an_error_of_use(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = run_pytest(tmp_path, "--treealign")
    assert (done.returncode, "there is no lock" in done.stderr) == (4, True)


def test_the_plugin_is_found_by_every_pytest_of_the_environment():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert hasattr(import_module(points["treealign"]), "pytest_addoption")
