"""Scan files for references to the old tree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from treealign.changes.references.adapters import adapter_references, is_adapter
from treealign.changes.references.data_files import NotReadError, json_mentions, yaml_mentions
from treealign.changes.references.judging import Judge
from treealign.changes.references.mentions import Mention
from treealign.changes.references.names import common_segments
from treealign.changes.references.notebooks import notebook_mentions
from treealign.changes.references.python_files import python_mentions
from treealign.changes.references.resolving import Resolver
from treealign.changes.references.settings import setting_of
from treealign.changes.references.toml_files import toml_mentions
from treealign.changes.references.walking import WEIGHTS, files_below, read_text
from treealign.changes.results import Reference, Skipped
from treealign.changes.translation import Translation
from treealign.errors import TreealignError
from treealign.formats.collector import collector_paused

MIN_CERTAINTY = 0.7
_WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ADAPTER_FILE = re.compile(r"adapter.*\.(bin|pt|pth)$")

_DATA = {".json": json_mentions, ".toml": toml_mentions}

Found = Reference | Skipped


class Scan(NamedTuple):
    """What a scan found, and what it could not read."""

    references: tuple[Reference, ...]
    skipped: tuple[Skipped, ...]


def scan(
    translation: Translation, paths: Iterable[str | os.PathLike[str]], min_certainty: float = MIN_CERTAINTY
) -> Scan:
    """Find every text that names a part of the old tree, and say what became of its meaning.

    Raises
    ------
    TreealignError
        One of the paths does not exist.
    """
    resolver = Resolver(translation)
    judge = Judge(resolver, min_certainty)
    references: list[Reference] = []
    skipped: list[Skipped] = []
    with collector_paused():  # a syntax tree is many objects, and none of them garbage
        for file in files_below(paths):
            for found in [file] if isinstance(file, Skipped) else _in_file(file, judge):
                if isinstance(found, Reference):
                    references.append(found)
                else:
                    skipped.append(found)
    return Scan(tuple(references), tuple(skipped))


def _in_file(path: str, judge: Judge) -> Iterator[Found]:
    if path.endswith(WEIGHTS):
        yield from _in_weights(path, judge.resolver)
        return
    source = read_text(path)
    if isinstance(source, Skipped):
        yield source
    elif worth_parsing(source, judge.resolver):
        yield from references_in(source, path, judge)


def worth_parsing(source: str, resolver: Resolver) -> bool:
    """Whether a text holds words of the tree at all: one that few models have, two others, or one for a setting."""
    found = set(_WORDS.findall(source))
    words = resolver.old.words & found
    return len(words) > 1 or not words <= common_segments() or bool(words and any(map(setting_of, found)))


def references_in(source: str, path: str, judge: Judge) -> Iterator[Found]:
    """The references in the text of a file."""
    try:
        mentions = _mentions(source, path, judge.resolver.old.words)
    except NotReadError as error:
        yield Skipped(path, str(error))
    except SyntaxError as error:
        yield Skipped(path, f"a syntax error in line {error.lineno}: {error.msg}")
    except (RecursionError, MemoryError, ValueError) as error:
        yield Skipped(path, f"cannot be parsed: {error or type(error).__name__}")
    else:
        yield from judge.references(mentions, path, source)


def _mentions(source: str, path: str, words: Set[str]) -> list[Mention]:
    if path.endswith((".py", ".pyi")):
        return python_mentions(source, words)
    if path.endswith(".ipynb"):
        return notebook_mentions(source, words)
    return _DATA.get(os.path.splitext(path)[1], yaml_mentions)(source)  # noqa: PTH122  a text, once for each file


def _in_weights(path: str, resolver: Resolver) -> Iterator[Found]:
    """Of weights only adapters name modules of another file; torch files are opened by name, since that takes torch."""
    if not path.endswith(".safetensors") and not _ADAPTER_FILE.search(os.path.basename(path)):  # noqa: PTH119
        return
    from treealign.tree.reading import read_tree

    try:
        keys = read_tree(path).keys
    except (TreealignError, OSError) as error:
        yield Skipped(path, str(error).splitlines()[0].removeprefix(f"{path}: "))
        return
    if is_adapter(keys):
        yield from adapter_references(keys, path, resolver)
