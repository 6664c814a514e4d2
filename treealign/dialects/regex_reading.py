"""Regular expressions and their replacements as transforms, where they are about whole segments; else the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from treealign.dialects.substitutions import Substitution, renamed
from treealign.dialects.transformers.sides import sample_keys
from treealign.errors import MappingError, PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.shown import Shown

GAP = r"((?:[^.]*\.)*?)"
_BODY = re.compile(
    r"\((?P<number>\\d\+|\[0-9\]\+|0\|\[1-9\]\[0-9\]\*)\)"
    r"|\((?P<choice>(?:\\.|[^()\\|.*+?\[\]])+(?:\|(?:\\.|[^()\\|.*+?\[\]])+)*)\)|\(\[(?P<low>\d)-(?P<high>\d)\]\)"
    r"|\\(?P<escaped>[^\w])|(?P<text>[^\\()\[\]{}*+?|^$.]+)|(?P<dot>\.)"
)
_REFERENCE = re.compile(r"\\(?:g<(\d+)>|(\d))")
_ENDS = (r"(?=\.|$)", "(?![^.])", "$", r"\.")


@dataclass(frozen=True)
class Reading(Shown):
    """What was read.

    Attributes
    ----------
    mapping : ConversionMapping
        The rules that are key patterns, in order.
    unread : tuple of (rule, reason)
        Those that are not, with the reason; `run` runs them all the same.
    rules : tuple
        All rules.
    """

    mapping: ConversionMapping
    unread: tuple[tuple[Any, str], ...]
    rules: tuple[Any, ...]
    _run: Callable[[str], str | None]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.rules)} rules, {len(self.unread)} unread: {self.mapping!r}>"

    def run(self, keys: Iterable[str]) -> Mapping[str, str | None]:
        """What all rules make of keys, as the loader does it; None where it drops one."""
        return {key: self._run(key) for key in keys}


def read_all(
    rules: Sequence[Any],
    pairs: Sequence[tuple[Substitution, str]],
    run: Callable[[str], str | None],
    keys: Iterable[str] | None,
) -> Reading:
    """Read rules, each given as a substitution, or with the reason why it is none."""
    transforms, unread, names = list[Transform](), list[tuple[Any, str]](), None if keys is None else list(keys)
    for rule, (pair, reason) in zip(rules, pairs, strict=True):
        read, why = (None, reason) if reason else read_or_why(pair, names)
        if read is None:
            unread.append((rule, why))
        else:
            transforms.append(read)
        if names is not None:
            names = [renamed([pair], name) for name in names if not (reason and re.search(pair.pattern, name))]
    return Reading(ConversionMapping(transforms), tuple(unread), tuple(rules), run)


def read_or_why(pair: Substitution, names: Iterable[str] | None) -> tuple[Transform | None, str]:
    """One substitution as a transform, or the reason why it is none; see `read_pair`."""
    try:
        return read_pair(pair, names), ""
    except PatternError as error:
        return None, error.what


def read_pair(pair: Substitution, names: Iterable[str] | None = None) -> Transform:
    """One substitution as a transform, checked on these names, or else on made up ones.

    Raises
    ------
    PatternError
        It is more than a key pattern; the message says why.
    """
    transform = _transform(*_sides(pair), pair.pattern)
    try:
        tried = sample_keys(ConversionMapping([transform])) if names is None else list(names)
    except MappingError as error:
        raise PatternError(error.what) from error
    edge = names is None and not pair.pattern.startswith("^")
    for name in tried:
        made, meant = renamed([pair], name), (transform.map_key(name) or (name,))[0]
        if made != meant and not (edge and name.count(".") < 2):
            raise PatternError(f"it makes {made} of {name}, which a key pattern would not")
    return transform


class _Side(NamedTuple):
    """Text of a key pattern, and how it is bounded."""

    text: str
    front: bool
    at_end: bool


def _transform(source: _Side, target: str, pattern: str) -> Transform:
    mark, end = "**." * source.front, "$" * source.at_end
    if not source.text or not target:
        if mark or end or not (source.text or target):
            raise PatternError(f"`{pattern}` adds or removes text in the middle of names")
        return PrefixChange(add=target) if target else PrefixChange(remove=source.text)
    return Rename(f"{mark}{source.text}{end}", f"{mark}{target}{end}")


def _sides(pair: Substitution) -> tuple[_Side, str]:
    pattern, replacement = pair
    gap = pattern.startswith(f"^{GAP}")
    anchored = pattern.startswith("^") and not gap
    body = pattern.removeprefix(f"^{GAP}" if gap else "^")
    dotted = not (anchored or gap)
    if dotted and not body.startswith((r"\.", ".")):
        raise PatternError(f"`{pattern}` matches inside segments: nothing says where it begins")
    if dotted:
        body, replacement = body[2 if body.startswith("\\") else 1 :], _without(replacement, ".", pattern)
    if gap:
        replacement = _without(replacement, r"\1", pattern)
    end = next((mark for mark in _ENDS if body.endswith(mark)), "")
    if not end and body:
        raise PatternError(f"`{pattern}` matches inside segments: nothing says where it ends")
    body = body[: len(body) - len(end)]
    if end == r"\." and replacement:
        if not replacement.endswith("."):
            raise PatternError(f"`{pattern}` ends at a dot, and `{replacement}` does not")
        replacement = replacement[:-1]
    if not body and replacement.endswith("."):
        replacement = replacement[:-1]
    text, holes = _read(body, pattern)
    return _Side(text, gap or dotted, end == "$"), _filled(replacement, holes, first=2 if gap else 1)


def _without(replacement: str, start: str, pattern: str) -> str:
    if not replacement.startswith(start):
        raise PatternError(f"`{pattern}` begins at a segment, and `{replacement}` does not")
    return replacement.removeprefix(start)


def parts_of(body: str, part: re.Pattern[str], pattern: str) -> Iterator[re.Match[str]]:
    """A regular expression as the parts that a key pattern knows, one after the other.

    Raises
    ------
    PatternError
        It holds something else; the message says where.
    """
    at = 0
    while at < len(body):
        found = part.match(body, at)
        if not found:
            raise PatternError(f"`{pattern}` is a regular expression beyond key patterns at `{body[at:]}`")
        yield found
        at = found.end()


def _read(body: str, pattern: str) -> tuple[str, list[str]]:
    text, holes = "", list[str]()
    for found in parts_of(body, _BODY, pattern):
        if found["number"] or found["choice"] or found["low"]:
            holes.append(f"h{len(holes) + 1}")
            text += f"{{{holes[-1]}{_limit(found)}}}"
        else:
            text += found["escaped"] or found["text"] or "."
    return text, holes


def _limit(found: re.Match[str]) -> str:
    if found["low"]:
        return f":{found['low']}..{found['high']}"
    options = re.sub(r"\\(.)", r"\1", found["choice"] or "").split("|")
    return f":{'|'.join(options)}" if found["choice"] else ""


def _filled(replacement: str, holes: Sequence[str], first: int) -> str:
    used: list[int] = []

    def put(found: re.Match[str]) -> str:
        used.append(int(found[1] or found[2]) - first)
        if not 0 <= used[-1] < len(holes):
            raise PatternError("the replacement refers to a group that is none")
        return f"{{{holes[used[-1]]}}}"

    made = _REFERENCE.sub(put, replacement)
    if sorted(used) != list(range(len(holes))):
        raise PatternError("a group stands on one side only")
    return made.replace(r"\\", "\\")
