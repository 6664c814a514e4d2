"""`read_mapping`: rules of another loader as a conversion mapping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from treealign.dialects.registry import find, function
from treealign.errors import TreealignError
from treealign.tree.reading import read_tree


def read_mapping(
    source: Any,
    dialect: str = "transformers",
    keys: Iterable[str] | None = None,
    checkpoint: Any = None,
    model: Any = None,
) -> Any:
    """Read what `treealign.emit` writes, and what people wrote by hand.

    Parameters
    ----------
    source
        What the dialect is given as: for transformers a model type or class name of its registry, a list of its rules,
        a ``key_mapping``, or a model, for all the rules by which it is loaded.
    dialect : str
        As in `treealign.emit`.
    keys : iterable of str, optional
        Keys of a checkpoint, for rules whose meaning depends on them.
    checkpoint : optional
        Whatever `read_tree` takes, in place of keys: code is run on its shapes, which also say what vLLM stacks. Rules
        of transformers are then read by what they do to it, those that convert tensors among them, with sizes; see
        `treealign.dialects.transformers.reader.read_rules`.
    model : optional
        The model that rules of transformers are for.

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
    if dialect == "transformers":
        return function(spoken.read)(source, keys, checkpoint, model)
    return function(spoken.read)(source, keys if checkpoint is None else read_tree(checkpoint))
