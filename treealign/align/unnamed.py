"""Averages kept as a list: ``shadow_params.0``, ``shadow_params.1``, … are a model's parameters in their order.

The number of an entry is the place of its parameter in ``model.parameters()``, and nothing else is known of it. So the
list is read under the names of the other side only where all of it fits: as many tensors as that side has parameters,
each of its parameter's shape, in the order of definition.

Sources: torch_ema `ema.py` and diffusers `training_utils.py` (``EMAModel``): ``shadow_params`` over ``parameters()``.
"""

from __future__ import annotations

from treealign.align.spelling import respelled
from treealign.tree.keytree import KeyTree

FRONT = "shadow_params"


def with_names(listed: KeyTree, other: KeyTree) -> KeyTree:
    """The tree with the names of the other side for the entries of a list; as it is where they do not all fit."""
    found = {int(number): leaf for leaf in listed.leaves if (number := _number(leaf.key)) is not None}
    if len(found) < 2 or len(found) != len(listed) or sorted(found) != list(range(len(found))) or not other.ordered:
        return listed
    parameters = [leaf for leaf in other.leaves if leaf.kind == "parameter" and leaf.key not in other.tied]
    if [leaf.shape for leaf in parameters] != [found[at].shape for at in range(len(found))]:
        return listed
    names = {found[at].key: leaf.key for at, leaf in enumerate(parameters)}
    return respelled(listed, [names[key] for key in listed.keys])


def _number(key: str) -> str | None:
    front, _, number = key.rpartition(".")
    return number if front.rpartition(".")[2] == FRONT and number.isdecimal() else None
