"""What the laws are checked on, and how what is found is said: a mapping run forward, and findings grouped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from treealign.formats.cached import cached_property
from treealign.formats.legible import printable
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree, Leaf

LAWS = ("complete", "injective", "exact", "reversible", "idempotent", "minimal", "unambiguous")
SHOWN = 10
# the transforms that touched the keys, the keys, and what is wrong
Fault: TypeAlias = tuple[tuple[int, ...], tuple[str, ...], str]


@dataclass(frozen=True)
class Finding:
    """Where a law does not hold, or what there is to know about it.

    Attributes
    ----------
    law : str
        One of `LAWS`.
    keys : tuple of str
        The keys at fault, of the checkpoint unless the text says otherwise.
    transform : Transform or None
        The transform at fault, where there is one.
    text : str
        What is wrong, in one sentence.
    fault : bool
        False for a report that breaks no law: dtypes that differ, a match that is not certain.
    """

    law: str
    keys: tuple[str, ...]
    transform: Transform | None
    text: str
    fault: bool = True

    def __str__(self) -> str:
        names = fold_names(self.keys, limit=SHOWN)
        by = f" ({self.transform.with_guard()!r})" if self.transform is not None else ""
        return printable(f"{self.law}: {self.text}{by}") + "".join(f"\n  {name}" for name in names)


@dataclass(frozen=True)
class ForwardRun:
    """A mapping run forward on the checkpoint it was made for."""

    mapping: ConversionMapping
    checkpoint: KeyTree
    model: KeyTree
    steps: tuple[Step, ...]
    listed: frozenset[str]

    def last(self, transforms: tuple[int, ...]) -> Transform | None:
        """The last of the transforms that touched something."""
        return self.mapping.transforms[transforms[-1]] if transforms else None

    @cached_property
    def whole(self) -> list[Step]:
        """The steps that lack no key."""
        return [step for step in self.steps if not step.absent]

    @cached_property
    def pairs(self) -> list[tuple[str, str, Step]]:
        """The steps of one key that becomes one key: nearly all of them, and quickly gone through."""
        return [(step[0][0], step[1][0], step) for step in self.steps if not step[2]]

    @cached_property
    def conversions(self) -> list[Step]:
        """The other steps that lack no key."""
        return [step for step in self.whole if step.operations]

    @cached_property
    def reached(self) -> set[str]:
        """What comes out of the mapping."""
        return {target for _, target, _ in self.pairs}.union(*(step.targets for step in self.conversions))

    @cached_property
    def given(self) -> dict[str, Leaf]:
        """The leaves of the checkpoint."""
        return dict(zip(self.checkpoint.keys, self.checkpoint.leaves, strict=True))

    @cached_property
    def wanted(self) -> dict[str, Leaf]:
        """The leaves of the model."""
        return dict(zip(self.model.keys, self.model.leaves, strict=True))


def grouped(run: ForwardRun, law: str, faults: Iterable[Fault]) -> Iterator[Finding]:
    """One finding for all keys that the same transforms touched, with the first for an example."""
    found: dict[tuple[int, ...], tuple[list[str], str]] = {}
    for transforms, keys, text in faults:
        found.setdefault(transforms, ([], text))[0].extend(keys)
    for transforms, (listed, text) in found.items():
        yield Finding(law, tuple(listed), run.last(transforms), text)
