"""`ConversionMapping`: the ordered list of transforms, run on names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

from treealign.errors import MappingError, OpenQuestionsWarning, PatternError
from treealign.formats.cached import cached_property
from treealign.formats.collector import collector_paused
from treealign.mapping import execution
from treealign.mapping.folded import targets_of
from treealign.mapping.guards import GuardDecision, decide
from treealign.mapping.open_questions import SHOWN, OpenQuestion
from treealign.mapping.planning import Step, plan_steps
from treealign.mapping.running import Run, run, several_positions
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Rename
from treealign.shown import Shown
from treealign.tree.fold import Fold, fold
from treealign.tree.keytree import KeyTree

Keys: TypeAlias = KeyTree | Iterable[str]
Converted: TypeAlias = bool | GuardDecision | None


class KeyTrace(NamedTuple):
    """What became of a key: the keys it feeds, and the positions in the mapping of the transforms that touched it."""

    targets: tuple[str, ...]
    transforms: tuple[int, ...]


class Plan(NamedTuple):
    """The steps for some keys, and whether they are what the mapping says without the names that the model has."""

    steps: tuple[Step, ...]
    unaided: bool


@dataclass(frozen=True, init=False, repr=False)
class ConversionMapping(Shown):
    """Transforms in order, each working on the result of the one before; at most one `Convert` for each key.

    ``len`` counts the pairs of renamings; iteration gives the transforms.

    Parameters
    ----------
    transforms : iterable of Transform
        `PrefixChange`, `Rename` and `Convert`; or a mapping, whose marks are then kept.
    questions : iterable of OpenQuestion
        What is still a guess. A mapping that a person writes out of transforms is that person's statement, and has
        none (nor has one rebuilt out of another's; `with_transforms` keeps what is open); one that was suggested has
        what is open. `load`, `attach`, `convert_checkpoint` and `emit` refuse it.
    accepted : iterable of OpenQuestion
        What was a guess, and was taken as it is.
    answers : iterable of str
        What settled questions when it was suggested: the hints that were given, and what a probe said.

    Notes
    -----
    Everything below that takes `keys` takes strings or a `KeyTree` (which is faster: it is folded already), and
    `converted`: None to let the guards say which guarded transforms were done already, True or False to say it for
    all of them, or the `GuardDecision` that `decide` made for the whole checkpoint. With ``converted=True``,
    ``PrefixChange(add=…)`` without a guard passes over the keys that have its levels. `model_keys`, where given, are
    the names that the model has: a key whose new names are not among them but whose own name is stays as it is.

    Cost is linear in the number of keys, with a small constant: transforms work on templates.

    Examples
    --------
    >>> from treealign import PrefixChange
    >>> mapping = ConversionMapping([PrefixChange(add="model"), Rename("**.attn", "**.self_attn")])
    >>> mapping.map_keys(["h.0.attn.q.weight"])
    {'h.0.attn.q.weight': ('model.h.0.self_attn.q.weight',)}
    >>> mapping.reverse
    ConversionMapping([Rename('**.self_attn', '**.attn'), PrefixChange(remove='model')])
    """

    transforms: tuple[Transform, ...]
    questions: tuple[OpenQuestion, ...] = ()
    accepted: tuple[OpenQuestion, ...] = ()
    answers: tuple[str, ...] = ()

    def __init__(
        self,
        transforms: Iterable[Transform] = (),
        *,
        questions: Iterable[OpenQuestion] = (),
        accepted: Iterable[OpenQuestion] = (),
        answers: Iterable[str] = (),
    ) -> None:
        hint = "it consists of PrefixChange, Rename and Convert: ConversionMapping([Rename('a', 'b')])"
        if isinstance(transforms, Transform) or not isinstance(transforms, Iterable):
            raise PatternError("a conversion mapping takes a list", facts=[repr(transforms)], hint=hint)
        object.__setattr__(self, "transforms", tuple(transforms))
        for name, given in (("questions", questions), ("accepted", accepted), ("answers", answers)):
            kept = getattr(transforms, name) if isinstance(transforms, ConversionMapping) else ()
            object.__setattr__(self, name, tuple(dict.fromkeys((*kept, *given))))
        odd = [repr(item) for item in self.transforms if not isinstance(item, Transform)]
        if odd:
            raise PatternError("a conversion mapping consists of transforms", facts=odd, hint=hint)

    def __len__(self) -> int:
        return sum(len(t.pairs) if isinstance(t, Rename) else 1 for t in self.transforms)

    def __bool__(self) -> bool:
        return bool(self.transforms)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)

    def __repr__(self) -> str:
        marks = {name: list(map(str, found)) for name, found in self._marks().items() if found}
        told = (f", {'open' if name == 'questions' else name}={texts}" for name, texts in marks.items())
        return f"ConversionMapping([{', '.join(map(repr, self.transforms))}]{''.join(told)})"

    @cached_property
    def reverse(self) -> ConversionMapping:
        """The inverse transforms in the opposite order: from the model's names to the checkpoint's."""
        return self.with_transforms(transform.inverse for transform in reversed(self.transforms))

    def accept(self) -> ConversionMapping:
        """The mapping with its guesses taken as they are, as `accepted` then says."""
        return ConversionMapping(self.transforms, accepted=(*self.accepted, *self.questions), answers=self.answers)

    def with_transforms(self, transforms: Iterable[Transform]) -> ConversionMapping:
        """Other transforms that come of these: what is open, accepted or answered stays so."""
        return ConversionMapping(transforms, **self._marks())

    def _marks(self) -> dict[str, Any]:
        return {"questions": self.questions, "accepted": self.accepted, "answers": self.answers}

    @property
    def marked(self) -> bool:
        """Whether anything in it is or was in question."""
        return any(self._marks().values())

    def map_keys(
        self, keys: Keys, converted: Converted = None, model_keys: Iterable[str] | None = None
    ) -> dict[str, tuple[str, ...]]:
        """The keys that each key feeds on the other side, in the order of `keys`.

        Raises
        ------
        MappingError
            Two keys reach one name, except through a `Convert` that says so; or a guard cannot tell whether its
            transform was done. The message names the keys and the transforms.
        """
        with collector_paused():
            names, (states, _) = self._run(keys, converted, model_keys)
            return targets_of(states, names)

    def trace(
        self, keys: Keys, converted: Converted = None, model_keys: Iterable[str] | None = None
    ) -> dict[str, KeyTrace]:
        """As `map_keys`, with the transforms that touched each key.

        Raises
        ------
        MappingError
            As `map_keys`.
        """
        names, (states, _) = self._run(keys, converted, model_keys)
        touched = {names[position]: state.touched for state in states for position in state.rows.positions}
        return {key: KeyTrace(targets, touched[key]) for key, targets in targets_of(states, names).items()}

    def used(
        self, keys: Keys, converted: Converted = None, model_keys: Iterable[str] | None = None
    ) -> ConversionMapping:
        """The mapping without the transforms that touch none of the keys.

        Raises
        ------
        MappingError
            As `map_keys`.
        """
        _, (states, _) = self._run(keys, converted, model_keys)
        touched = {index for state in states for index in state.touched}
        return self.with_transforms(t for index, t in enumerate(self.transforms) if index in touched)

    def decide(self, keys: Keys, converted: Converted = None) -> GuardDecision:
        """What all keys together say about the guarded transforms: hand it to each shard as `converted`."""
        asked = converted is None and any(transform.guarded for transform in self.transforms)
        return self._decision(_folded(keys)[1] if asked else (), converted)

    def several_positions(self, keys: Keys, converted: Converted = None) -> dict[int, list[str]]:
        """The keys on which a transform could work at more than one position, by its position in the mapping.

        It works at the first; whether that is what was meant is worth a finding.
        """
        names, folds = _folded(keys)
        return several_positions(self.transforms, names, folds, self._decision(folds, converted))

    def plan(
        self, keys: Keys, converted: Converted = None, model_keys: Iterable[str] | None = None
    ) -> tuple[Step, ...]:
        """What to do with the tensors: one step for each key, or for each group of keys that a `Convert` takes.

        Raises
        ------
        MappingError
            As `map_keys`; or a size depends on captures and has no entry for them.
        """
        return self.plan_for(keys, converted, model_keys).steps

    def plan_for(self, keys: Keys, converted: Converted = None, model_keys: Iterable[str] | None = None) -> Plan:
        """As `plan`, and whether the names of the model made a difference.

        Raises
        ------
        MappingError
            As `plan`.
        """
        names, (states, unaided) = self._run(keys, converted, model_keys)
        return Plan(plan_steps(self.transforms, states, names), unaided)

    def apply(self, state_dict: Mapping[str, Any], converted: Converted = None) -> Iterator[tuple[str, Any]]:
        """Tensors under their new names, one by one; a tensor is taken from `state_dict` when its turn comes.

        Raises
        ------
        MappingError
            As `map_keys`; or some keys that a `Convert` needs are absent. Either before the first tensor is taken. Or
            it is no state dict.
        UndecidedError
            As `map_keys`; or tensors that have their new names already would be changed in place.

        Warns
        -----
        OpenQuestionsWarning
            The mapping holds guesses; once for a mapping.
        """
        if not hasattr(state_dict, "keys"):
            hint = "treealign.load(model, checkpoint, mapping), or treealign.convert_checkpoint from file to file"
            raise MappingError("tensors are taken from a state dict", facts=[repr(state_dict)], hint=hint)
        from treealign.mapping.repeating import not_repeating

        self._warn()
        steps = not_repeating(self, self.plan(tuple(state_dict), converted), converted)
        for step in steps:
            step.refuse_incomplete()
        return execution.run_steps(steps, state_dict)

    def _warn(self) -> None:
        if self.questions and not self.__dict__.get("_warned"):
            self.__dict__["_warned"] = True
            listed = "".join(f"\n  {question}" for question in self.questions[:SHOWN])
            text = f"the mapping still guesses, {len(self.questions)} questions are open:{listed}"
            warnings.warn(text, OpenQuestionsWarning, stacklevel=3)

    def to_json(self, path: str | PathLike[str]) -> None:
        """Write the mapping as versioned JSON."""
        from treealign.mapping.mapping_json import write_mapping_json

        write_mapping_json(path, self)

    @classmethod
    def from_json(cls, path: str | PathLike[str]) -> ConversionMapping:
        """Read a mapping that `to_json` wrote.

        Raises
        ------
        MappingError
            The file is no mapping, is of another version, or is malformed; the message lists everything wrong.
        """
        from treealign.mapping.mapping_json import read_mapping_json

        return read_mapping_json(path)

    def _run(self, keys: Keys, converted: Converted, model_keys: Iterable[str] | None) -> tuple[Sequence[str], Run]:
        names, folds = _folded(keys)
        decision, known = self._decision(folds, converted), None if model_keys is None else frozenset(model_keys)
        return names, run(self.transforms, names, folds, decision, known)

    def _decision(self, folds: Sequence[Fold], converted: Converted) -> GuardDecision:
        return converted if isinstance(converted, GuardDecision) else decide(self.transforms, folds, converted)


def as_mapping(given: Any) -> ConversionMapping:
    """A conversion mapping from one, from the path of its JSON, or from transforms."""
    if isinstance(given, ConversionMapping):
        return given
    if isinstance(given, str | PathLike):
        return ConversionMapping.from_json(given)
    return ConversionMapping([given] if isinstance(given, Transform) else given)


def _folded(keys: Keys) -> tuple[Sequence[str], Sequence[Fold]]:
    if isinstance(keys, KeyTree):
        return keys.keys, keys.folds
    if isinstance(keys, str):
        raise MappingError("keys are several strings, not one", facts=[repr(keys)])
    names = tuple(keys)
    return names, fold(names)
