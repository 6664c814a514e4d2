"""Paths in hints: runs of names that stand for patterns, and patterns written as such runs.

A run floats: `attn.q` is found wherever the two names follow one another. With `^` in front it stands at the root, with
`$` behind it at the end. `{i}` stands for an index, `{i:3|6}` for one of these; a number stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache

from treealign.align.parameters import PARAMETER_NAMES, STATISTICS
from treealign.align.patterns import Pattern, single_leaves

CAPTURES = "ijklmnop"
_PIECE = re.compile(r"\{[^{}]*\}|[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_PLAIN = re.compile(r"\{[^{}]*\}")
_PLAIN_INDEX = re.compile(r"\{i(?::[0-9|]+)?\}", re.ASCII)
_LIMIT = re.compile(r"\{[^{}:]*:([0-9|]+)\}")
_RUN = r"[0-9]{1,6}(?:\.\.[0-9]{1,6})?"
_WRITTEN = re.compile(rf"\{{(?:[a-z]\w*)?(?::?({_RUN}(?:[|,]{_RUN})*))?\}}", re.ASCII)
_COMMA = re.compile(r"\s*,\s*(?![^{}]*\})")
_INDEX = r"(?:\{\}|[0-9]+)"
PARAMETERS = STATISTICS | PARAMETER_NAMES.keys()


def read_paths(text: str) -> tuple[str, ...] | None:
    """Paths that commas separate, ranges of indices written out; None where one is none.

    >>> read_paths("layers.{0..2}.q, layers.{i:1,3..4}.k")
    ('layers.{i:0|1|2}.q', 'layers.{i:1|3|4}.k')
    >>> read_paths("layers.{i+1}.q") is read_paths("q,,k") is None
    True
    """
    found = tuple(_WRITTEN.sub(_written_out, path) for path in _COMMA.split(text.strip()))
    parts = [part for path in found for part in path.split(".")]
    return found if all(parts) and not any(set("{}") & set(_PLAIN_INDEX.sub("", part)) for part in parts) else None


def _written_out(hit: re.Match[str]) -> str:
    if hit[1] is None:
        return "{i}"
    runs = [run.split("..") for run in re.split(r"[|,]", hit[1])]
    numbers = (n for run in runs for n in range(int(run[0]), int(run[-1]) + 1))
    return f"{{i:{'|'.join(map(str, numbers))}}}"


@lru_cache(maxsize=8192)
def _segment(text: str) -> re.Pattern[str]:
    """What a segment of a hint matches in a folded pattern: a number there stands for a capture, and for itself."""
    found, at = [], 0
    for hit in _PIECE.finditer(text):
        piece = hit.group()
        found += [re.escape(text[at : hit.start()]), _INDEX if piece[0] == "{" else rf"(?:\{{\}}|{piece})"]
        at = hit.end()
    return re.compile("".join([*found, re.escape(text[at:])]))


@lru_cache(maxsize=8192)
def _limits(text: str) -> dict[int, tuple[frozenset[str], bool]]:
    """For each segment of a path that says a number, the numbers, and whether they are all that its index may be.

    `{i:3|6}` allows these; a plain number is one of those that a folded index stands for.
    """
    found = {}
    for at, segment in enumerate(text.removeprefix("^").removesuffix("$").split(".")):
        if hit := _LIMIT.search(segment):
            found[at] = frozenset(hit.group(1).split("|")), True
        elif numbers := _NUMBER.findall(_PLAIN.sub("", segment)):
            found[at] = frozenset(numbers), False
    return found


def _within(text: str, p: Pattern, end: int) -> bool:
    """Whether the indices of a pattern are those of which a path speaks."""
    start = end - text.count(".") - 1
    for at, (numbers, only) in _limits(text).items():
        segment = p.segments[start + at]
        if "{}" in segment:
            capture = sum("{}" in s for s in p.segments[: start + at])
            there = {key[capture] for key in p.cells}
            if not (there <= numbers if only else there & numbers):
                return False
        elif only and not numbers & set(_NUMBER.findall(segment)):
            return False
    return True


def fits(text: str, p: Pattern) -> bool:
    """Whether a path of a hint stands for a pattern.

    >>> p = Pattern(("layers", "{}", "attn", "q", "weight"), {("0",): 0}, {("0",): (4, 4)})
    >>> [fits(text, p) for text in ("attn.q", "^layers.{i}.attn", "layers.0", "^attn", "q.weight$", "attn$")]
    [True, True, True, False, True, False]
    """
    end = _end(text, p.segments)
    return end is not None and _within(text, p, end)


def is_limited(text: str) -> bool:
    """Whether a path gives numbers, and so may speak of some repeats of a pattern only."""
    return bool(_limits(text))


def leaves_of(text: str, p: Pattern) -> set[int]:
    """The leaves of a pattern, by position, for which a path stands.

    >>> p = Pattern(("layers", "{}", "q"), {("0",): 5, ("1",): 8}, {("0",): (4,), ("1",): (4,)})
    >>> leaves_of("layers.1", p), leaves_of("q", p) == {5, 8}
    ({8}, True)
    """
    if _end(text, p.segments) is None:
        return set()
    if not is_limited(text):
        return set(p.cells.values())
    return {leaf.number for leaf in single_leaves(p) if fits(text, leaf)}


def rest(text: str, p: Pattern) -> tuple[str, ...] | None:
    """The segments that follow where a path stands in a pattern; None where it does not."""
    end = _end(text, p.segments)
    return None if end is None else p.segments[end:]


@lru_cache(maxsize=65536)
def _end(text: str, segments: tuple[str, ...]) -> int | None:
    rooted, last = text.startswith("^"), text.endswith("$")
    run = [_segment(s) for s in text.removeprefix("^").removesuffix("$").split(".")]
    size = len(run)
    for at in range(1 if rooted else len(segments) - size + 1):
        there = segments[at : at + size]
        whole = len(there) == size and (not last or at + size == len(segments))
        if whole and all(s.fullmatch(name) for s, name in zip(run, there, strict=True)):
            return at + size
    return None


def path_text(segments: Sequence[str]) -> str:
    """Segments of a pattern as a path.

    >>> path_text(("layers", "{}", "linear_{}"))
    'layers.{i}.linear_{j}'
    """
    names = iter(CAPTURES)
    return re.sub(r"\{\}", lambda _: f"{{{next(names)}}}", ".".join(segments))


def whole_text(p: Pattern) -> str:
    """The path that stands for one pattern and nothing else: from the root to the end."""
    return f"^{path_text(p.segments)}$"


def module_path(p: Pattern) -> tuple[str, ...]:
    """The module of a leaf; the leaf itself where it is a parameter with a name of its own."""
    return p.segments[:-1] if len(p.segments) > 1 and p.segments[-1] in PARAMETERS else p.segments


def without_indices(path: Sequence[str]) -> tuple[str, ...]:
    """A path without the segments that only count."""
    return tuple(s for s in path if s != "{}" and not s.isdigit())


def rooted_text(wanted: Sequence[Pattern], side: Iterable[Pattern]) -> list[str]:
    """Paths from the root that stand for these patterns of a side and for none other: modules, where all of them go."""
    mine, varying = set(wanted), _varying(wanted)
    others = [p for p in side if p not in mine]
    texts: dict[str, None] = {}
    for p in wanted:
        texts.setdefault(_unique(p, others, varying))
    return list(texts)


def _unique(p: Pattern, others: Sequence[Pattern], varying: Set[str] = frozenset()) -> str:
    module, whole = module_path(p), p.segments
    for segments in (_numberless(module, varying), module, _numberless(whole, varying), whole):
        text = f"^{path_text(segments)}"
        if not any(fits(text, q) for q in others):
            return text
    text = whole_text(p)
    return text if not any(fits(text, q) for q in others) else _limited_text(p)


def _limited_text(p: Pattern) -> str:
    """The path of a pattern with the numbers of its indices: others of the same names have other numbers."""
    columns = (sorted(set(column), key=int) for column in zip(*p.cells, strict=True))
    names = iter(f"{{{name}:{'|'.join(column)}}}" for name, column in zip(CAPTURES, columns, strict=False))
    return f"^{re.sub(r'[{][}]', lambda _: next(names), '.'.join(p.segments))}$"


def _varying(patterns: Iterable[Pattern]) -> frozenset[str]:
    """Names, their numbers left out, that stand with more than one number among patterns."""
    found: dict[str, set[str]] = {}
    for p in patterns:
        for segment in p.segments:
            if _NUMBER.search(segment):
                found.setdefault(_NUMBER.sub("{}", segment), set()).add(segment)
    return frozenset(stem for stem, names in found.items() if len(names) > 1)


def _numberless(path: Sequence[str], varying: Set[str]) -> tuple[str, ...]:
    """A path with its numbers as indices where they vary."""
    plain = ((_NUMBER.sub("{}", segment), segment) for segment in path)
    return tuple(stem if stem in varying else segment for stem, segment in plain)


def list_text(wanted: Sequence[Pattern], side: Iterable[Pattern]) -> list[str]:
    """Paths of lists that stand for these patterns of a side and for none other; of their modules, where none does."""
    mine, varying = set(wanted), _varying(wanted)
    others = [p for p in side if p not in mine]
    texts: dict[str, None] = {}
    for p in wanted:
        path = _numberless(p.segments, varying)
        end = next((at + 1 for at, segment in enumerate(path) if "{}" in segment), len(path))
        text = f"^{path_text(path[:end])}"
        texts[_unique(p, others) if any(fits(text, q) for q in others) else text] = None
    return list(texts)


def short_text(wanted: Sequence[Pattern], side: Iterable[Pattern]) -> list[str]:
    """The shortest ends of module paths that stand for these patterns of a side and for none other of it."""
    mine = set(wanted)
    others = [p for p in side if p not in mine]
    texts: dict[str, None] = {}
    for p in wanted:
        if any(fits(text, p) for text in texts):
            continue
        texts[next((text for text in _ends(p) if not any(fits(text, q) for q in others)), _unique(p, others))] = None
    return list(texts)


def _ends(p: Pattern) -> Iterable[str]:
    path = module_path(p)
    for size in range(1, len(path)):
        if path[-size] != "{}" and not path[-size].isdigit():
            yield path_text(path[-size:])
