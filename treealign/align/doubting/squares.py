"""Which way round matrices stand, where the matrices around them do not show it, or show the contrary.

Whether matrices have their inputs first is a habit of a library. The matrices beside a square one show it where their
shapes do; where what they show is open, or left over, the square may be turned as well as they may, and only biases
may still tell: each is as long as its matrix has outputs, whatever either corresponds to. And a matrix that only its
name turns, because one of its own shape stands beside its partner, is turned for certain only where others around are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from treealign.align.converting.rivals import naming
from treealign.align.doubting.layouts import is_table
from treealign.align.doubting.repeats import block_of, modules_around, plain
from treealign.align.links import Link
from treealign.align.matching.orientation import inputs_first
from treealign.align.patterns import Pattern, Shape
from treealign.align.reasons import Reason, kind
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, alone, judged, settled_if_answered
from treealign.formats.cached import cached_property
from treealign.mapping.operations import Permute

UNSHOWN = Reason(
    "axes",
    "it is square, and of the matrices around it none shows for certain that both sides store them the same way round",
)
ALONE = Reason("names", "it would be the only matrix around that is turned, and one of its own shape is beside it")
EITHER = Reason("names", "it and the matrix beside it may be each other's transposes, and no name tells which is which")
SHOWN = "the matrices around it stand the same way round on both sides"
ENOUGH = 2  # matrices that must show it where others around them show nothing
STACKED = 3  # dimensions of the matrices of all experts
Path = tuple[str, ...]


@dataclass
class Shown:
    """What the matrices below a module show: how many stand alike, how many are turned, how many may be."""

    alike: int = 0
    turned: int = 0
    unsettled: int = 0

    def add(self, other: Shown) -> None:
        """Count what others show."""
        self.alike += other.alike
        self.turned += other.turned
        self.unsettled += other.unsettled

    def without(self, other: Shown) -> Shown:
        """What is shown but for some of it."""
        return Shown(self.alike - other.alike, self.turned - other.turned, self.unsettled - other.unsettled)


def judge_turns(state: State) -> Alternatives:
    """Matches of which the matrices around them do not show which way round they stand.

    A square of which the nearest matrices that could show it do not; one path that stands on both sides only where
    some of these are turned for certain. A matrix turned for its name, where none around it is; and one that is not,
    though the two of its module could be each other's transposes and no name speaks against it.
    """
    found: dict[Link, Alternative] = {}
    before = -1
    while len(found) > before:  # what leans on an open match is open
        before, links = len(found), judged(state.known, found)
        around = Surroundings(links, *state.patterns)
        reasons = ((given, _reason(link, around)) for given, link in zip(state.known, links, strict=True))
        found |= {link: alone(link, reason) for link, reason in reasons if reason is not None}
    return found


def shown_since(links: Sequence[Link], checkpoint: Sequence[Pattern], model: Sequence[Pattern]) -> list[Link]:
    """The links, a square settled in how it stands where answers made certain what shows it.

    Parameters
    ----------
    links : sequence of Link
        As answers leave them.
    checkpoint, model : sequence of Pattern
        All patterns of either side.

    """
    around = Surroundings(links, checkpoint, model)
    waiting = [k for k in links if kind(k.open.get("axes", "")) == UNSHOWN.kind and k.is_told]
    told = {link for link in waiting if not around.may_be_turned(link)}
    return [
        settled_if_answered(replace(link, answered=(*link.answered, "axes"), evidence=(*link.evidence, SHOWN)))
        if link in told
        else link
        for link in links
    ]


def _reason(link: Link, around: Surroundings) -> Reason | None:
    if link.certain and around.may_be_turned(link):
        return UNSHOWN
    if link.certain and around.is_turned_alone(link):
        return ALONE
    # rows and the order of a list say nothing of whose it is
    known = link.certain or (bool(link.open) and link.is_told)
    return EITHER if known and around.fits_either_way(link) else None


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What all matches show of the matrices of a model."""

    links: Sequence[Link]
    checkpoint: Sequence[Pattern]
    model: Sequence[Pattern]

    def may_be_turned(self, link: Link) -> bool:
        """Whether it is square, is not turned, and what is near does not say that this is right."""
        if any(isinstance(o, Permute) for o in link.operations) or not _is_square(link):
            return False
        above, alike = self.near(link), self._stored_alike(link)
        if self._is_in_unsettledblock_of(link):
            return _differ(link) if alike is None else not alike
        near = next((s for s in above if s.alike or s.turned), None)
        if near is not None and (near.alike >= ENOUGH or not near.unsettled):
            return not near.alike
        if alike is not None and (near is None or not alike):
            return not alike
        return bool(above) and (_differ(link) or bool(near and near.turned and not near.alike))

    def _stored_alike(self, link: Link) -> bool | None:
        """Whether biases say that the blocks of both ends store matrices the same way round; None where they do not.

        That they do not, one matrix of each side may show; that they do, is shown by as many as any match needs.
        """
        here, there = (
            ways.get(block_of(p), Counter()) for ways, p in zip(self._ways, (link.left[0], link.right[0]), strict=True)
        )
        if len(here) != 1 or len(there) != 1:
            return None
        alike = here.keys() == there.keys()
        return None if alike and min(here.total(), there.total()) < ENOUGH else alike

    @cached_property
    def _ways(self) -> tuple[dict[Path, Counter[bool]], dict[Path, Counter[bool]]]:
        """Whether the matrices of each block have their inputs first, on either side, as their biases tell."""
        return _ways_of(self.checkpoint), _ways_of(self.model)

    def _is_in_unsettledblock_of(self, link: Link) -> bool:
        """Whether its block has matrices that could show it, and none does: a head may stand otherwise than blocks.

        Of blocks within blocks, as experts in a layer, the innermost that has any.
        """
        block = block_of(link.right[0])
        within = (block[:depth] for depth in range(len(block), 0, -1) if "{}" in block[depth - 1])
        shown = next((self._shown[path] for path in within if path in self._shown), None)
        return shown is not None and not shown.alike and not shown.turned

    def is_turned_alone(self, link: Link) -> bool:
        """Whether it is turned, though a leaf of its own shape is beside its partner, and nothing else around is."""
        if len(link.left) + len(link.right) > 2 or not any(isinstance(o, Permute) for o in link.operations):
            return False
        p, q = link.left[0], link.right[0]
        if not _is_oblong(q) or _shape(p) not in self._model.get(plain(q.segments[:-2]), ()):
            return False
        one = _shows(link)
        near = next((s for s in (n.without(one) for n in self.near(link)) if s.alike or s.turned), Shown())
        return not near.turned or near.alike > near.turned

    def fits_either_way(self, link: Link) -> bool:
        """Whether the two matrices of a module could as well be each other's transposes, for all that is shown."""
        if len(link.left) + len(link.right) > 2 or link.operations or not _is_oblong(link.right[0]):
            return False
        p, q = link.left[0], link.right[0]
        turned = (_shape(q) or ())[::-1]
        others = self._model.get(plain(q.segments[:-2]), {}).get(turned, ())
        if p.template == q.template or all(self._is_told(p, q, other) for other in others):
            return False
        if not all(
            turned in beside.get(plain(r.segments[:-2]), ()) for r, beside in ((p, self._checkpoint), (q, self._model))
        ):
            return False
        both = 2  # it, and its counterpart, which stands as it does
        block = block_of(link.right[0])
        return not any(near.alike > both for path, near in self._near(link) if path[: len(block)] == block)

    def _is_told(self, p: Pattern, q: Pattern, other: Pattern) -> bool:
        """Whether p does not go to the other: the vectors of its module, or names, speak for q."""
        return self._has_its_vectors(p, q, other) or self._is_named(p, q, other)

    def _has_its_vectors(self, p: Pattern, q: Pattern, other: Pattern) -> bool:
        """Whether the module of p has a vector, as a bias, that only the module of q has: all of it goes to one."""
        here = self._vectors[0].get(plain(p.segments[:-1]), frozenset())
        there, elsewhere = (self._vectors[1].get(plain(r.segments[:-1]), frozenset()) for r in (q, other))
        return bool((here & there) - elsewhere)

    def _is_named(self, p: Pattern, q: Pattern, other: Pattern) -> bool:
        """Whether names say more for what is matched than for p with the other, and what the other has with q."""
        theirs = self._partners.get(other)
        if theirs is None:
            return naming(p, q) > naming(p, other)
        return naming(p, q) + naming(theirs, other) > naming(p, other) + naming(theirs, q)

    @cached_property
    def _partners(self) -> dict[Pattern, Pattern]:
        return {link.right[0]: link.left[0] for link in self.links if len(link.left) == len(link.right) == 1}

    def near(self, link: Link) -> list[Shown]:
        """What is shown around its model leaf, the nearest first."""
        return [shown for _, shown in self._near(link)]

    def _near(self, link: Link) -> list[tuple[Path, Shown]]:
        return [(path, self._shown[path]) for path in modules_around(link.right[0]) if path in self._shown]

    @cached_property
    def _model(self) -> dict[Path, dict[Shape, list[Pattern]]]:
        """The leaves of the modules of each module of the model, by shape."""
        return _leaves_beside(self.model)

    @cached_property
    def _vectors(self) -> tuple[dict[Path, frozenset[Shape]], dict[Path, frozenset[Shape]]]:
        """The shapes of the vectors of each module itself, on either side."""
        return _vectors_of(self.checkpoint), _vectors_of(self.model)

    @cached_property
    def _checkpoint(self) -> dict[Path, dict[Shape, list[Pattern]]]:
        """The same of the checkpoint."""
        return _leaves_beside(self.checkpoint)

    @cached_property
    def _shown(self) -> dict[Path, Shown]:
        found: dict[Path, Shown] = defaultdict(Shown)
        linked = {p: _shows(link) for link in self.links for p in link.right}
        for p in self.model:
            if _is_oblong(p) and not is_table(p):
                for path in modules_around(p):
                    found[path].add(linked.get(p, Shown(unsettled=1)))
        return dict(found)


