"""The steps of a load that the links of an alignment are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from treealign.align.alignment import Alignment
from treealign.align.links import Link
from treealign.mapping.planning import Step
from treealign.synthesize.aligned import conversions_of


class Steps:
    """The steps of links, each made once; `spelled` makes of a key of the model the name under which it is filled."""

    def __init__(self, alignment: Alignment, spelled: Callable[[str], str] = str) -> None:
        self.alignment, self._spelled = alignment, spelled
        self._made: dict[Link, list[Step]] = {}

    def of(self, link: Link) -> list[Step]:
        """The steps of one link; the same objects each time."""
        if link not in self._made:
            found = conversions_of(self.alignment, link)
            spelled = self._spelled
            self._made[link] = [Step(c.checkpoint, tuple(map(spelled, c.model)), c.operations) for c in found]
        return self._made[link]

    def all(self, links: Iterable[Link]) -> list[Step]:
        """The steps of several."""
        return [step for link in links for step in self.of(link)]
