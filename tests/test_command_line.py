"""The command line as a newcomer meets it: version, help, examples, narrow terminals, pipes, a bar where it is slow."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from treealign import __version__
from treealign.cli import progress
from treealign.cli.verbs import EXAMPLES, app
from treealign.errors import EXTRAS

ROOT = Path(__file__).parent.parent
TINY = "data/llava-tiny/model.safetensors"
VERBS = [verb.__name__ for verb in EXAMPLES]


def run(*arguments: str, cwd: Path = ROOT, columns: int = 80, module: str = "treealign"):
    environment = {**os.environ, "COLUMNS": str(columns), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    return {verb: run(verb, "-h").stdout for verb in VERBS}


def test_the_version_is_that_of_the_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["version"]
    assert run("--version").stdout == f"treealign {__version__}\n" == f"treealign {declared}\n"


def test_help_lists_each_verb_with_its_whole_sentence():
    text = run("-h").stdout
    assert [verb for verb in VERBS if f"\n  {verb} " not in text] == []
    assert [line for line in text.splitlines()[1:] if line.endswith("...")] == []
    assert "--install-completion" in text


def test_each_verb_has_an_example_in_its_help(helps):
    missing = [verb for verb, text in helps.items() if f"  treealign {verb} " not in text]
    assert missing == []


def test_verbs_and_examples_are_the_same():
    registered = {command.callback.__name__ for command in app.registered_commands}
    assert registered == set(VERBS)


@pytest.mark.parametrize("verb", EXAMPLES, ids=lambda verb: verb.__name__)
def test_the_examples_of_a_verb_run_as_they_stand(verb, tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    for example in EXAMPLES[verb]:
        done = run(*shlex.split(example)[1:], cwd=tmp_path)
        assert (done.returncode in (0, 1), done.stderr.count("error:")) == (True, 0), f"{example}\n{done.stderr}"
        assert done.stdout or done.stderr


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["show", TINY], 40),
        (["show", TINY], 120),
        (["-h"], 50),
        (["-h"], 120),
        (["suggest", "-h"], 60),
    ],
)
def test_nothing_is_wider_than_the_terminal(arguments, columns):
    lines = run(*arguments, columns=columns).stdout.splitlines()
    assert [line for line in lines if len(line) > columns] == []


def test_no_help_is_wider_than_80_columns(helps):
    assert [line for text in helps.values() for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("arguments", [f"show {TINY}", f"show {TINY} --json", "--help", "emit -h"])
def test_a_reader_that_stops_early_is_no_error(arguments):
    command = f"{sys.executable} -m treealign {arguments} | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


def test_a_bar_is_shown_once_something_takes_long_and_is_gone_before_data_is_printed(tmp_path):
    code = (
        "import time\nfrom treealign.cli import progress\nfrom treealign.cli.console import put_lines, say\n"
        "progress.AFTER = 0.0\n"
        "with progress.waiting():\n    say('reading both sides')\n"
        "    while progress._waiting[-1]._shown is None: time.sleep(0.01)\n"
        "    say('matching')\n    put_lines(['data'])\n    assert not progress._waiting\n"
    )
    here, there = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=there, cwd=ROOT)
    out, _ = done.communicate()
    os.close(there)
    said = os.read(here, 65536).decode()
    assert (done.returncode, out) == (0, b"data\n"), said
    assert "matching" in said
    assert re.search("━|╸|╺", said)


def test_where_nobody_sees_it_there_is_no_bar():
    with progress.waiting():
        assert progress._waiting == []


def test_the_extras_that_hints_name_are_those_of_the_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["optional-dependencies"]
    assert {name: list(wanted) for name, wanted in EXTRAS.items()} == {name: declared[name] for name in EXTRAS}
