"""`--html`: one page, nothing loaded, nothing executed that comes from a name, and what it draws is what was found."""

from __future__ import annotations

import html
import json
import re
import sys

import pytest
from auditing import NEW, OLD, audited, llava
from browser import needed
from releases import need_entry
from typer.testing import CliRunner

from treealign import TreealignError, audit, suggest
from treealign.cli.page import Note, Page, Section, page_text
from treealign.cli.paired_trees import PairedTrees, Row, paired_trees
from treealign.cli.render_audit import audit_page
from treealign.cli.render_lint import lint_page
from treealign.cli.render_suggestion import suggestion_page
from treealign.cli.verbs import app
from treealign.tree.keytree import KeyTree

EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
FUSED = [("a.q.weight", (8, 8)), ("a.k.weight", (8, 8)), ("a.v.weight", (8, 8))], [("a.qkv.weight", (24, 8))]


def rows(trees: PairedTrees, side: int) -> dict[str, Row]:
    return {".".join(row.path): row for row in trees.sides[side]}


def of(audit) -> PairedTrees:
    return paired_trees(audit.suggestion.alignment)


def test_the_module_that_lost_its_level_is_the_only_one_that_moved():
    left = rows(of(llava()), 0)
    assert [name for name, row in left.items() if row.status] == ["model.vision_tower.vision_model"]
    assert left["model.vision_tower.vision_model"].partner.path == ("model", "vision_tower")
    assert (left["model.vision_tower"].changes, left["model.language_model"].changes) == (1, 0)


def test_each_key_stands_in_one_leaf_of_its_side():
    trees = of(llava())
    assert [sum(row.keys for row in side if not row.children) for side in trees.sides] == [686, 686]


def test_what_came_and_what_went_is_marked_once_at_its_highest_module():
    trees = of(audited([("a.w", (3,)), ("gone.x.w", (5,))], [("a.w", (3,)), ("come.x.w", (7,))]))
    assert [(row.status, row.changes) for row in (rows(trees, 0)["gone"], rows(trees, 1)["come"])] == [
        ("removed", 0),
        ("added", 0),
    ]


def test_the_parts_of_a_fused_tensor_all_lead_to_it():
    trees = of(audited(*FUSED))
    whole = rows(trees, 1)["a.qkv.weight"]
    assert [rows(trees, 0)[f"a.{part}.weight"].partner for part in "qkv"] == [whole] * 3
    assert whole.link == rows(trees, 0)["a.v.weight"].link


def test_a_tree_as_deep_as_any_that_is_compared_is_drawn():
    deep = ".".join(["a"] * 200)
    assert len(of(audited([(deep, (3,))], [(deep, (3,))])).sides[0]) == 200


def test_a_page_loads_nothing_from_anywhere():
    text = page_text(audit_page(llava(), ("old", "new")))
    assert re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text) == []
    assert "default-src 'none'" in text


@pytest.mark.parametrize("where", ["title", "fact", "note", "mapping", "key"])
def test_nothing_that_comes_from_outside_is_markup(where):
    texts = {"title": "t", "facts": (), "sections": (), "mapping": ""}
    note = Section(EVIL, (Note("error", EVIL, EVIL, EVIL),))
    texts |= {"title": {"title": EVIL}, "fact": {"facts": (EVIL,)}, "note": {"sections": (note,)}}.get(where, {})
    texts |= {"mapping": EVIL} if where == "mapping" else {}
    evil = KeyTree.from_leaves([(EVIL, (3,), "float32")])
    trees = paired_trees(suggest(evil, evil).alignment) if where == "key" else None
    text = page_text(Page(**texts, trees=trees))
    assert "<script>document" not in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 2


def test_an_option_of_a_command_is_never_cut_and_the_command_is_copied_as_it_stands():
    page = audit_page(llava(), ("old", "new  version"))
    assert page.verdict is not None
    shown = re.findall(r'<span class="paste"><code>(.*?)</code>', page_text(page))
    commands = [line for line in page.verdict.todo if line.startswith("treealign ")]
    assert [html.unescape(re.sub(r"</?span[^>]*>", "", one)) for one in shown] == commands
    assert all('<span class="option">-' in one for one in shown)


