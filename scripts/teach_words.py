"""What transformers' own tables of names teach the vocabulary, and how much of a family the other families teach.

    python scripts/teach_words.py [FOLDER ...]

Read are the renamings of transformers' conversion mapping, and in each FOLDER the pairs of names that stand in tables
of converters (`models/*/convert_*.py` of a release that still has them): two texts side by side in a tuple or a dict.
None is copied. A pair is brought to the runs of words in which the two names differ, as the aligner reads names.

A pair of runs that shares a word or a role is known to the vocabulary. Of the others, those that several families teach
are candidates. Each family is left out once: of what its tables say and the vocabulary does not know, what share do the
other families teach, in no contradiction: one run to one other alone?
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from treealign.align.words import split_words, tokens
from treealign.dialects.transformers.entries import registry_restored

Run = tuple[str, ...]
Pairs = dict[str, set[tuple[Run, Run]]]
PLAIN = re.compile(r"\\[.dw]|\(\?[:!=<].*?\)|[\\^$()*+?\[\]|]")
INDEX = re.compile(r"\{[^{}]*\}|\d+")
LONGEST = 4  # words; a longer run is a sentence, not a name
PAIR = 2
FEWEST = 2  # families that teach a candidate


def differing(old: str, new: str) -> tuple[Run, Run] | None:
    """The runs of words in which two names differ, without what stands around them."""
    sides = [[w for s in _segments(text) for w in split_words(s)] for text in (old, new)]
    while sides[0] and sides[1] and sides[0][0] == sides[1][0]:
        sides = [side[1:] for side in sides]
    while sides[0] and sides[1] and sides[0][-1] == sides[1][-1]:
        sides = [side[:-1] for side in sides]
    left, right = map(tuple, sides)
    return (left, right) if left and right and len(left) <= LONGEST and len(right) <= LONGEST else None


def _segments(text: str) -> list[str]:
    plain = PLAIN.sub("", text.replace(r"\.", ".").replace(r"(\d+)", "{}"))
    return [s for s in INDEX.sub("{}", plain).split(".") if s]


def tables(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of texts that stand side by side in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            yield from ((_text(a), _text(b)) for a, b in zip(node.keys, node.values, strict=True) if a is not None)
        elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) == PAIR:
            yield _text(node.elts[0]), _text(node.elts[1])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "replace" and len(node.args) == PAIR:
            yield _text(node.args[0]), _text(node.args[1])


def _text(node: ast.AST) -> str:
    """A text, what is filled in as an index; empty where it is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def read(folders: list[Path]) -> Pairs:
    """What each family's tables say."""
    found: Pairs = defaultdict(set)
    with registry_restored() as registry:
        entries = {name: list(transforms) for name, transforms in registry.items()}
    for name, transforms in entries.items():
        for one in transforms:
            for old in getattr(one, "source_patterns", ()):
                for new in getattr(one, "target_patterns", ()):
                    if (pair := differing(old, new)) is not None:
                        found[name.lower()].add(pair)
    for folder in folders:
        for path in sorted(folder.glob("*/convert*.py")):
            for old, new in tables(path):
                if "." in old + new and " " not in old + new and (pair := differing(old, new)) is not None:
                    found[path.parent.name].add(pair)
    return found


def known(pair: tuple[Run, Run]) -> bool:
    """Whether the two runs share a word that tells something, or a role."""
    mine, theirs = ({t.text for t in tokens(run) if t.qualified or t.text[0] == "@"} for run in pair)
    return bool(mine & theirs)


def main() -> None:
    """Print candidates, and how much each family is taught by the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    found = read(parser.parse_args().folders)
    families = {
        pair: {name for name, pairs in found.items() if pair in pairs} for pairs in found.values() for pair in pairs
    }
    new = {pair: names for pair, names in families.items() if not known(pair)}
    for pair, names in sorted(new.items(), key=lambda item: -len(item[1])):
        if len(names) >= FEWEST:
            print(f"{len(names):3}  {' '.join(pair[0])} ~ {' '.join(pair[1])}   ({', '.join(sorted(names)[:4])})")
    said, understood, taught, contradicted = Counter(), Counter(), Counter(), Counter()
    for name, pairs in found.items():
        for pair in pairs:
            said[name] += 1
            understood[name] += known(pair)
            others = new.get(pair, set()) - {name}
            rivals = {b for a, b in new if a == pair[0] and b != pair[1] and new[a, b] - {name}}
            taught[name] += bool(others and not rivals)
            contradicted[name] += bool(rivals)
    texts = (
        f"{len(found)} families, {sum(said.values())} pairs",
        f"{sum(understood.values())} known to the vocabulary",
        f"each family left out, {sum(taught.values())} more are taught by the others",
        f"of {sum(contradicted.values())} others say something else",
    )
    print("; ".join(texts))


if __name__ == "__main__":
    main()
