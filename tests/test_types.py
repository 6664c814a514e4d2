"""The types of the public API are what mypy and pyright see, through the lazy import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RIGHT, WRONG = ROOT / "tests" / "typed" / "right.py", ROOT / "tests" / "typed" / "wrong.py"
MISTAKES = {n for n, line in enumerate(WRONG.read_text().splitlines(), 1) if "  # " in line}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def by_mypy() -> list[tuple[str, int]]:
    said = run(sys.executable, "-m", "mypy", "--strict", RIGHT, WRONG)
    return [(name, int(line)) for name, line in re.findall(r"^tests/typed/(\w+\.py):(\d+): error", said, re.MULTILINE)]


@pytest.fixture(scope="module")
def by_pyright(tmp_path_factory) -> list[tuple[str, int]]:
    config = tmp_path_factory.mktemp("pyright") / "pyrightconfig.json"
    settings = {"typeCheckingMode": "strict", "include": [str(RIGHT), str(WRONG)], "extraPaths": [str(ROOT)]}
    config.write_text(json.dumps(settings))
    program = ("-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project")
    said = json.loads(run(sys.executable, *program, config))["generalDiagnostics"]
    found = [(Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["severity"]) for one in said]
    return [(name, line) for name, line, severity in found if severity == "error"]


@pytest.mark.parametrize("checker", ["by_mypy", "by_pyright"])
def test_what_a_user_writes_has_no_error(checker, request):
    assert [at for at in request.getfixturevalue(checker) if at[0] == RIGHT.name] == []


@pytest.mark.parametrize("checker", ["by_mypy", "by_pyright"])
def test_each_mistake_is_an_error(checker, request):
    assert {line for name, line in request.getfixturevalue(checker) if name == WRONG.name} == MISTAKES
