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
``gate_up: halves swapped``                             the second half comes first on the other side
``proj: axes as stored``, ``axes transposed``           which way round a matrix stands
``kernel: axes 3,2,0,1``                                the model's dimensions, each by its number in the checkpoint
``ema.norm: not in the model``                          keys of the checkpoint that belong to nothing
``pos_ids: not in the checkpoint``                      keys of the model that nothing fills
``a=b and c=d``                                         both: several hints as one
======================================================  ================================================================

A path is a run of names that stand one after the other, wherever it occurs; ``^`` in front: at the root; ``$`` behind:
at the end; ``{i}``: any index. Several paths are separated by commas. ``… under PATH`` at the end of any hint keeps it
to the keys that have this path too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from treealign.align.paths import fits
from treealign.align.patterns import Pattern, single_leaves
from treealign.align.reasons import About
from treealign.errors import TreealignError

Hints = Mapping[str, str] | Sequence[str] | str | None
End = Literal["checkpoint", "model"]
_HEADS = r"heads of (?P<size>[1-9][0-9]*)(?:, (?P<rotated>[1-9][0-9]*) rotated)?"
_ROTARY = {"to half split": "from interleaved to half split", "to interleaved": "from half split to interleaved"}
_BESIDES = f"(?:, (?P<rotary>{'|'.join(_ROTARY.values())}))?"
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
    ("rows", "swapped", r"halves swapped"),
    ("axes", "as stored", r"axes as stored"),
    ("axes", "transposed", r"axes transposed"),
    ("axes", "permuted", r"axes (?P<dims>[0-9]+(?:,[0-9]+)+)"),
    ("belongs", "unused", r"not in the model"),
    ("belongs", "unfilled", r"not in the checkpoint"),
)
_STATEMENT = re.compile(r"(?P<paths>\S+): (?P<said>.+)", re.ASCII)
_UNDER = re.compile(r"(?P<rest>.+?) under (?P<under>\S+)", re.ASCII)
_WORDS = ("order ", "indices ", "rows ", "halves ", "axes ", "not in ")
EXAMPLE = (
    "write --hint 'attn_norm=input_layernorm', names of the checkpoint, then of the model; "
    "'qkv=q_proj,k_proj,v_proj', a whole and its parts in their order, on either side; "
    "or 'q_proj,k_proj: rows as stored', paths and what is so with them"
)


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
    """

    about: About
    kind: str
    size: int = 0
    end: str = ""
    dims: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()
    rotated: int = 0
    rotary: str = ""

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
    if hit := _UNDER.fullmatch(text.strip()):
        text, under = hit["rest"], hit["under"]
    hit = _STATEMENT.fullmatch(text.strip())
    if hit and hit["said"].startswith(_WORDS):
        said = _said(hit["said"].strip())
        return None if said is None else Statement(whole, tuple(hit["paths"].split(",")), said, under)
    sides = [tuple(name.strip() for name in side.split(",")) for side in text.split("=", 1)]
    if len(sides) != 2 or not all(part for side in sides for name in side for part in name.split(".")):
        return None
    return None if min(map(len, sides)) > 1 else Naming(whole, sides[0], sides[1], under)


def _said(text: str) -> Said | None:
    for about, kind, form in _FORMS:
        if hit := re.fullmatch(form, text):
            groups = hit.groupdict()
            dims = tuple(map(int, groups["dims"].split(","))) if groups.get("dims") else ()
            parts = tuple((groups.get("parts") or "").split(" then ")) if groups.get("parts") else ()
            sizes = (int(groups.get(name) or 0) for name in ("size", "rotated"))
            rotary = next((k for k, words in _ROTARY.items() if words == groups.get("rotary")), "")
            return Said(about, kind, next(sizes), groups.get("end") or "", dims, parts, next(sizes), rotary)
    return None


def read(hints: Hints, left: Sequence[Pattern], right: Sequence[Pattern]) -> list[Statement | Naming]:
    """Parse hints and check that each names something on the sides it speaks of; all complaints at once.

    Raises
    ------
    TreealignError
        A hint of no form of the language, one that names nothing, or two that contradict each other.

    """
    found: list[Statement | Naming] = []
    wrong: list[str] = []
    for text in listed(hints):
        made = parse(text) if isinstance(text, str) else []
        wrong += [] if made else [f"`{text}` is not of the form checkpoint=model, nor paths: what is so with them"]
        wrong += [complaint for hint in made for complaint in _unnamed(hint, left, right)]
        found += made
    wrong += [] if wrong else _contradictions(found, left, right)
    if wrong:
        raise TreealignError("hints that cannot be used", facts=list(dict.fromkeys(wrong)), hint=EXAMPLE)
    return list(dict.fromkeys(found))


def _unnamed(hint: Statement | Naming, left: Sequence[Pattern], right: Sequence[Pattern]) -> list[str]:
    sides = (left, "checkpoint"), (right, "model")
    if isinstance(hint, Naming):
        ends = zip((hint.source, hint.target), sides, strict=True)
        wanted = [(path, side, name) for paths, (side, name) in ends for path in paths]
    else:
        kinds = {"unused": sides[:1], "unfilled": sides[1:]}.get(
            hint.said.kind, (([*left, *right], "checkpoint or the model"),)
        )
        wanted = [(path, side, name) for path in hint.paths for side, name in kinds]
    if hint.under:
        wanted.append((hint.under, [*left, *right], "checkpoint or the model"))
    return [f"`{path}` names nothing in the {name}" for path, side, name in wanted if not _names(path, side)]


def _names(path: str, side: Sequence[Pattern]) -> bool:
    """Whether a path names a leaf; repeats that it lists may stand in one pattern with others, or in several."""
    leaves = (leaf for p in side for leaf in single_leaves(p)) if ":" in path else ()
    return any(fits(path, p) for p in side) or any(fits(path, leaf) for leaf in leaves)


def _contradictions(
    hints: Sequence[Statement | Naming], left: Sequence[Pattern], right: Sequence[Pattern]
) -> list[str]:
    statements = [h for h in hints if isinstance(h, Statement)]
    names = [h for h in hints if isinstance(h, Naming) and len(h.source) == len(h.target) == 1]
    wrong = []
    for n, one in enumerate(statements):
        for other in statements[:n]:
            if other.said.about == one.said.about and other.said != one.said:
                both = next((p for p in (*left, *right) if _both_speak_of(one, other, p)), None)
                wrong += [f"`{other.text}` and `{one.text}` both speak of `{both.template}`"] if both else []
    for n, hint in enumerate(names):
        for before in names[:n]:
            if hint.under == before.under and _contradict(before, hint, left, right):
                wrong.append(f"`{before.text}` and `{hint.text}` cannot both hold")
    return wrong


def _both_speak_of(one: Statement, other: Statement, p: Pattern) -> bool:
    """Whether two statements are about one leaf of a pattern: each may be about some of its repeats."""
    leaves = single_leaves(p) if one.speaks_of(p) and other.speaks_of(p) else ()
    return any(one.speaks_of(leaf) and other.speaks_of(leaf) for leaf in leaves)


def _contradict(a: Naming, b: Naming, left: Sequence[Pattern], right: Sequence[Pattern]) -> bool:
    """Whether one name of the one side is said to be two of the other, neither of which stands within the other."""
    for same, other, side in ((0, 1, right), (1, 0, left)):
        mine = [(h.source[0], h.target[0]) for h in (a, b)]
        if mine[0][same] == mine[1][same] and mine[0][other] != mine[1][other]:
            ends = [h[other].split(".") for h in mine]
            short, long = sorted(ends, key=len)
            if any(long[at : at + len(short)] == short for at in range(len(long) - len(short) + 1)):
                continue
            if not any(fits(mine[0][other], p) and fits(mine[1][other], p) for p in side):
                return True
    return False
