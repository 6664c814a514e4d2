"""The README is true: its commands print what it shows, its examples run."""

from __future__ import annotations

import re

from readme import BLOCK, README, with_real_output

TEXT = README.read_text(encoding="utf-8")


def test_the_readme_shows_what_its_commands_print():
    assert len(BLOCK.findall(TEXT)) >= 3
    assert with_real_output(TEXT) == TEXT, "python scripts/readme.py --write puts the present output in place"


def test_the_readme_fits_its_columns():
    assert [line for line in TEXT.splitlines() if len(line) > 120 and "|" not in line] == []


def test_the_words_of_the_glossary_are_each_explained_once():
    words = re.findall(r"^\| ([a-z, ]+) \|", TEXT[TEXT.index("## Words") :], flags=re.MULTILINE)
    assert len(words) == len(set(words)) >= 14
