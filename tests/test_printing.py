"""Names that hold what a terminal acts on are spelled out, whatever prints them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from treealign import KeyTree
from treealign.cli.verbs import app
from treealign.errors import FormatError, TreealignError

EVIL = "a\x1b[31m\x07\r\u202e\n::error::x\x9b\u2066"


@pytest.fixture
def files(tmp_path):
    save_file({f"{EVIL}.{i}.w": torch.ones(2) for i in range(2)}, tmp_path / "evil.safetensors")
    KeyTree.from_leaves([(f"b.{i}.w", (3,), "float32") for i in range(2)]).to_json(tmp_path / "tree.json")
    return tmp_path


def raw(text):
    return {c for c in text if not c.isprintable() and c != "\n"}


@pytest.mark.parametrize(
    "verb",
    [
        ["show", "evil"],
        ["show", "evil", "--json"],
        ["suggest", "evil", "tree"],
        ["suggest", "evil", "tree", "--json"],
        ["suggest", "evil", "tree", "--tree"],
        ["audit", "evil", "tree"],
        ["audit", "evil", "tree", "--format", "github"],
    ],
    ids=" ".join,
)
def test_no_verb_prints_them_raw(files, verb):
    names = {"evil": str(files / "evil.safetensors"), "tree": str(files / "tree.json")}
    done = CliRunner().invoke(app, [names.get(word, word) for word in verb])
    text = done.output + (str(done.exception) if isinstance(done.exception, TreealignError) else "")
    assert text.strip()
    assert raw(text) == set()
    assert not any(line.startswith("::error::x") for line in text.splitlines())


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
    done = CliRunner().invoke(app, ["show", str(files / "evil.safetensors"), "--json"])
    assert "202e" in done.output
    json.loads(done.output)


def test_errors_spell_them_out():
    assert raw(str(FormatError("wrong", where=EVIL, facts=[EVIL]))) == set()
