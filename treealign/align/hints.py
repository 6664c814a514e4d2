"""The language of hints: everything that an answer can say, in one table, read in one place.

======================================================  ================================================================
hint                                                    says
======================================================  ================================================================
``attn_norm=input_layernorm``                           names that belong together, checkpoint first; nothing else
``qkv=q,k,v`` or ``q,k,v=qkv``                          a whole and its parts, in the order in which they stand in it
``lateral{i}: order as numbered``                       two lists run the same way
``lateral{i}: order reversed``                          the first of one list is the last of the other
``layers.{i}.{j}: indices exchanged``                   two indices trade places
``q,k: rows as stored``                                 the rows stand alike on both sides
``q,k: rows from interleaved to half split, heads of 4``  rotary rows; or ``from half split to interleaved``
``q,k: …, heads of 64, 16 rotated``                       of each head, the first 16 rows alone
``qkv: rows by part``                                   all of one, then all of the next, in the order that is known
``qkv: rows by part, k then v then q``                  all of k, then all of v, then all of q
``qkv: rows by head of 64 in the checkpoint``           q, k and v of one head, then of the next; or ``in the model``
``qkv: rows by head …, from interleaved to half split``   both: the rows of q and k in another rotary order besides
``gate_up: rows in turns in the model``                 one row of each by turns; or ``in the checkpoint``
``norm,reduction: rows from w,h,c to c,h,w, windows of 2``  behind a fold of patches, the outermost first
``gate_up: halves swapped``                             the second half comes first on the other side
``proj: axes as stored``, ``axes transposed``           which way round a matrix stands
``kernel: axes 3,2,0,1``                                the model's dimensions, each by its number in the checkpoint
``ema.norm: not in the model``                          keys of the checkpoint that belong to nothing
``pos_ids: not in the checkpoint``                      keys of the model that nothing fills
``a=b and c=d``                                         both: several hints as one
======================================================  ================================================================

A path is a run of names that stand one after the other, wherever it occurs; ``^`` in front: at the root; ``$`` behind:
at the end; ``{i}``: any index, ``{i:3|6}`` or ``{0..5}``: one of these, a number: this one. Several paths are separated
by commas. ``… under PATH`` at the end of any hint keeps it to the keys that have this path too. A hint reaches the
repeats that it names, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from treealign.align.paths import fits, read_paths
from treealign.align.patterns import Pattern
from treealign.align.reasons import About

Hints = Mapping[str, str] | Sequence[str] | str | None
End = Literal["checkpoint", "model"]
_HEADS = r"heads of (?P<size>[1-9][0-9]*)(?:, (?P<rotated>[1-9][0-9]*) rotated)?"
_ROTARY = {"to half split": "from interleaved to half split", "to interleaved": "from half split to interleaved"}
_BESIDES = f"(?:, (?P<rotary>{'|'.join(_ROTARY.values())}))?"
_FOLD = r"(?P<fold_{}>[hwc](?:,[hwc]){{2}})"
_FORMS: tuple[tuple[About, str, str], ...] = (
    ("order", "as numbered", r"order as numbered"),
    ("order", "reversed", r"order reversed"),
    ("order", "exchanged", r"indices exchanged"),
    ("rows", "as stored", r"rows as stored"),
    ("rows", "by part", r"rows by part(?:, (?P<parts>\w+(?: then \w+)+))?"),
    ("rows", "by head", r"rows by head of (?P<size>[1-9][0-9]*) in the (?P<end>checkpoint|model)" + _BESIDES),
    ("rows", "in turns", r"rows in turns in the (?P<end>checkpoint|model)"),
    ("rows", "to half split", r"rows from interleaved to half split, " + _HEADS),
    ("rows", "to interleaved", r"rows from half split to interleaved, " + _HEADS),
    ("rows", "folded", rf"rows from {_FOLD.format('from')} to {_FOLD.format('to')}, windows of (?P<size>[2-9])"),
    ("rows", "swapped", r"halves swapped"),
    ("axes", "as stored", r"axes as stored"),
    ("axes", "transposed", r"axes transposed"),
    ("axes", "permuted", r"axes (?P<dims>[0-9]+(?:,[0-9]+)+)"),
    ("belongs", "unused", r"not in the model"),
    ("belongs", "unfilled", r"not in the checkpoint"),
)
_WORDS = "order|indices|rows|halves|axes|not in"
FORMS = (  # one of each, as they are written
    "order as numbered",
    "order reversed",
    "indices exchanged",
    "rows as stored",
    "rows by part",
    "rows by part, k then v then q",
    "rows by head of 64 in the checkpoint",
    "rows in turns in the model",
    "rows from interleaved to half split, heads of 64",
    "rows from half split to interleaved, heads of 64",
    "rows from w,h,c to c,h,w, windows of 2",
    "halves swapped",
    "axes as stored",
    "axes transposed",
    "axes 3,2,0,1",
    "not in the model",
    "not in the checkpoint",
)
_STATEMENT = re.compile(rf"(?P<paths>.+?): (?P<said>(?:{_WORDS}) .+)", re.ASCII)
_UNDER = re.compile(r"(?P<rest>.+?) under (?P<under>\S+)", re.ASCII)


@dataclass(frozen=True)
class Said:
    """What is said of some keys, apart from which keys.

    Attributes
    ----------
    about : str
        The aspect it settles.
    kind : str
        Which of the forms of the language.
    size : int
        Rows of a head; 0 where none is said.
    end : str
        On which side; empty where none is said.
    dims : tuple of int
        An order of dimensions.
    parts : tuple of str
        What the parts are, in their order, where that is said: ``("k", "v", "q")``.
    rotated : int
        How many rows of a head are in rotary order; 0 for all.
    rotary : str
        The kind of rotary order that rows by head are in besides; empty for none.
    fold : tuple of str
        How the places of a window and its channels stand in the rows of the checkpoint and of the model, the outermost
        first: ``("w,h,c", "c,h,w")``. The size is then the side of the window.
    """

    about: About
    kind: str
    size: int = 0
    end: str = ""
    dims: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    rotated: int = 0
    rotary: str = ""
    fold: tuple[str, str] = ("", "")

    @property
    def text(self) -> str:
        """As the language spells it."""
        heads = ", ".join([f"heads of {self.size}", *([f"{self.rotated} rotated"] if self.rotated else [])])
        besides = f", {_ROTARY[self.rotary]}" if self.rotary else ""
        return {
            "as numbered": "order as numbered",
            "reversed": "order reversed",
            "exchanged": "indices exchanged",
            "as stored": f"{self.about} as stored",
            "by part": ", ".join(["rows by part", *([" then ".join(self.parts)] if self.parts else [])]),
            "by head": f"rows by head of {self.size} in the {self.end}{besides}",
            "in turns": f"rows in turns in the {self.end}",
            "to half split": f"rows from interleaved to half split, {heads}",
            "to interleaved": f"rows from half split to interleaved, {heads}",
            "folded": f"rows from {self.fold[0]} to {self.fold[1]}, windows of {self.size}",
            "swapped": "halves swapped",
            "transposed": "axes transposed",
            "permuted": "axes " + ",".join(map(str, self.dims)),
            "unused": "not in the model",
            "unfilled": "not in the checkpoint",
        }[self.kind]


@dataclass(frozen=True)
class Statement:
    """``paths: what is so``, as it was given, and the whole hint of which it is a part."""

    text: str
    paths: tuple[str, ...]
    said: Said
    under: str = ""
    whole: str = ""

    @property
    def every_path(self) -> tuple[str, ...]:
        """Its paths, that of its scope among them."""
        return *self.paths, *([self.under] if self.under else [])

    def speaks_of(self, p: Pattern) -> bool:
        """Whether it is about a pattern."""
        return any(fits(path, p) for path in self.paths) and (not self.under or fits(self.under, p))


@dataclass(frozen=True)
class Naming:
    """``a=b``, or a whole and its parts, as it was given, and the whole hint of which it is a part."""

    text: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    under: str = ""
    whole: str = ""

    @property
    def every_path(self) -> tuple[str, ...]:
        """Its paths, that of its scope among them."""
        return *self.source, *self.target, *([self.under] if self.under else [])

    @property
    def floats(self) -> bool:
        """Whether it may stand anywhere in a key."""
        return not self.under and not any("^" in path or "$" in path for path in self.source + self.target)

    def speaks_of(self, p: Pattern, side: int) -> bool:
        """Whether it names a pattern of the checkpoint (0) or of the model (1)."""
        paths = (self.source, self.target)[side]
        return any(fits(path, p) for path in paths)

    def within(self, left: Pattern, right: Pattern) -> bool:
        """Whether its scope lets it speak of this pair."""
        return not self.under or fits(self.under, left) or fits(self.under, right)


def listed(hints: Hints) -> list[str]:
    """Hints as texts; a single text is one hint.

    >>> listed("a=b"), listed({"a": "b"}), listed(None)
    (['a=b'], ['a=b'], [])
    """
    if isinstance(hints, Mapping):
        return [f"{source}={target}" for source, target in hints.items()]
    return [hints] if isinstance(hints, str) else list(hints or ())


def parse(text: str) -> list[Statement | Naming]:
    """Read a hint, or several that `and` makes one; nothing if it is none.

    >>> parse("q,k: rows from interleaved to half split, heads of 64")[0].said.size
    64
    >>> parse("wq=q_proj under decoder")[0].under, len(parse("wq=q_proj and wk=k_proj")), parse("nonsense")
    ('decoder', 2, [])
    """
    parts = text.split(" and ")
    found = [replace(hint, whole=text.strip()) for part in parts if (hint := _parse(part)) is not None]
    return found if len(found) == len(parts) else []


def _parse(text: str) -> Statement | Naming | None:
    whole, under = text.strip(), ""
    if hit := _UNDER.fullmatch(" ".join(text.split())):
        text, scope = hit["rest"], read_paths(hit["under"])
        if scope is None or len(scope) > 1:
            return None
        under = scope[0]
    if hit := _STATEMENT.fullmatch(" ".join(text.split())):
        paths, said = read_paths(hit["paths"]), _said(hit["said"])
        return Statement(whole, paths, said, under) if paths and said else None
    source, equals, target = text.partition("=")
    here, there = read_paths(source), read_paths(target)
    if not equals or here is None or there is None or min(len(here), len(there)) > 1:
        return None
    if len({*here}) < len(here) or len({*there}) < len(there):  # no part stands in a whole twice
        return None
    return Naming(whole, here, there, under)


def _said(text: str) -> Said | None:
    for about, kind, form in _FORMS:
        if hit := re.fullmatch(form, text):
            groups = hit.groupdict()
            dims = tuple(map(int, groups["dims"].split(","))) if groups.get("dims") else ()
            if sorted(dims) != list(range(len(dims))):
                return None
            parts = tuple((groups.get("parts") or "").split(" then ")) if groups.get("parts") else ()
            sizes = (int(groups.get(name) or 0) for name in ("size", "rotated"))
            rotary = next((k for k, words in _ROTARY.items() if words == groups.get("rotary")), "")
            fold = groups.get("fold_from") or "", groups.get("fold_to") or ""
            if kind == "folded" and (fold[0] == fold[1] or any(len(set(way)) < len("c,h,w") - 1 for way in fold)):
                return None
            return Said(about, kind, next(sizes), groups.get("end") or "", dims, parts, next(sizes), rotary, fold)
    return None
