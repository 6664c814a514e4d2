"""Which places of a model no output tells apart.

Suppose that some exchange of leaves, of however many at once, changes no output, whatever the values. With equal values
in all leaves of one shape the exchange changes nothing at all; so what other values in one leaf do to the outputs, the
same values in its partner do too. Hence two leaves can only be exchanged, alone or together with any others, if they
answer alike: one run a leaf finds all such symmetries, those of whole branches too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch

from treealign.align.links import Link
from treealign.errors import TreealignError
from treealign.run.drawing import alike
from treealign.run.outputs import difference, is_finite, tensors_of
from treealign.run.pair import Sides
from treealign.run.results import EXACT
from treealign.run.subject import uncompiled
from treealign.tree.keytree import KeyTree

CLOSE = {"float64": EXACT, "float32": 1e-5}


class Places:
    """What the outputs say of the places that links fill.

    Attributes
    ----------
    effects : dict of Link to float
        How much other values change the outputs.
    alike : dict of Link to tuple of Link
        The other links whose places answer just alike.
    """

    def __init__(self, pair: Sides, links: Sequence[Link], model: KeyTree) -> None:
        self._pair = pair
        self._keys = {
            link: [uncompiled(model.keys[j]) for group in link.expand() for j in group.right] for link in links
        }
        every = {key for keys in self._keys.values() for key in keys}
        own = pair.model.values(every)
        try:
            self._put(every, 0)
            base = self._run()
            answers = {link: self._answer(link, every) for link in links}
        finally:
            pair.model.put(own)
        usable = base is not None
        self.effects = {link: _apart(base, answer) if usable else 0.0 for link, answer in answers.items()}
        self.alike = self._classes(answers) if usable else dict.fromkeys(links, tuple(links))

    def _put(self, keys: Iterable[str], seed: int) -> None:
        tensors = self._pair.model.tensors
        floats = {key: tensors[key].tensor for key in keys if tensors[key].tensor.is_floating_point()}
        self._pair.model.put({key: alike(tensor, seed) for key, tensor in floats.items()})

    def _run(self) -> list[torch.Tensor] | None:
        try:
            found = tensors_of(self._pair.model.run())
        except TreealignError:  # some values stop the code
            return None
        return found if is_finite(found) else None

    def _answer(self, link: Link, every: set[str]) -> list[torch.Tensor] | None:
        self._put(self._keys[link], 1)
        try:
            return self._run()
        finally:
            self._put(self._keys[link], 0)

    def _classes(self, answers: dict[Link, list[torch.Tensor] | None]) -> dict[Link, tuple[Link, ...]]:
        groups: dict[object, list[Link]] = defaultdict(list)
        for link in answers:
            groups[
                tuple(sorted(str(tuple(self._pair.model.tensors[key].tensor.shape)) for key in self._keys[link]))
            ].append(link)
        close = CLOSE[self._pair.precision]
        return {
            link: tuple(
                o
                for o in group
                if o is not link and not _spelt_apart(link, o) and _apart(answers[link], answers[o]) <= close
            )
            for group in groups.values()
            for link in group
        }


def _spelt_apart(one: Link, other: Link) -> bool:
    """Whether the names of the leaves themselves tell two links apart: `bias_ih` is `bias_ih`, and no `bias_hh`."""
    names = [{p.segments[-1] for p in (*link.left, *link.right)} for link in (one, other)]
    return all(len(each) == 1 for each in names) and names[0] != names[1]


def _apart(a: list[torch.Tensor] | None, b: list[torch.Tensor] | None) -> float:
    """How far two answers are apart; one that is no number tells nothing."""
    return 0.0 if a is None or b is None else difference(a, b)
