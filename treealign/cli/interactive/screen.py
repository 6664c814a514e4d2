"""What is shown: a question with its options side by side, cut to the lines and columns that there are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

from treealign.cli.console import plural
from treealign.cli.interactive.dialogue import Dialogue
from treealign.formats.legible import legible
from treealign.mapping.marking import AnyQuestion
from treealign.tree.fold import fold, fold_names

ASKS = {
    "names": "which is which",
    "belongs": "does it belong to anything",
    "order": "in which order do the parts stand",
    "rows": "in which order do the rows stand",
    "axes": "which way do the axes run",
}
HELP = (
    "Names and shapes leave something open; each screen asks one such thing.",
    "",
    "1 to 6   it is as this option says; the first is the best guess",
    "n        none of these: the keys are then missing or unexpected",
    "b        back: the last answer, or skip, is as if it had not been",
    "s        skip: leave it open; the mapping says that it is a guess there",
    "q        quit: what was answered is kept, and how to go on is printed",
    "",
    "An answer holds for every place where the same doubt recurs, and may settle",
    "other questions with it. It is the same as giving the option's hint as --hint.",
    "",
    "Do not know? Skip, and let something else settle it: the weights of both sides",
    "(--values), or a probe that runs the model (suggest(…, probe=…) in Python).",
)
KEY_LINES, WHY_LINES, GAP = 3, 3, 2
Pair: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


def screen_lines(dialogue: Dialogue, width: int, height: int) -> list[str]:
    """The screen for where a dialogue stands: at most `height` lines of at most `width` columns, the keys last."""
    question = dialogue.question
    if question is None:
        return []
    if dialogue.helping:
        return _cut([*_wrapped(HELP, width), "", "any key goes back to the question"], width, height)
    head = [*_title(dialogue, question, width), *_keys(question, width), *_why(question, width), ""]
    foot = ["", *([_short(dialogue.note, width)] if dialogue.note else []), _menu(question, width)]
    room = height - len(head) - len(foot)
    return [*_cut([*head, *_options(question, width, room)], width, height - len(foot)), *foot]


def _title(dialogue: Dialogue, question: AnyQuestion, width: int) -> list[str]:
    done = dialogue.answered + len(dialogue.skipped)
    title = f"question {done + 1} of {done + len(dialogue.pending)}  {question.about}: {ASKS[question.about]}?"
    counts = f"{dialogue.answered} answered, {len(dialogue.skipped)} skipped"
    return [f"{title:<{width - len(counts) - 1}} {counts}" if len(title) + len(counts) < width else title, ""]


def _keys(question: AnyQuestion, width: int) -> list[str]:
    sides = (("checkpoint", question.checkpoint), ("model", question.model))
    return [line for role, keys in sides for line in _side(role, keys, width)]


def _side(role: str, keys: Sequence[str], width: int) -> list[str]:
    names = folded(keys, KEY_LINES) or ["nothing"]
    return [f"{role if at == 0 else '':<11} {_short(name, width - 12)}" for at, name in enumerate(names)]


def folded(keys: Iterable[str], limit: int) -> list[str]:
    """Keys on a few lines, repeats folded; the last line counts those that are left out."""
    names = fold_names(keys, limit)
    if len(names) > limit:
        names = [*fold_names(keys, limit - 1)] if limit > 1 else names[:limit]
    return [legible(name) for name in names]


def _why(question: AnyQuestion, width: int) -> list[str]:
    return _limited(textwrap.wrap(f"why         {question.why}", width, subsequent_indent=" " * 12), WHY_LINES)


def _menu(question: AnyQuestion, width: int) -> str:
    count = len(question.options)
    keys = f"1-{count} answer" if count > 1 else "1 answer"
    long = f"{keys}  n none of these  b back  s skip  q quit, go on later  ? help"
    return long if len(long) <= width else _short(f"1-{count} n b s q ?", width)


def _options(question: AnyQuestion, width: int, room: int) -> list[str]:
    """The options beside one another, in as many rows of them as it takes, then the hints that choose them."""
    columns = columns_for(len(question.options), width)
    pairs = _differences(question.options)
    wide = (width + GAP) // columns - GAP
    inside = question.about in ("rows", "axes")  # of the same matches
    cells = [_cell(at, option, () if inside else pairs[at], wide) for at, option in enumerate(question.options)]
    hints = [f"hint {at + 1}  {option.hint}" for at, option in enumerate(question.options) if option.hint]
    hints = ["", *hints] if hints and room - len(hints) - 1 >= 4 * -(-len(cells) // columns) else []
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    tall = max(2, (room - len(hints) - len(rows) + 1) // len(rows))
    lines: list[str] = []
    for row in rows:
        lines += [*([""] if lines else []), *_beside([_limited(cell, tall) for cell in row], width, columns)]
    return lines + hints


def _differences(options: Sequence[Any]) -> list[list[Pair]]:
    """What each option matches, without what all of them do: the rest is not what is asked."""
    made = [[(match.checkpoint, match.model) for match in getattr(option, "matches", ())] for option in options]
    common = set.intersection(*map(set, made)) if len(made) > 1 else set()
    return [[pair for pair in pairs if pair not in common] for pairs in made]


def columns_for(count: int, width: int) -> int:
    """How many options stand beside one another: four as two by two, five and six as rows of three, where they fit."""
    wished = 2 if count == 4 else min(count, 3)
    return max(1, min(wished, width // 24))


def _beside(cells: Sequence[Sequence[str]], width: int, columns: int) -> list[str]:
    wide = (width + GAP) // columns
    return ["".join(f"{text:<{wide}}" for text in line).rstrip() for line in zip_longest(*cells, fillvalue="")]


def _cell(at: int, option: Any, pairs: Sequence[Pair], width: int) -> list[str]:
    """An option: its number, what it says, and what it matches that others do not; pairs of names not twice."""
    first = f"[{at + 1}]{'  best guess' if at == 0 else ''}"
    spelled = re.sub(r"[\^=;]| and |->", " ", option.hint).split() == re.sub(r"[\^=;]|->", " ", option.text).split()
    return [first, *([] if spelled and pairs else _worded(option.text, width)), *_matched(pairs, width)]


def _worded(text: str, width: int) -> list[str]:
    """Text on lines, keys that are longer than one broken at their dots."""
    lines = [""]
    for word in text.split():
        first, *more = _broken(word, width)
        if lines[-1] and len(lines[-1]) + 1 + len(first) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {first}".lstrip()
        lines += more
    return lines


def _matched(pairs: Sequence[Pair], width: int) -> list[str]:
    """Matches that repeat one another, folded: from, and to."""
    alike: dict[tuple[frozenset[str], ...], tuple[list[str], list[str]]] = {}
    for pair in pairs:
        group = alike.setdefault(tuple(frozenset(f.template for f in fold(side)) for side in pair), ([], []))
        for keys, side in zip(group, pair, strict=True):
            keys.extend(side)
    lines: list[str] = []
    for left, right in alike.values():
        there, here = ([line for n in folded(keys, 2) for line in _broken(n, width - 3)] for keys in (left, right))
        lines += [f"  {line}" for line in there]
        lines += [f"{'->' if n == 0 else '  '} {line}" for n, line in enumerate(here)]
    return lines


def _broken(key: str, width: int) -> list[str]:
    """A key on as many lines as it takes, broken at its dots."""
    lines = [""]
    for segment in key.replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(segment) > width:
            lines.append("")
        lines[-1] += segment
    return [_short(line, width) for line in lines]


def _wrapped(lines: Iterable[str], width: int) -> list[str]:
    return [part for line in lines for part in (textwrap.wrap(line, width, subsequent_indent=" " * 9) or [""])]


def _limited(lines: Sequence[str], limit: int) -> list[str]:
    return list(lines) if len(lines) <= limit else [*lines[: limit - 1], "…"]


def _cut(lines: Sequence[str], width: int, height: int) -> list[str]:
    return [_short(line, width) for line in lines[:height]]


def _short(text: str, width: int) -> str:
    """A line cut in the middle where it is too long: both ends of a key say most."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[len(text) - half :]}"


def outcome(dialogue: Dialogue) -> str:
    """What came of it, in one sentence."""
    left = len(dialogue.suggestion.questions)
    rest = f"{plural(left, 'question')} {'is' if left == 1 else 'are'} open" if left else "nothing is open"
    return f"{plural(dialogue.answered, 'answer')} given, {rest}"