def _leaves_beside(side: Sequence[Pattern]) -> dict[Path, dict[Shape, list[Pattern]]]:
    found: dict[Path, dict[Shape, list[Pattern]]] = defaultdict(lambda: defaultdict(list))
    for p in side:
        found[plain(p.segments[:-2])][_shape(p)].append(p)
    return {path: dict(shapes) for path, shapes in found.items()}


def _ways_of(side: Sequence[Pattern]) -> dict[Path, Counter[bool]]:
    found: dict[Path, Counter[bool]] = defaultdict(Counter)
    for n, first in inputs_first(side).items():
        found[block_of(side[n])][first] += 1
    return found


def _vectors_of(side: Sequence[Pattern]) -> dict[Path, frozenset[Shape]]:
    found: dict[Path, set[Shape]] = defaultdict(set)
    for p in side:
        if len(_shape(p) or ()) == 1:
            found[plain(p.segments[:-1])].add(_shape(p))
    return {path: frozenset(shapes) for path, shapes in found.items()}


def _shows(link: Link) -> Shown:
    """What one match shows; where only its rows are open, or the order of its parts, its dimensions are not.

    A whole that is made of squares shows nothing of them: each may have been turned before they were joined. Nor does a
    square that is cut.
    """
    if any(all(map(_is_square_leaf, side)) for side in (link.left, link.right)) or (
        not link.certain and (not link.open or set(link.open) - {"rows", "order"})
    ):
        return Shown(unsettled=1)
    return Shown(turned=1) if any(isinstance(o, Permute) for o in link.operations) else Shown(alike=1)


def _is_square(link: Link) -> bool:
    """Whether the matrices that go into it, or come out of it, are square; stacked, or one by one."""
    some = [*link.left, *link.right] if len(link.left) == len(link.right) else max(link.left, link.right, key=len)
    return not is_table(link.right[0]) and all(map(_is_square_leaf, some))


def _is_square_leaf(p: Pattern) -> bool:
    shape = _shape(p) or ()
    return len(shape) in (2, STACKED) and shape[-1] == shape[-2] > 1


def _is_oblong(p: Pattern) -> bool:
    shape = _shape(p) or ()
    return len(shape) == 2 and shape[0] != shape[1] and min(shape) > 1


def _shape(p: Pattern) -> Shape:
    return next(iter(p.shapes.values()))


def _differ(link: Link) -> bool:
    """Whether any of it stands at another path on the other side."""
    return {p.template for p in link.left} != {p.template for p in link.right}
