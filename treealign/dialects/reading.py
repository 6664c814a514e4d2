"""`read_mapping`: rules of another loader as a conversion mapping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from treealign.dialects.registry import find, function
from treealign.errors import TreealignError


def read_mapping(source: Any, dialect: str = "transformers", keys: Iterable[str] | None = None) -> Any:
    """Read what `treealign.emit` writes, and what people wrote by hand.

    Parameters
    ----------
    source
        What the dialect is given as: for transformers a model type or class name of its registry, a list of its rules,
        or a ``key_mapping``.
    dialect : str
        As in `treealign.emit`.
    keys : iterable of str, optional
        Keys of a checkpoint, for rules whose meaning depends on them.

    Returns
    -------
    Reading
        With `mapping`, and with `unread`: the rules that are no key patterns and why. Its `run` runs all of them.

    Raises
    ------
    TreealignError
        The dialect cannot be read, or holds nothing of that name.
    """
    spoken = find(dialect)
    if not spoken.read:
        raise TreealignError(f"{dialect} cannot be read back")
    return function(spoken.read)(source, keys)
