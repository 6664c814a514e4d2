"""The questions that a mapping carries: as data, as JSON, and as lines of a message."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from treealign.mapping.key_sets import count_keys, expand_keys

ABOUT = ("names", "belongs", "order", "rows", "axes")
SHOWN, SHOWN_KEYS = 20, 4


@dataclass(frozen=True)
class OpenOption:
    """One way in which it can be.

    Attributes
    ----------
    text : str
        What it says.
    hint : str
        What chooses it, given to `treealign.suggest` as one of its hints.
    """

    text: str
    hint: str


@dataclass(frozen=True)
class OpenQuestion:
    """One decision that a person can check, about one aspect.

    Attributes
    ----------
    about : str
        One of `ABOUT`.
    checkpoint, model : tuple of str
        The keys in question, folded as `fold_keys` does; in the names of the suggestion, also in a reversed mapping.
    why : str
        Why it is open.
    options : tuple of OpenOption
        What it can be; the first is what the mapping does.
    settled_by : tuple of str
        What would settle it.
    """

    about: str
    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    why: str = ""
    options: tuple[OpenOption, ...] = ()
    settled_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.about}: {_side(self.checkpoint)} -> {_side(self.model)}"


def question_lines(questions: Iterable[OpenQuestion], limit: int = SHOWN) -> Iterator[str]:
    """Questions for a message: the keys, why, then each option with its hint on a line to be pasted below it."""
    listed = list(questions)
    for number, question in enumerate(listed[:limit], 1):
        yield f"{number}. {question}"
        yield from [f"     {question.why}"] if question.why else []
        yield from _option_lines(question.options)
    if len(listed) > limit:
        yield f"… and {len(listed) - limit} more"


def _option_lines(options: Iterable[OpenOption]) -> Iterator[str]:
    for at, option in enumerate(options):
        yield f"     {'guessed' if at == 0 else 'or':<8} {option.text}".rstrip()
        if option.hint:
            yield f"{'':14}--hint {quoted(option.hint)}"


def quoted(hint: str) -> str:
    """For pasting into a shell, and mostly into Python too."""
    return shlex.quote(hint) if "'" in hint else f"'{hint}'"


def _side(patterns: tuple[str, ...]) -> str:
    if not patterns:
        return "nothing"
    rest = patterns[SHOWN_KEYS:]
    more = [f"{count_keys(rest):,} more keys"] if rest else []
    return ", ".join([*patterns[:SHOWN_KEYS], *more])


def question_to_data(question: OpenQuestion) -> dict[str, Any]:
    """A question as plain JSON data; empty fields are left out."""
    return {name: value for name, value in asdict(question).items() if value}


def question_from_data(data: Any, at: str, reasons: list[str]) -> OpenQuestion | None:
    """A question from `question_to_data`; what is wrong with it is added to `reasons`, each with `at`."""
    found = list(_faults(data)) if isinstance(data, dict) else ["it is no object"]
    if found:
        reasons += [f"{at}: {reason}" for reason in found]
        return None
    options = tuple(OpenOption(option["text"], option.get("hint", "")) for option in data.get("options", ()))
    checkpoint, model, settled_by = (tuple(data.get(name, ())) for name in ("checkpoint", "model", "settled_by"))
    return OpenQuestion(data["about"], checkpoint, model, data.get("why", ""), options, settled_by)


def _faults(data: dict[str, Any]) -> Iterator[str]:
    yield from (f"unknown field `{name}`" for name in data if name not in OpenQuestion.__dataclass_fields__)
    if data.get("about") not in ABOUT:
        yield f"`about` is none of {', '.join(ABOUT)}"
    if not isinstance(data.get("why", ""), str):
        yield "`why` is no text"
    for name in ("checkpoint", "model", "settled_by"):
        if not _texts(data.get(name, [])):
            yield f"`{name}` is no list of texts"
        elif name != "settled_by" and not _are_patterns(data.get(name, [])):
            yield f"`{name}` holds a text that is no folded key"
    if not (isinstance(options := data.get("options", []), list) and all(map(_is_option, options))):
        yield "`options` is no list of objects with `text` and `hint`"


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def _is_option(value: Any) -> bool:
    return (
        isinstance(value, dict) and "text" in value and value.keys() <= {"text", "hint"} and _texts([*value.values()])
    )


def _are_patterns(texts: Iterable[str]) -> bool:
    try:
        next(expand_keys(texts), None)
        count_keys(texts)
    except ValueError:
        return False
    return True
