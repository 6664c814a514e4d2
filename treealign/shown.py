"""Results print as the command line prints them, and stand in a notebook as HTML.

What renders them stands on the highest floor; the package puts it in place (`treealign/__init__.py`), so that no floor
here knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_renderers: dict[str, Callable[[Any], str]] = {}


def render_with(text: Callable[[Any], str], html: Callable[[Any], str]) -> None:
    """What makes the text, and the HTML, of a result."""
    _renderers.update(text=text, html=html)


class Shown:
    """A result whose `str` is for people; its `repr` stays short, or is Python."""

    __slots__ = ()

    def __str__(self) -> str:
        return _renderers["text"](self) if _renderers else repr(self)

    def _repr_html_(self) -> str:
        return _renderers["html"](self)
