"""Names that hold what a terminal acts on are spelled out, whatever prints them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from treealign import ConversionMapping, KeyTree, Rename, load, read_tree, save, suggest
from treealign.changes.locking import write_lock
from treealign.cli.verbs import app
from treealign.errors import FormatError, TreealignError
from treealign.mapping.laws import check_laws

EVIL = "a\x1b[31m\x07\r\u202e\n::error::x\x9b\u2066\x85\u180e\U000e0041"


VERBS = [
    ["show", "evil"],
    ["show", "evil", "--json"],
    ["suggest", "evil", "tree"],
    ["suggest", "evil", "tree", "--json"],
    ["suggest", "evil", "tree", "--tree"],
    ["suggest", "evil", "evil", "-o", "new"],
    ["suggest", "evil", "tree", "--hint", "bad"],
    ["audit", "evil", "tree"],
    ["audit", "evil", "tree", "--format", "github"],
    ["audit", "evil", "tree", "--scan", "code"],
    ["check", "evil", "tree", "mapping"],
    ["check", "evil", "evil", "mapping", "--json"],
    ["check", "tree", "evil", "mapping"],
    ["convert", "evil", "new", "mapping", "--verify"],
    ["convert", "evil", "new", "mapping", "--json"],
    ["convert", "tree", "new", "mapping"],
    ["emit", "mapping", "--to", "python"],
    ["emit", "mapping", "--to", "vllm"],
    ["emit", "mapping", "--to", "transformers"],
    ["snapshot", "evil", "-o", "new"],
    ["lock", "evil", "-o", "new"],
    ["lock", "--check", "-o", "locked"],
    ["record", "bad", "-o", "new"],
    ["lint", "bad"],
    ["show", "absent"],
    ["show", "damaged"],
]


@pytest.fixture
def files(tmp_path):
    """What each word of a command line stands for."""
    folder = tmp_path / EVIL.replace("/", "")
    folder.mkdir()
    names = {name: folder / f"{name}{ending}" for name, ending in ENDINGS.items()}
    save_file({f"{EVIL}.{i}.w": torch.ones(2) for i in range(2)}, names["evil"], metadata={EVIL: EVIL})
    names["damaged"].write_bytes(names["evil"].read_bytes()[:-4])
    KeyTree.from_leaves([(f"b.{i}.w", (3,), "float32") for i in range(2)]).to_json(names["tree"])
    ConversionMapping([Rename(EVIL, "b")]).to_json(names["mapping"])
    names["code"].write_text(f"x = {EVIL + '.0.w'!r}\n")
    write_lock(names["locked"], {"m": KeyTree.from_leaves([(EVIL, (1,), "float32")])})
    return {**{name: str(path) for name, path in names.items()}, "bad": EVIL}


ENDINGS = {
    "evil": ".safetensors",
    "damaged": ".safetensors",
    "tree": ".json",
    "mapping": ".json",
    "code": ".py",
    "new": "",
    "locked": ".lock",
    "absent": ".safetensors",
}


def raw(text):
    return {c for c in text if not c.isprintable() and c != "\n"}


def test_all_verbs_are_tried():
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {verb[0] for verb in VERBS} == known


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_no_verb_prints_them_raw(files, verb):
    done = CliRunner().invoke(app, [files.get(word, word) for word in verb])
    text = done.output + (str(done.exception) if isinstance(done.exception, TreealignError) else "")
    assert text.strip() or verb[0] == "snapshot"
    assert raw(text) == set()
    assert not any(line.startswith("::error::x") for line in text.splitlines())
    assert isinstance(done.exception, TreealignError | SystemExit | None)


def test_no_page_holds_them_raw(files, tmp_path):
    CliRunner().invoke(app, ["suggest", files["evil"], files["tree"], "--html", str(tmp_path / "page.html")])
    assert raw((tmp_path / "page.html").read_text()) <= {"\t"}


@pytest.mark.parametrize("verb", [["suggest"], ["audit"], ["check"]], ids=" ".join)
def test_no_line_end_of_our_own_is_spelled_out(tmp_path, verb):
    """What is wrapped is wrapped: nothing that treealign says shows a line end as two characters."""
    for name, spelled in (("old", "attention.w{}"), ("new", "self_attn.{}_proj")):
        keys = [f"layers.{i}.{spelled.format(n)}.weight" for i in range(2) for n in "qkvo"]
        KeyTree.from_leaves([(key, (64, 64), "float32") for key in keys]).to_json(tmp_path / f"{name}.json")
    sides = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    mapping = tmp_path / "mapping.json"
    runner = CliRunner()
    runner.invoke(app, ["suggest", *sides, "-o", str(mapping)])
    done = runner.invoke(app, [*verb, *sides, *([str(mapping)] if verb == ["check"] else [])])
    assert done.output.strip()
    assert "\\n" not in done.output


def test_json_gives_them_back(files):
    done = CliRunner().invoke(app, ["show", files["evil"], "--json"])
    assert "202e" in done.output
    json.loads(done.output)


def test_errors_spell_them_out():
    assert raw(str(FormatError("wrong", where=EVIL, facts=[EVIL]))) == set()


def test_results_spell_them_out(tmp_path):
    """What is printed in a notebook: questions, options, findings, mismatches."""
    old = KeyTree.from_leaves([(f"q.{EVIL}", (3, 3), "float32"), (f"b.{EVIL}", (3,), "float32")])
    new = KeyTree.from_leaves([(f"q{i}.x{EVIL}", (3, 3), "float32") for i in "ab"] + [("b.c", (4,), "float32")])
    s = suggest(old, new)
    laws = check_laws(ConversionMapping([Rename(f"q.{EVIL}", f"qa.x{EVIL}")]), old, new)
    shown = [s, s.mapping, *s.questions, *(o for q in s.questions for o in q.options), *s.mismatched_keys, *laws]
    assert s.questions
    assert laws
    assert raw("".join(f"{one}{one!r}" for one in shown)) == set()


def test_warnings_and_logs_spell_them_out(tmp_path, caplog):
    folder = tmp_path / EVIL.replace("/", "")
    model = torch.nn.ParameterDict({"z": torch.zeros(2)})
    load(model, {EVIL: torch.zeros(2, dtype=torch.float16)}, [Rename(EVIL, "z")], dtype="model")
    with torch.no_grad():
        model["z"].fill_(0.1234567)
    with pytest.warns(UserWarning, match="casting back") as warned:
        save(model, folder)
    (folder / ".treealign-partial").mkdir()
    (folder / ".treealign-partial" / "left").touch()
    read_tree(folder)
    assert "cut short" in caplog.text
    assert raw(f"{caplog.messages[0]}{warned[0].message}") == set()
