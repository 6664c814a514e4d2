"""Hints as a person gives them, read and checked: each names something, and none contradicts another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidfuzz.fuzz import ratio
from rapidfuzz.process import extractOne

from treealign.align.hints import FORMS, Hints, Naming, Statement, listed, parse
from treealign.align.paths import CAPTURES, fits
from treealign.align.patterns import Pattern, single_leaves
from treealign.align.words import without_wrappers
from treealign.errors import TreealignError, look_alikes

EXAMPLE = (
    "write --hint 'attn_norm=input_layernorm', names of the checkpoint, then of the model; "
    "'qkv=q_proj,k_proj,v_proj', a whole and its parts in their order, on either side; "
    "or 'q_proj,k_proj: rows as stored', paths and what is so with them"
)
NAMES = "`treealign show CHECKPOINT` and `treealign show MODEL` list the names of each side"
CHOICE = "keep the one of the two that is right"


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
        wrong += [] if made else [_no_form(text)]
        complaints = [complaint for hint in made for complaint in _unnamed(hint, left, right)]
        bare = parse(without_wrappers(text)) if complaints else []  # trees are read without what wrappers add
        if bare and not any(_unnamed(hint, left, right) for hint in bare):
            made, complaints = bare, []
        wrong += complaints
        found += made
    formless = not all(isinstance(text, str) and parse(text) for text in listed(hints))
    hint = EXAMPLE if formless else NAMES if wrong else CHOICE
    wrong += [] if wrong else _contradictions(found, left, right)
    if wrong:
        raise TreealignError("hints that cannot be used", facts=list(dict.fromkeys(wrong)), hint=hint)
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
    return [
        f"`{path}` names nothing in the {name}{_but_there(path, name, sides) or _close(path, side)}"
        for path, side, name in wanted
        if not _names(path, side)
    ]


def _but_there(path: str, name: str, sides: Sequence[tuple[Sequence[Pattern], str]]) -> str:
    """That the other side has what is sought on this one."""
    for side, other in sides:
        if name in ("checkpoint", "model") and other != name and _names(path, side):
            return f", but in the {other}: names of the checkpoint stand first"
    return ""


def _close(path: str, side: Sequence[Pattern]) -> str:
    """What of this side is spelled much like it."""
    wanted = path.removeprefix("^").removesuffix("$")
    length = wanted.count(".") + 1
    names = [_lettered(p.template).split(".") for p in side]
    runs = (".".join(segments[at : at + length]) for segments in names for at in range(len(segments) - length + 1))
    return "".join(f"; {close}" for close in look_alikes(wanted, dict.fromkeys(runs)))


def _lettered(template: str) -> str:
    """A folded name with a letter for each index, as hints have it."""
    for letter in CAPTURES:
        template = template.replace("{}", f"{{{letter}}}", 1)
    return template


def _no_form(text: Any) -> str:
    """That a hint is of no form, and which form of a statement is the most similar."""
    told = f"`{text}` is not of the form checkpoint=model, nor paths: what is so with them"
    said = str(text).rpartition(": ")[2] if ": " in str(text) else ""
    near = extractOne(said, FORMS, scorer=ratio, score_cutoff=60) if said else None
    return f"{told}, such as `{near[0]}`" if near else told


def _names(path: str, side: Sequence[Pattern]) -> bool:
    """Whether a path names a leaf; repeats that it lists may stand in one pattern with others, or in several."""
    leaves = (leaf for p in side for leaf in single_leaves(p)) if ":" in path else ()
    return any(fits(path, p) for p in side) or any(fits(path, leaf) for leaf in leaves)


def _contradictions(
    hints: Sequence[Statement | Naming], left: Sequence[Pattern], right: Sequence[Pattern]
) -> list[str]:
    """Hints of which one or the other is wrong, whatever the shapes are, as complaints."""
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
