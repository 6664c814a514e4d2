"""What a page consists of: data that is finished, for the template."""

from __future__ import annotations

from dataclasses import dataclass

from treealign.cli.paired_trees import PairedTrees


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
