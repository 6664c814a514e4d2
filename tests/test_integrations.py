"""The action for GitHub and the hooks for pre-commit, run as they stand."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LLAVA = ROOT / "data" / "llava-1.5-7b"
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
ACTION = yaml.safe_load((ROOT / ".github/actions/treealign/action.yml").read_text())
AUDIT = [str(LLAVA / "transformers-4.52.json"), str(LLAVA / "transformers-5.24.json"), "--scan", "stale"]


@pytest.fixture
def project(tmp_path):
    """A project with stale names, and `treealign` on its path."""
    shutil.copytree(ROOT / "data" / "stale-names", tmp_path / "stale")
    program = tmp_path / "bin" / "treealign"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m treealign "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(command, project, **variables):
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_the_hook_for_stale_names_fails_with_the_place(project):
    done = run([*shlex.split(HOOKS["treealign-audit"]["entry"]), *AUDIT], project)
    assert done.returncode == 1
    assert "stale/placement.yaml:2" in done.stdout


def test_the_hook_for_locks_passes_until_a_model_changes(project):
    shutil.copy(LLAVA / "transformers-4.52.json", project / "model.json")
    run(["treealign", "lock", "model.json"], project)
    hook = shlex.split(HOOKS["treealign-lock"]["entry"])
    assert run(hook, project).returncode == 0
    shutil.copy(LLAVA / "transformers-5.24.json", project / "model.json")
    assert run(hook, project).returncode == 1


def test_hooks_name_verbs_that_there_are_and_take_no_files():
    assert all(hook["language"] == "python" and not hook["pass_filenames"] for hook in HOOKS.values())


def test_the_action_runs_what_it_is_given_and_fails_with_it(project):
    (step,) = (step for step in ACTION["runs"]["steps"] if step["name"] == "run")
    given = {"RUN": shlex.join(["audit", *AUDIT, "--github"])}
    assert set(step["env"]) == set(given)
    done = run(["bash", "-e", "-c", step["run"]], project, **given)
    assert done.returncode != 0
    assert "::error" in done.stdout + done.stderr


def test_the_action_installs_the_project_that_it_belongs_to():
    (step,) = (step for step in ACTION["runs"]["steps"] if step["name"] == "install")
    folder = (ROOT / ".github/actions/treealign" / "../../..").resolve()
    assert "$GITHUB_ACTION_PATH/../../..[" in step["run"]
    assert (folder / "pyproject.toml").is_file()