def test_the_data_of_a_page_reads_back_as_it_was():
    evil = KeyTree.from_leaves([(EVIL + "\u2028", (3,), "float32")])
    trees = paired_trees(suggest(evil, evil).alignment)
    (data,) = re.findall(r'id="data">(.*)</script>', page_text(Page("t", trees=trees)))
    assert json.loads(data) == json.loads(json.dumps(trees.as_dict()))


def test_a_page_without_trees_serves_findings_alone():
    text = page_text(Page("lint", sections=(Section("Findings", (Note("warning", "a rule", "does nothing"),)),)))
    assert "does nothing" in text
    assert 'id="scroll"' not in text


def test_a_suggestion_lists_what_is_open():
    sides = [KeyTree.from_leaves([(key, (3,), "float32")]) for key in ("a.w", "b.c.v")]
    page = suggestion_page(suggest(*sides), ("c", "m"))
    assert page.asks
    assert page.verdict.level == "open"
    assert page.verdict.open


def test_what_is_missing_is_listed_by_whole_modules():
    old, new = [("a.w", (3,))], [("a.w", (3,)), ("b.c.v", (5,)), ("b.d.v", (7,))]
    page = suggestion_page(audited(old, new).suggestion, ("c", "m"))
    assert [(note.title, note.show) for note in page.sections[0].notes] == [("missing: 2 keys", "b")]


@pytest.mark.parametrize("verb", ["audit", "suggest"])
def test_the_verbs_write_the_page_beside_what_they_print(verb, tmp_path):
    done = CliRunner().invoke(app, [verb, str(OLD), str(NEW), "--html", str(tmp_path / "report.html")])
    assert done.stdout
    assert "<title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def linted():
    """A lint with an error, a note, and an entry that could not be checked."""
    from treealign.dialects.lint_checks.results import EntryReport, Finding, Lint

    found = (
        Finding("saved-otherwise", "one", None, "saved under other names", ("a.w",), ("OneModel",)),
        Finding("collision", "one", 1, "two keys become one", ("x and y become z", EVIL), ("OneModel",)),
    )
    reports = (
        EntryReport("one", ("rule 0", "rule 1"), ("OneModel",), found),
        EntryReport("fine", ("r",), ("FineModel",)),
    )
    return Lint("5.24", (*reports, EntryReport("closed", ("r",), unchecked=(("ClosedModel", "ImportError: timm"),))))


def test_a_lint_is_told_by_kind_worst_first_with_rules_keys_and_classes():
    page = lint_page(linted(), "t")
    assert [(section.title.partition(":")[0], len(section.notes)) for section in page.sections] == [
        ("collision", 1),
        ("saved-otherwise", 1),
        ("not checked", 1),
    ]
    note = page.sections[0].notes[0]
    assert (note.level, note.title) == ("error", "one[1]  rule 1")
    assert note.text.splitlines() == ["two keys become one", "in OneModel"]
    assert note.keys == ("x and y become z", EVIL)
    assert page.facts[1:] == ("1 error, 0 warnings, 1 note", "1 entry without a finding")


def test_the_lint_writes_its_page_beside_what_it_prints(tmp_path):
    need_entry("xCLIPVisionModel")
    place = tmp_path / "lint.html"
    done = CliRunner().invoke(app, ["lint", "transformers:xCLIPVisionModel", "--html", str(place)])
    assert done.stdout.startswith("transformers ")
    assert "orphan" in place.read_text(encoding="utf-8")


def test_without_jinja2_there_is_an_error_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(TreealignError, match=r"jinja2>=3\.1"):
        page_text(Page("t"))


def test_a_hundred_thousand_keys_make_a_small_page():
    leaves = [(f"l.{i}.e.{j}.{name}.w", (4,), "float32") for i in range(80) for j in range(420) for name in "abc"]
    side = KeyTree.from_leaves(leaves)
    text = page_text(audit_page(audit(side, side), ("old", "new")))
    assert (len(side), len(text) < 60_000) == (100_800, True)


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser_its_tests_are_skipped_by_name_but_in_ci_they_fail(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(outcome, match="chromium"):
        needed()
