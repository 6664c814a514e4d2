"""The grammar of a key pattern's segments: what stands between dots, read into text and captures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from treealign.formats.cached import cached_property
from treealign.tree.keys import MAX_SEGMENTS
from treealign.tree.segments import (
    LARGEST,
    Alternative,
    Capture,
    Captured,
    Captures,
    Segment,
    Slots,
    cut,
    fill,
    match_segment,
    overlap,
)

_TOKEN = re.compile(r"\{[^{}]*\}|[^{}.]+|\.|[{}]")
_CAPTURE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)([+-][1-9][0-9]{0,8})?(?::(.*))?", re.ASCII | re.DOTALL)
_RANGE = re.compile(r"(0|[1-9][0-9]{0,17})\.\.(0|[1-9][0-9]{0,17})", re.ASCII)
_RESERVED = frozenset("{}*$")
_MOST_CHOICES = 1000


class Choice(NamedTuple):
    """A capture of one of several literals."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class SegmentPattern:
    """One segment of a pattern: text and captures in turn."""

    parts: tuple[str | Capture | Choice, ...]

    @cached_property
    def literal(self) -> str | None:
        """The text of a segment without captures."""
        part = self.parts[0]
        return part if len(self.parts) == 1 and isinstance(part, str) else None

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """One for each way to take the choices."""
        choices = [part for part in self.parts if isinstance(part, Choice)]
        ways = product(*(choice.options for choice in choices))
        return tuple(_alternative(self.parts, dict(zip((c.name for c in choices), way, strict=True))) for way in ways)

    def match(self, segment: Segment, slots: Slots) -> Captures | None:
        """What it captures in a segment of a name, or None."""
        if self.literal is not None and isinstance(segment, str):
            return {} if self.literal == segment else None
        return match_segment(self.alternatives, segment, slots)

    def limited(self, captures: Mapping[str, Capture | Choice]) -> SegmentPattern:
        """The segment with range and choice of these captures in place of its own; shifts stay."""
        return SegmentPattern(tuple(_limited(part, captures) for part in self.parts))

    def fill(self, captures: Mapping[str, Captured]) -> Segment:
        """The segment it stands for."""
        if self.literal is not None:
            return self.literal
        return fill([Capture(part.name) if isinstance(part, Choice) else part for part in self.parts], captures)


def is_literal(segment: str) -> bool:
    """Whether a segment of a key can stand in a pattern as it is: it is not empty and holds no ``{}*$``."""
    return bool(segment) and _RESERVED.isdisjoint(segment)


def _alternative(parts: tuple[str | Capture | Choice, ...], chosen: Mapping[str, str]) -> Alternative:
    pieces: list[str | Capture] = []
    text = ""
    for part in parts:
        if isinstance(part, Capture):
            pieces += [*cut(text), part]
            text = ""
        else:
            text += chosen[part.name] if isinstance(part, Choice) else part
    return Alternative((*pieces, *cut(text)), tuple(chosen.items()))


def _limited(part: str | Capture | Choice, captures: Mapping[str, Capture | Choice]) -> str | Capture | Choice:
    limits = None if isinstance(part, str) else captures.get(part.name)
    if isinstance(limits, Capture) and isinstance(part, Capture):
        return replace(limits, shift=part.shift)
    return part if limits is None else limits


