"""What treealign raises: what went wrong and where, the facts side by side, and a hint.

Lower floors know nothing of these beyond their constructor; every floor may raise them.
"""

from __future__ import annotations

from collections.abc import Iterable

# what each extra of the package asks for, as pyproject.toml has it
EXTRAS = {
    "transformers": ("transformers>=5.9,<6",),
    "hub": ("huggingface_hub>=1.0", "fsspec>=2023.10", "aiohttp>=3.9"),
    "dask": ("dask>=2024.4", "distributed>=2024.4"),
    "html": ("jinja2>=3.1",),
}


def install_hint(extra: str) -> str:
    """The line that installs what an extra asks for: it works wherever treealign came from.

    >>> print(install_hint("html"))
    pip install 'jinja2>=3.1'
      or, in a clone of treealign: pip install '.[html]'
    """
    wanted = " ".join(f"'{requirement}'" for requirement in EXTRAS[extra])
    return f"pip install {wanted}\n  or, in a clone of treealign: pip install '.[{extra}]'"


def look_alikes(name: str, known: Iterable[str], most: int = 3, least: float = 0.6) -> list[str]:
    """The known names that look like another, as a fact of an error; none where none does.

    >>> look_alikes("q_porj", ["q_proj", "norm"])
    ['close: q_proj']
    """
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import extract

    close = [one for one, *_ in extract(name, list(known), scorer=ratio, limit=most, score_cutoff=100 * least)]
    return [f"close: {', '.join(close)}"] if close else []


_LONGEST = 20_000  # characters of a part of an error: names and patterns in a file may have millions


class TreealignError(Exception):
    """Something the user can act on.

    Parameters
    ----------
    what : str
        One sentence: what is wrong.
    where : str
        The file, key or transform it is wrong in.
    facts : iterable of str
        One line each; all of them, not just the first.
    hint : str
        What to do about it.
    """

    status = 2  # with which the command line ends: 1 for findings, 2 for bad input

    def __init__(self, what: str, *, where: str = "", facts: Iterable[str] = (), hint: str = "") -> None:
        self.what, self.where, self.facts, self.hint = what, where, tuple(facts), hint
        super().__init__(self._text())

    def _text(self) -> str:
        what, hint = _spelled_out(self.what), _spelled_out(self.hint, keep="\n")
        lines = [f"{_spelled_out(self.where)}: {what}" if self.where else what]
        # one line each: a line end in there is of a name in a file, and what follows it could be a command
        lines += [f"  {_spelled_out(fact)}" for fact in self.facts]
        lines += ["", f"hint: {hint}"] if hint else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with every part: errors cross process boundaries."""
        return _rebuild, (type(self), self.what, self.where, self.facts, self.hint)


def _spelled_out(text: str, keep: str = "") -> str:
    """A text without characters that a terminal would act on: names in a file may hold any."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _rebuild(kind: type[TreealignError], what: str, where: str, facts: tuple[str, ...], hint: str) -> TreealignError:
    return kind(what, where=where, facts=facts, hint=hint)


class FormatError(TreealignError):
    """A file that is not what it claims to be."""


class PatternError(TreealignError):
    """A key pattern or transform that cannot be read."""


class MappingError(TreealignError):
    """A conversion mapping that breaks a law, or was made for another model."""


class UndecidedError(MappingError):
    """A checkpoint that does not say whether it was converted already: a question, not a fault of the input."""

    status = 1


class OpenQuestionsError(MappingError):
    """A conversion mapping that still guesses, where a guess must not be acted on."""

    status = 1


class OpenQuestionsWarning(UserWarning):
    """A conversion mapping that still guesses is applied."""


class LoadError(TreealignError):
    """A load or save that was refused before anything was touched."""
