"""The steps of a load that the links of an alignment are."""

from __future__ import annotations

from collections.abc import Iterable

from treealign.align.alignment import Alignment
from treealign.align.links import Link
from treealign.mapping.planning import Step
from treealign.synthesize.aligned import conversions_of


class Steps:
    """The steps of links, each made once."""

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        self._made: dict[Link, list[Step]] = {}

    def of(self, link: Link) -> list[Step]:
        """The steps of one link; the same objects each time."""
        if link not in self._made:
            found = conversions_of(self.alignment, link)
            self._made[link] = [Step(c.checkpoint, c.model, c.operations) for c in found]
        return self._made[link]

    def all(self, links: Iterable[Link]) -> list[Step]:
        """The steps of several."""
        return [step for link in links for step in self.of(link)]
