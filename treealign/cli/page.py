"""A page (`--html`): what it consists of, data that is finished, and the one file it becomes, which loads nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from os import PathLike
from typing import Any

from treealign.cli.console import say
from treealign.cli.paired_trees import PairedTrees
from treealign.errors import TreealignError, install_hint
from treealign.formats.atomic import written_whole
from treealign.formats.legible import printable


@dataclass(frozen=True)
class Note:
    """One thing to know.

    Attributes
    ----------
    level : str
        ``error``, ``warning`` or ``note``.
    title, text : str
        What it is, and more about it.
    keys : tuple of str
        The names that it is about, folded.
    show : str
        The folded name of a module or leaf to go to in the trees, of either side; or empty.
    """

    level: str
    title: str
    text: str = ""
    show: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Notes under a heading."""

    title: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Verdict:
    """What stands first: whether it is all right, what holds, what is open, and what to do now.

    Attributes
    ----------
    level : str
        ``ok``, ``open`` or ``broken``.
    title : str
        The verdict in a few words.
    holds, open : tuple of str
        Sentences.
    todo : tuple of str
        Sentences, or commands, which begin with ``treealign`` and can be copied.
    """

    level: str
    title: str
    holds: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A question that is open: what it is about, the names of each side, why, the options, each with its hint."""

    about: str
    sides: tuple[tuple[str, tuple[str, ...]], ...]
    why: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """What a page shows, from top to bottom; what is empty is left out.

    Attributes
    ----------
    title : str
        The heading.
    sides : tuple of two str
        What the two trees are: ``old  llava.json``.
    facts : tuple of str
        One line each, below the heading.
    sections : tuple of Section
        Findings, changes, references.
    trees : PairedTrees or None
        The two trees.
    verdict : Verdict or None
        What stands first.
    asks : tuple of Ask
        The open questions.
    rules : tuple of str
        The mapping as people read it, line by line.
    mapping : str
        The same as JSON, to be copied.
    mapping_title : str
        Its direction.
    """

    title: str
    sides: tuple[str, str] = ("", "")
    facts: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    trees: PairedTrees | None = None
    verdict: Verdict | None = None
    asks: tuple[Ask, ...] = ()
    rules: tuple[str, ...] = ()
    mapping: str = ""
    mapping_title: str = ""


def write_page(path: str | PathLike[str], page: Page) -> None:
    """Write a page, whole or not at all, and say so.

    Raises
    ------
    TreealignError
        jinja2 is not installed, or the file cannot be written.
    """
    with written_whole(path) as file:
        file.write(page_text(page).encode("utf-8"))
    say(f"wrote {printable(str(path))}: open it in a browser")


def page_text(page: Page) -> str:
    """The HTML of a page. Raises `TreealignError` where jinja2 is not installed."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        hint = install_hint("html")
        raise TreealignError("a report as HTML needs jinja2, which is not installed", hint=hint) from error
    folder = files("treealign.cli") / "report"
    parts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js", "html")}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_printable)
    template = environment.from_string(parts["html"])
    data = page.trees.as_dict() if page.trees is not None else None
    return template.render(page=page, css=parts["css"], js=parts["js"], data=_safe(data))


def _printable(value: Any) -> Any:
    """What a page shows of a name that holds controls or marks of direction; its markup is left alone."""
    return printable(value, keep="\n\t") if type(value) is str else value


def _safe(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever the names hold."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
