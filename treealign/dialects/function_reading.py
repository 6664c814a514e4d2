"""From code: what a function makes of state dicts, as a conversion mapping, by running it on numbers.

A `checkpoint_filter_fn` of timm, the `from_hf` of a torchtitan adapter or a function of one's own is no list of rules.
But given a checkpoint of its names and shapes in which no number stands twice, what it gives shows where every number
went. What it computes rather than moves, makes up or drops is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from math import prod
from typing import Any, TypeAlias

from treealign.dialects.regex_reading import Reading
from treealign.errors import MappingError, TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.suggestion import Suggestion, suggest
from treealign.tree.keytree import KeyTree, Leaf
from treealign.tree.reading import read_tree

MOST = 1 << 30  # numbers
_DROPPED = "it is dropped"
_MADE_UP = "it is made of nothing that the checkpoint holds"
_COMPUTED = "it is computed, not moved"
_SMALL = "pass a small checkpoint of the same names"

State: TypeAlias = dict[str, Any]


def read_function(source: Any, keys: Any = None) -> Reading:
    """What a function does with a checkpoint, as a conversion mapping.

    Parameters
    ----------
    source : callable, or an object with ``from_hf``
        From the checkpoint's state dict to the model's. Of a filter that also takes the model,
        ``functools.partial(filter, model=model)``.
    keys : KeyTree, or anything `read_tree` takes
        A checkpoint that it is for: its names and shapes.

    Returns
    -------
    Reading
        The mapping has been run on the same numbers and gives just what the function gives, but for the keys that
        `unread` lists with the reason: those of the checkpoint that it drops, those of the model that it computes or
        makes up.

    Raises
    ------
    TreealignError
        There is no function, no shapes are given, or they are too large to be filled with numbers.
    """
    function: Callable[[State], Mapping[str, Any]] = getattr(source, "from_hf", source)
    if not callable(function):
        raise TreealignError("no function on state dicts", facts=[repr(source)])
    state = dict(_numbers(_tree(keys)))
    made = dict(function({key: tensor.clone() for key, tensor in state.items()}))
    found, computed = _settled(state, made)
    computed += [mismatch.model for mismatch in found.mismatched_keys]
    reached = {key: match.model[0] for match in found.matches for key in match.checkpoint}
    unread = [(key, _DROPPED) for key in state if key not in reached and key not in made]
    unread += [(key, _COMPUTED if key in computed else _MADE_UP) for key in (*found.missing_keys, *computed)]
    return Reading(found.mapping, tuple(dict.fromkeys(unread)), (source,), reached.get)


def _tree(keys: Any) -> KeyTree:
    if keys is None or (isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys)):
        raise TreealignError("a function is read by running it", hint="pass a checkpoint, whose shapes are needed")
    tree = keys if isinstance(keys, KeyTree) else read_tree(keys)
    unknown = [leaf.key for leaf in tree.leaves if leaf.shape is None]
    count = sum(prod(leaf.shape or ()) for leaf in tree.leaves)
    if unknown or count > MOST:
        facts = unknown[:20] or [f"{count:,} numbers"]
        raise TreealignError("the checkpoint cannot be filled with numbers", facts=facts, hint=_SMALL)
    return tree


def _numbers(tree: KeyTree) -> Iterable[tuple[str, Any]]:
    """A state dict in which each tensor has numbers of its own."""
    torch = import_module("torch")
    drawn = torch.Generator().manual_seed(0)
    for leaf in tree.leaves:
        if _is_whole(leaf):
            yield leaf.key, torch.randint(1 << 62, leaf.shape, generator=drawn)
        else:
            yield leaf.key, torch.randn(leaf.shape, generator=drawn)


def _is_whole(leaf: Leaf) -> bool:
    return (leaf.dtype or "").startswith(("int", "uint", "bool"))


def _settled(state: State, made: State) -> tuple[Suggestion, list[str]]:
    """What numbers show, and the keys that are left out of it since no transform makes them."""
    computed: list[str] = []
    while True:
        left = {key: tensor for key, tensor in made.items() if key not in computed}
        found = suggest(state, left, values=True)
        wrong = _not_made(found, state, left)
        if not wrong:
            return found, computed
        computed += wrong


def _not_made(found: Suggestion, state: State, made: State) -> list[str]:
    """Keys that are matched, and come out of the mapping otherwise or not certainly."""
    torch = import_module("torch")
    unsure = [key for match in found.matches if not match.certain for key in match.model]
    if unsure:
        return unsure
    try:
        results = dict(ConversionMapping(found.mapping).apply(state))
    except MappingError:
        return [key for match in found.matches if match.operations for key in match.model]
    matched = [key for match in found.matches for key in match.model]
    return [key for key in matched if key not in results or not torch.equal(results[key], made[key])]
