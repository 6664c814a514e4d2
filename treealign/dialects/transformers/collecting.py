"""What transformers makes of the keys of a checkpoint: their names after each renaming, and what converters take.

This is the first half of its `convert_and_load_state_dict_in_model`, run by its own rules, with the names kept, on both
sides that rules are read for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from treealign.dialects.transformers.installed import LOADING
from treealign.dialects.transformers.proving import save
from treealign.dialects.transformers.sides import parts_in
from treealign.dialects.transformers.skeleton import Part, skeleton
from treealign.errors import TreealignError
from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

Names = Mapping[str, str]


@dataclass(frozen=True)
class Taken:
    """Keys that one converter takes together.

    Attributes
    ----------
    rule : int
        The converter.
    first : str
        The name of its first target.
    keys : dict of str to tuple of str
        Source pattern to the keys of the checkpoint, in the order in which transformers collects them.
    """

    rule: int
    first: str
    keys: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Collected:
    """What becomes of the keys of a checkpoint.

    Attributes
    ----------
    stages : tuple of (rule, names)
        Each renaming that touches something, by its position among the rules, with the names of all keys after it.
        Position -1 stands for what loading itself does last: it adds or strips the prefix of the base model.
    ends : dict
        Key to the name that it ends under, of those that no converter takes.
    taken : tuple of Taken
        What converters take.
    own : frozenset of str
        The keys that stay as they are, for want of what the rules make of them.
    """

    stages: tuple[tuple[int, Names], ...]
    ends: Names
    taken: tuple[Taken, ...]
    own: frozenset[str]

    @cached_property
    def touched(self) -> frozenset[int]:
        """The rules that do something."""
        return frozenset({rule for rule, _ in self.stages} | {group.rule for group in self.taken})


def fresh(rule: Any) -> Any:
    """A copy of the rule as it was before it met a key.

    Turned round twice it would not be: `reverse_transform` writes into the patterns of the rule that it reverses, so
    that whatever looks around is gone the second time.
    """
    made = deepcopy(rule)
    made._was_used = False
    made.collected_tensors.clear()
    if hasattr(made, "_active"):
        made._active = None
    return made


def run_one(rule: Any, names: Iterable[str]) -> dict[str, str]:
    """What one rule makes of names, in the order in which transformers meets them."""
    loading, met = import_module(LOADING), fresh(rule)
    return {name: met.rename_source_key(name)[0] for name in sorted(names, key=loading.dot_natural_key)}


def collect(rules: Sequence[Any], keys: Iterable[str], model: Collection[str] | None, prefix: str) -> Collected:
    """Follow keys through rules.

    Parameters
    ----------
    rules : sequence of WeightTransform
        In the order in which transformers has them; they are left as they are.
    keys : iterable of str
        Of the checkpoint.
    model : collection of str, optional
        The keys of the model, which say what is renamed in vain and whether the prefix is to come or to go.
    prefix : str
        The base model's.
    """
    order = import_module(LOADING).dot_natural_key
    given = sorted(keys, key=order)
    stages, names = list[tuple[int, Names]](), {key: key for key in given}
    for at, rule in _numbered(rules, "WeightRenaming"):
        # names that two keys share are seen in the order of their keys
        met = fresh(rule)
        made = {key: met.rename_source_key(names[key])[0] for key in given}
        if made != names:
            stages.append((at, made))
        names = made
    return _ended(rules, given, (stages, names), model, prefix)


def _numbered(rules: Sequence[Any], kind: str) -> list[tuple[int, Any]]:
    wanted = getattr(import_module(LOADING), kind)
    return [(at, rule) for at, rule in enumerate(rules) if isinstance(rule, wanted)]


def _ended(
    rules: Sequence[Any],
    given: Sequence[str],
    renamed: tuple[list[tuple[int, Names]], dict[str, str]],
    model: Collection[str] | None,
    prefix: str,
) -> Collected:
    (stages, names), converters = renamed, [(at, fresh(rule)) for at, rule in _numbered(rules, "WeightConverter")]
    # transformers finds the converter again by the pattern, so that of two that share one the last is taken
    by_pattern = {pattern: at for at, rule in converters for pattern in rule.source_patterns}
    ends, based, own = dict[str, str](), dict(names), set[str]()
    groups: dict[tuple[int, str], dict[str, list[str]]] = {}
    for key in given:
        end, pattern = _converted(converters, names[key])
        moved = _with_prefix(end, model, prefix)
        if model is not None and moved not in model and key in model:
            ends[key], based[key] = key, key
            own.add(key)
            continue
        based[key] = _alike(names[key], end, moved, prefix)
        if pattern is None:
            ends[key] = moved
        else:
            groups.setdefault((by_pattern[pattern], moved), {}).setdefault(pattern, []).append(key)
    if any(based[key] != names[key] for key in given if key not in own):
        stages.append((-1, {key: based[key] if key not in own else names[key] for key in given}))
    taken = [Taken(at, first, {p: tuple(keys) for p, keys in found.items()}) for (at, first), found in groups.items()]
    return Collected(tuple(stages), ends, tuple(taken), frozenset(own))


def _converted(converters: Sequence[tuple[int, Any]], name: str) -> tuple[str, str | None]:
    for _, rule in converters:
        made, pattern = rule.rename_source_key(name)
        if pattern is not None:
            return made, pattern
    return name, None


def _with_prefix(name: str, model: Collection[str] | None, prefix: str) -> str:
    if model is None or not prefix:
        return name
    bare = name.removeprefix(f"{prefix}.")
    if bare != name and bare in model:
        return bare
    return f"{prefix}.{name}" if f"{prefix}.{name}" in model else name


def _alike(name: str, end: str, moved: str, prefix: str) -> str:
    """A name with the prefix that its end got, or without the one that it lost."""
    if end == moved:
        return name
    return f"{prefix}.{name}" if len(moved) > len(end) else name.removeprefix(f"{prefix}.")


Shapes = Mapping[str, tuple[int, ...] | None]


class Both(NamedTuple):
    """A checkpoint and its model: names and shapes, and the parts of the model that are models.

    `model` is None where there is none.
    """

    checkpoint: Shapes
    model: Shapes | None
    parts: Mapping[str, Part]

    @property
    def prefix(self) -> str:
        """The prefix that loading adds or strips."""
        return self.parts[""].base_model_prefix if "" in self.parts else ""


def both_of(rules: Sequence[Any], checkpoint: Any, model: Any) -> Both:
    """Both sides; without a checkpoint, what transformers would save of the model by the rules.

    Raises
    ------
    TreealignError
        A side cannot be read, or transformers cannot save the model.
    """
    parts = parts_in(model)
    wanted = None if model is None else _shapes(model)
    if checkpoint is not None:
        return Both(_shapes(checkpoint), wanted, parts)
    assert wanted is not None
    return Both(_saved(rules, wanted, parts), wanted, parts)


def _shapes(source: Any) -> Shapes:
    tree = source if isinstance(source, KeyTree) else read_tree(source)
    return {leaf.key: leaf.shape for leaf in tree.leaves if leaf.key not in tree.tied}


def _saved(rules: Sequence[Any], shapes: Shapes, parts: Mapping[str, Part]) -> Shapes:
    model = skeleton({key: shape or () for key, shape in shapes.items()}, parts)
    model._weight_conversions = [fresh(rule) for rule in rules]
    try:
        saved = save(model, model.state_dict())
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise TreealignError(
            "transformers cannot save the model by these rules",
            facts=[f"{type(error).__name__}: {said}"],
            hint="pass the checkpoint",
        ) from error
    return {key: tuple(tensor.shape) for key, tensor in saved.items()}
