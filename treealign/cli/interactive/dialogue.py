"""What each key does: a dialogue is a value, and a key makes another one of it.

Nothing is ever undone: going back is going on with the suggestion from before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from treealign.errors import TreealignError
from treealign.mapping.marking import AnyQuestion

Identity: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Dialogue:
    """Where a dialogue stands.

    Attributes
    ----------
    suggestion : Suggestion
        With all answers so far.
    skipped : frozenset
        The questions that were put off.
    before : Dialogue or None
        Where it stood before the last answer, or before the last question was skipped.
    answered : int
        How many answers were given.
    note : str
        What there is to say about the last key.
    helping : bool
        Whether help is shown in place of the question.
    left : bool
        Whether the person has had enough for now.
    """

    suggestion: Any
    skipped: frozenset[Identity] = frozenset()
    before: Dialogue | None = None
    answered: int = 0
    note: str = ""
    helping: bool = False
    left: bool = False

    @property
    def pending(self) -> list[AnyQuestion]:
        """The questions that are still to be asked."""
        return [question for question in self.suggestion.questions if identity(question) not in self.skipped]

    @property
    def question(self) -> AnyQuestion | None:
        """The question to ask now; None when there is none, or the dialogue was left."""
        return next(iter(self.pending), None) if not self.left else None

    def press(self, key: str) -> Dialogue:
        """What a key makes of the dialogue; a key that means nothing only leaves a note."""
        question = self.question
        if question is None:
            return self
        if self.helping:
            return replace(self, helping=False, note="")
        moves = {"n": self._answer_none, "b": self._back, "s": self._skip, "q": self._quit, "?": self._help}
        if key in moves:
            return moves[key](question)
        if key.isdecimal() and key.isascii() and 1 <= int(key) <= len(question.options):
            return self._answer(question, question.options[int(key) - 1])
        return replace(self, note=f"no such key here: 1 to {len(question.options)}, n, b, s, q or ?")

    def _answer(self, question: AnyQuestion, option: Any) -> Dialogue:
        try:
            known = self.suggestion.answer(question, option)
        except TreealignError as error:
            return replace(self, note="; ".join(["that cannot be", error.what, *error.facts[:2]]))
        if identity(question) in map(identity, known.questions):  # it would be asked for ever
            return replace(self._skip(question), note="that answer settles nothing here; the question was put off")
        return Dialogue(known, self.skipped, self, self.answered + 1)

    def _answer_none(self, question: AnyQuestion) -> Dialogue:
        return self._answer(question, None)

    def _skip(self, question: AnyQuestion) -> Dialogue:
        skipped = self.skipped | {identity(question)}
        return replace(self, skipped=skipped, before=self, note="")

    def _back(self, _: AnyQuestion) -> Dialogue:
        if self.before is None:
            return replace(self, note="this is the first question")
        return replace(self.before, note="")

    def leave(self) -> Dialogue:
        """The dialogue as it stands, with no more to ask."""
        return replace(self, left=True, note="")

    def _quit(self, _: AnyQuestion) -> Dialogue:
        return self.leave()

    def _help(self, _: AnyQuestion) -> Dialogue:
        return replace(self, helping=True, note="")


def identity(question: AnyQuestion) -> Identity:
    """What makes two questions of two suggestions the same one: an answer elsewhere may leave other options."""
    hints = tuple(option.hint for option in question.options)
    return question.about, tuple(question.checkpoint), tuple(question.model), hints
