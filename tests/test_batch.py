"""`treealign suggest --batch`: a line a model, in the order of the list, whatever befalls the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import LLAVA, MODEL_TREE, TINY, run, widest

from treealign import TreealignError
from treealign.cli.batch import read_batch


@pytest.fixture
def batch(tmp_path):
    def made(*lines: str) -> Path:
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines))
        return path

    return made


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch") / "list.txt"
    path.write_text(f"# three\n{TINY} {MODEL_TREE}\n\nno/such/model.safetensors {MODEL_TREE}\n{LLAVA} {MODEL_TREE}\n")
    return path


def test_each_line_has_its_row_in_the_order_of_the_list(mixed):
    done = run("suggest", "--batch", mixed, "--json")
    rows = json.loads(done.stdout)
    assert [(row["checkpoint"], row["state"]) for row in rows] == [
        (str(TINY), "ok"),
        ("no/such/model.safetensors", "error"),
        (str(LLAVA), "open"),
    ]
    assert (done.returncode, rows[0]["matched"], rows[0]["transforms"] > 0) == (2, 89, True)
    assert "there is no such file" in rows[1]["error"]


def test_the_report_fits_80_columns_and_says_what_stopped(mixed):
    done = run("suggest", "--batch", mixed, "--workers", "1")
    lines = done.stdout.splitlines()
    assert (widest(done.stdout) <= 80, lines[-1]) == (True, "1 ok, 1 open, 1 error")
    assert [line.split()[0] for line in lines[:4]] == ["state", "ok", "error", "open"]
    assert "hint: check the spelling" in done.stdout


def test_a_dask_scheduler_does_the_same(batch):
    from distributed import LocalCluster

    path = batch(f"{TINY} {MODEL_TREE}")
    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None, silence_logs=50) as cluster:
        done = run("suggest", "--batch", path, "--scheduler", cluster.scheduler_address, "--json")
    assert (done.returncode, [row["state"] for row in json.loads(done.stdout)]) == (0, ["ok"])


def test_a_scheduler_that_is_not_there_is_an_error():
    from treealign.cli.batch import workers

    with pytest.raises(TreealignError, match="no dask scheduler answers"), workers(0, "nonsense", 1):
        pass


@pytest.mark.parametrize("line", ["only-one", "one two three", "'unfinished quote"])
def test_a_line_that_is_no_pair_is_refused_before_anything_is_read(batch, line):
    with pytest.raises(TreealignError, match="line 2"):
        read_batch(batch("a b", line))


def test_an_empty_list_is_refused(batch):
    with pytest.raises(TreealignError, match="not a list of checkpoints and models"):
        read_batch(batch("# nothing"))


def test_names_with_spaces_are_quoted(batch):
    assert read_batch(batch("'my model' hf://org/name  # the first")) == [("my model", "hf://org/name")]


def test_without_a_list_both_sides_are_needed():
    done = run("suggest", TINY)
    assert (done.returncode, "Missing argument 'MODEL'" in done.stderr) == (2, True)
