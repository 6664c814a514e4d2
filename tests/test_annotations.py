"""`treealign audit --sarif` and `--github`: findings beside the lines they are about."""

from __future__ import annotations

import json

import pytest
from auditing import NEW, OLD, audited, llava, scanned
from typer.testing import CliRunner

from treealign.cli.render_audit import github_lines, sarif
from treealign.cli.verbs import app

LINE = 'x = "model.vision_tower.vision_model.encoder.layers.1"\n'


def test_a_sarif_result_points_at_the_line_and_column_of_a_stale_name(tmp_path):
    log = sarif(scanned(llava(), tmp_path, "a b.py", f"\n{LINE}"))
    (result,) = [one for one in log["runs"][0]["results"] if one["ruleId"] == "reference"]
    where = result["locations"][0]["physicalLocation"]
    assert where["region"]["startLine"] == 2
    assert where["artifactLocation"]["uri"].endswith("/a%20b.py")
    assert "write `model.vision_tower.encoder.layers.1`" in result["message"]["text"]


def test_every_sarif_result_has_a_declared_rule_and_a_level():
    run = sarif(llava())["runs"][0]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {one["ruleId"] for one in run["results"]} <= rules
    assert [one["level"] for one in run["results"]] == ["warning", "note"]


def test_an_annotation_of_github_names_file_and_line(tmp_path):
    found = scanned(llava(), tmp_path, "a.py", LINE)
    (line,) = [one for one in github_lines(found) if one.startswith("::error ")]
    assert line.startswith(f"::error file={tmp_path}/a.py,line=1,col=")


def test_a_name_cannot_end_an_annotation_and_start_another_command():
    found = audited([("a\n::error::x%.w", (3,)), ("b.w", (5,))], [("b.w", (5,))])
    (line,) = github_lines(found)
    assert "\n" not in line
    assert "a\\n::error::x%25.w" in line


@pytest.mark.parametrize("option", ["--sarif", "--github"])
def test_the_verb_prints_either_and_says_by_its_status_that_there_are_findings(option):
    done = CliRunner().invoke(app, ["audit", str(OLD), str(NEW), option])
    assert done.exit_code == 1
    assert done.stdout.startswith("::warning" if option == "--github" else "{")
    if option == "--sarif":
        assert json.loads(done.stdout)["version"] == "2.1.0"


def test_two_formats_at_once_are_refused():
    assert CliRunner().invoke(app, ["audit", str(OLD), str(NEW), "--sarif", "--github"]).exit_code == 2
