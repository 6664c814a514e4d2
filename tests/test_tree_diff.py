"""`treealign audit --tree`: the changes, each at its place in one folded tree."""

from __future__ import annotations

from auditing import NEW, OLD, audited
from typer.testing import CliRunner

from treealign.cli.paired_trees import paired_trees
from treealign.cli.render_tree_diff import Line, diff_lines, put_tree_diff
from treealign.cli.verbs import app


def flat(lines: tuple[Line, ...]) -> list[str]:
    return [text for line in lines for text in (f"{line.mark} {line.text}", *flat(line.below))]


def diff(old, new) -> list[str]:
    return flat(diff_lines(paired_trees(audited(old, new).suggestion.alignment)))


def test_the_level_that_llava_lost_stands_below_its_tower_and_the_rest_is_closed():
    done = CliRunner().invoke(app, ["audit", str(OLD), str(NEW), "--tree"])
    (line,) = [line for line in done.stdout.splitlines() if "~" in line]
    assert line.endswith("└── ~ vision_model → vision_tower  391 keys")
    assert "q_proj" not in done.stdout
    assert done.exit_code == 1


def test_what_came_stands_below_the_counterpart_of_its_module():
    old = [("top.a.up.weight", (3, 5)), ("top.a.down.weight", (5, 3))]
    new = [(key.replace("top", "model"), shape) for key, shape in old] + [("model.a.extra.weight", (7,))]
    lines = diff(old, new)
    assert lines[0] == "~ top → model"
    assert lines.index("+ extra") > lines.index("  a")


def test_what_went_is_listed_closed():
    assert diff([("a.w", (3,)), ("b.c.w", (5,))], [("a.w", (3,))]) == ["  a", "- b"]


def test_a_name_in_brackets_is_not_taken_for_a_style(capsys):
    old = [("a.w", (3,)), ("[red]b.w", (5,))]
    put_tree_diff(paired_trees(audited(old, [("a.w", (3,))]).suggestion.alignment))
    assert "- [red]b" in capsys.readouterr().out
