"""The READMEs are true: their commands print what they show, their examples run."""

from __future__ import annotations

import re

import picture
import pytest
from readme import BLOCK, PAGES, PYTHON, README, ROOT, with_real_output

TEXT = README.read_text(encoding="utf-8")
HOUSE = (ROOT / "treealign" / "README.md").read_text(encoding="utf-8")
each = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each
def test_a_page_shows_what_its_commands_print(page):
    text = page.read_text(encoding="utf-8")
    assert with_real_output(text) == text, "python scripts/readme.py --write puts the present output in place"


@each
def test_a_page_fits_its_columns_and_its_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 120 and "|" not in line and "$ " not in line] == []
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / link).exists()]
    assert links == []


@each
def test_every_file_of_the_project_that_a_page_names_is_there(page):
    named = re.findall(
        r"`(?:pytest |python )?((?:treealign|tests|scripts|data|\.github)/[\w./*-]+)", page.read_text("utf-8")
    )
    absent = [path for path in named if not list(ROOT.glob(path.rstrip("/.")))]
    assert [path for path in absent if not list(page.parent.glob(path))] == []


def test_the_readme_is_a_page_one_can_finish():
    assert len(TEXT.splitlines()) <= 150
    assert len(BLOCK.findall(TEXT)) >= 3
    assert len(PYTHON.findall(TEXT)) == 1


def test_the_words_of_the_glossary_are_each_explained_once():
    words = re.findall(r"^\| ([a-z, ]+) \|", HOUSE[HOUSE.index("## Words") :], flags=re.MULTILINE)
    assert len(words) == len(set(words)) >= 14


def test_the_picture_is_what_its_script_draws():
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.picture()