def read_segments(run: str) -> tuple[tuple[SegmentPattern, ...], list[str]]:
    """The segments of a pattern, and everything that is wrong with them."""
    texts: list[list[str]] = [[]]
    for token in _TOKEN.findall(run):
        if token == ".":
            texts.append([])
        else:
            texts[-1].append(token)
    reasons: list[str] = []
    if len(texts) > MAX_SEGMENTS:
        return (), [f"it has {len(texts)} segments, more than {MAX_SEGMENTS}"]
    segments = tuple(SegmentPattern(_read_parts(tokens, reasons)) for tokens in texts)
    names = [part.name for segment in segments for part in segment.parts if not isinstance(part, str)]
    reasons += [f"{{{name}}} stands in it twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if not reasons:
        reasons += [reason for segment in segments for reason in _unclear(segment)]
    return segments, reasons


def _read_parts(tokens: list[str], reasons: list[str]) -> tuple[str | Capture | Choice, ...]:
    if not tokens:
        reasons.append("it has an empty segment")
        return ("",)
    return tuple(_read_part(token, reasons) for token in tokens)


def _read_part(token: str, reasons: list[str]) -> str | Capture | Choice:
    return _read_capture(token[1:-1], reasons) if token[0] == "{" and token != "{" else _read_text(token, reasons)


def _read_text(token: str, reasons: list[str]) -> str:
    if token in "{}":
        reasons.append(f"a `{token}` is not paired")
    elif "*" in token:
        reasons.append(f"`{token}`: `**.` may only stand in front, and there is no other wildcard; {{i}} is an index")
    elif "$" in token:
        reasons.append(f"`{token}`: `$` may only stand at the end")
    return token


def _read_capture(text: str, reasons: list[str]) -> Capture | Choice:
    found = _CAPTURE.fullmatch(text)
    if not found:
        reasons.append(f"{{{text}}} is no capture")
        return Capture(text)
    name, shift, limits = found.groups()
    if limits is None:
        return Capture(name, int(shift or 0), high=LARGEST if shift else None)
    range_ = _RANGE.fullmatch(limits)
    if range_:
        return _read_range(text, Capture(name, int(shift or 0), int(range_[1]), int(range_[2])), reasons)
    return _read_choice(text, Choice(name, tuple(limits.split("|"))), shift, reasons)


def _read_range(text: str, capture: Capture, reasons: list[str]) -> Capture:
    if capture.high is not None and capture.high < capture.low:
        reasons.append(f"{{{text}}} ends before it begins")
    return capture


def _read_choice(text: str, choice: Choice, shift: str | None, reasons: list[str]) -> Choice:
    if shift:
        reasons.append(f"{{{text}}} shifts a choice of literals")
    if len(choice.options) < 2:
        reasons.append(f"{{{text}}} is neither a range (low..high, no leading zeros) nor a choice of two literals")
    elif not all(is_literal(option) and "." not in option for option in choice.options):
        reasons.append(f"{{{text}}} holds an option that is no literal of one segment")
    elif len(set(choice.options)) < len(choice.options):
        reasons.append(f"{{{text}}} holds an option twice")
    return choice


def _unclear(segment: SegmentPattern) -> Iterator[str]:
    """Why two readings of one text could differ, so that the inverse would not be exact."""
    for a, b in zip(segment.parts, segment.parts[1:], strict=False):
        if not isinstance(a, str) and not isinstance(b, str):
            yield f"{{{a.name}}} and {{{b.name}}} need a literal between them"
        elif _digit_beside(a, b):
            yield "an index stands beside a digit: a capture takes whole numbers"
    choices = [len(part.options) for part in segment.parts if isinstance(part, Choice)]
    if choices and len(segment.parts) > 1:
        yield from _overlapping(segment, choices)


def _digit_beside(a: str | Capture | Choice, b: str | Capture | Choice) -> bool:
    before = isinstance(b, Capture) and isinstance(a, str) and a[-1] in "0123456789"
    return before or (isinstance(a, Capture) and isinstance(b, str) and b[0] in "0123456789")


def _overlapping(segment: SegmentPattern, choices: list[int]) -> Iterator[str]:
    ways = 1
    for count in choices:
        ways *= count
    if ways > _MOST_CHOICES:
        yield f"a segment offers {ways} choices, more than {_MOST_CHOICES}"
        return
    seen: dict[tuple[object, ...], list[Alternative]] = {}
    for alternative in segment.alternatives:
        alike = seen.setdefault(alternative.pieces[::2], [])
        if any(overlap(alternative, other) for other in alike):
            yield f"two choices read alike: {dict(alternative.choices)}"
            return
        alike.append(alternative)
