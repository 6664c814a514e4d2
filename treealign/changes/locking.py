"""`treealign.lock`: the trees of some models, kept beside the code that defines them, and whether they still hold.

A model whose tree is not the locked one passes only where a mapping beside the lock (``*.mapping.json``) leads from the
locked tree to the one of today: old checkpoints load through it then, and can be saved back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from treealign.changes.auditing import Audit, audit
from treealign.changes.lock_text import read_lines, tree_lines
from treealign.errors import FormatError, TreealignError
from treealign.formats.atomic import written_whole
from treealign.formats.transaction.recovering import recover
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.laws import check_laws, faults
from treealign.tree.keytree import KeyTree

LOCK = "treealign.lock"
MAPPINGS = "*.mapping.json"
_HEAD = "# treealign lock 1: module trees that checkpoints and adapters depend on; renewed by `treealign lock`"


@dataclass(frozen=True)
class LockCheck:
    """Whether one model is as it was locked.

    Attributes
    ----------
    model : str
        What it is called in the lock.
    changes : Audit or None
        What is different; None where nothing is.
    covered_by : str
        The mapping that leads from the locked tree to the present one; empty where there is none.
    """

    model: str
    changes: Audit | None = None
    covered_by: str = ""

    @property
    def ok(self) -> bool:
        """Nothing changed, or a mapping covers it."""
        return self.changes is None or bool(self.covered_by)


def lock_text(trees: Mapping[str, KeyTree]) -> str:
    """The text of a lock: a section for each model, under its name in brackets."""
    sections = (["", f"[{name}]", *tree_lines(tree)] for name, tree in sorted(trees.items()))
    return "".join(f"{line}\n" for line in [_HEAD, *(line for section in sections for line in section)])


def write_lock(path: str | os.PathLike[str], trees: Mapping[str, KeyTree]) -> None:
    """Write a lock, whole or not at all.

    Raises
    ------
    TreealignError
        The name of a model holds a line break or ends the brackets.
    """
    wrong = [name for name in trees if len(name.splitlines()) != 1 or name != name.strip()]
    if wrong:
        raise TreealignError("a lock cannot hold such a name of a model", where=str(path), facts=map(repr, wrong))
    with written_whole(path) as file:
        file.write(lock_text(trees).encode("utf-8"))


def read_lock(path: str | os.PathLike[str]) -> dict[str, KeyTree]:
    """The trees of a lock by the names of their models.

    Raises
    ------
    FormatError
        It is none, or there is none.
    """
    where = os.fspath(path)
    recover(where)
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise FormatError("there is no lock", where=where, hint="write it with `treealign lock MODEL`") from error
    except UnicodeDecodeError as error:
        raise FormatError("this is no lock of treealign", where=where, facts=[str(error)]) from error
    if lines[0] != _HEAD:
        hint = "write it again with `treealign lock MODEL`"
        raise FormatError("this is no lock of treealign, version 1", where=where, facts=[lines[0][:200]], hint=hint)
    return {name: read_lines(section, where) for name, section in _sections(lines, where)}


def _sections(lines: list[str], where: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    starts = [at for at, line in enumerate(lines) if line.startswith("[") and line.endswith("]")]
    names = [lines[at][1:-1] for at in starts]
    if len(set(names)) != len(names):
        raise FormatError("a model is locked twice", where=where, hint="write it again with `treealign lock MODEL`")
    for name, start, stop in zip(names, starts, [*starts[1:], len(lines)], strict=True):
        yield name, [(at + 1, lines[at]) for at in range(start + 1, stop) if lines[at].strip()]


def check_lock(path: str | os.PathLike[str], model: str, locked: KeyTree, present: KeyTree) -> LockCheck:
    """Compare the tree of one model with the locked one.

    Parameters
    ----------
    path : path
        The lock; mappings are looked for beside it.
    model : str
        Its name in the lock.
    locked, present : KeyTree
        The tree that is locked, and the one of today.
    """
    if list(tree_lines(locked)) == list(tree_lines(present)):
        return LockCheck(model)
    covering = next(_covering(Path(path).parent, locked, present), "")
    return LockCheck(model, audit(locked, present), covering)


def _covering(folder: Path, locked: KeyTree, present: KeyTree) -> Iterator[str]:
    for file in sorted(folder.glob(MAPPINGS)):
        mapping = ConversionMapping.from_json(file)
        # one mapping may serve several models: rules that do nothing for this one are no fault
        found = [one for one in faults(check_laws(mapping, locked, present)) if one.law != "minimal"]
        if len(mapping) and not found and not mapping.questions:  # a guess promises nothing
            yield file.name
