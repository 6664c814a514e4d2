"""Who may act on a guess: nobody, until each question is answered or the guesses are accepted as they are.

A mapping that was suggested realises the best guess, also where names and shapes leave several. So it carries what is
open, wherever it goes; accepting is kept in it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from treealign.errors import OpenQuestionsError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.key_sets import expand_keys, fold_keys
from treealign.mapping.open_questions import OpenOption, OpenQuestion, question_lines, quoted

ACCEPTING = "or take the guesses as they are: mapping.accept(), or --accept-guesses"


class AnyQuestion(Protocol):
    """What is asked of a question; see `treealign.suggestion`."""

    @property
    def about(self) -> str:
        """One of `ABOUT`."""

    @property
    def checkpoint(self) -> tuple[str, ...]:
        """Keys of the checkpoint."""

    @property
    def model(self) -> tuple[str, ...]:
        """Keys of the model."""

    @property
    def why(self) -> str:
        """Why it is open."""

    @property
    def options(self) -> tuple[Any, ...]:
        """The options, the guess first."""

    @property
    def settled_by(self) -> tuple[str, ...]:
        """What would settle it."""


def mapping_with_questions(
    mapping: ConversionMapping, questions: Iterable[AnyQuestion], answers: Iterable[str] = ()
) -> ConversionMapping:
    """A mapping that says what in it is a guess.

    Parameters
    ----------
    mapping : ConversionMapping
        The best guess.
    questions : iterable
        What is open, with the attributes of `OpenQuestion`; their keys are written out.
    answers : iterable of str
        What settled others: the hints that were given, and what a probe said.
    """
    return ConversionMapping(mapping, questions=map(_folded, questions), answers=answers)


def _folded(question: AnyQuestion) -> OpenQuestion:
    options = tuple(OpenOption(option.text, option.hint) for option in question.options)
    sides = fold_keys(question.checkpoint), fold_keys(question.model)
    return OpenQuestion(question.about, *sides, question.why, options, tuple(question.settled_by))


def keys_in_question(mapping: ConversionMapping) -> frozenset[str]:
    """Keys of either side that an open question of a mapping speaks of."""
    return frozenset(key for one in mapping.questions for key in expand_keys((*one.checkpoint, *one.model)))


def refuse_open(mapping: ConversionMapping, outcome: str, where: str = "") -> None:
    """Refuse a mapping that holds guesses.

    Parameters
    ----------
    mapping : ConversionMapping
        What is to be used.
    outcome : str
        What has not been done: "nothing was loaded".
    where : str
        The file it was read from, or what it was to be used on.

    Raises
    ------
    OpenQuestionsError
        Some questions are open; the message lists them, with the options of each and the hints that choose them.
    """
    if mapping.questions:
        count = len(mapping.questions)
        raise OpenQuestionsError(
            f"the mapping still guesses: {count} question{'s are' if count > 1 else ' is'} open; {outcome}",
            where=where,
            facts=question_lines(mapping.questions),
            hint=answering(mapping.questions),
        )


def mapping_source(given: Any) -> str:
    """The file that a mapping is read from, if it is given as one."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else ""


def answering(questions: Iterable[OpenQuestion]) -> str:
    """How to go on: answer or, on a line of its own, accept."""
    return f"{_settling(questions)},\n  {ACCEPTING}"


def _settling(questions: Iterable[OpenQuestion]) -> str:
    firsts = [next((option.hint for option in question.options if option.hint), "") for question in questions]
    hints = [quoted(hint) for hint in firsts if hint]
    if not hints:
        return "settle them by equal values on both sides or a probe, or write the mapping yourself"
    listed = ", ".join([*hints[:1], *["…"] * (len(hints) > 1)])
    return f"answer each by one of its --hint lines, in Python suggest(…, hints=[{listed}]), or with --interactive"
