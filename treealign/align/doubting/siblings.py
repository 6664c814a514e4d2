"""What the leaves beside a match say of it: those of one module go together, and of a pair neither is surer.

A gate and its up-projection have one shape, and which of them a name such as `fc` means is a habit of its library:
some call the gate `fc` and the up-projection `gate`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from treealign.align.links import Link
from treealign.align.patterns import Digest, Pattern
from treealign.align.reasons import Reason
from treealign.align.words import split_words

TORN = Reason("names", "the weight and the bias of one module went to different modules")
PAIRED = Reason("names", "gate and up have one shape, and not both names say which is which")
PARAMETERS = frozenset({"weight", "bias"})
STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})  # of a batch norm, beside its parameters
Path = tuple[str, ...]


def doubt_siblings(links: Sequence[Link]) -> list[Link]:
    """The links, those that the leaves beside them speak against marked uncertain."""
    torn, paired = _torn(links), _paired(links)
    found = []
    for link in links:
        others = torn.get(id(link)) or paired.get(id(link))
        if not link.certain or others is None:
            found.append(link)
            continue
        reason = TORN if id(link) in torn else PAIRED
        rivals = tuple(o.left[0] for o in others), tuple(o.right[0] for o in others)
        found.append(replace(link, certain=False, reason=reason, rivals=rivals))
    return found


def _torn(links: Sequence[Link]) -> dict[int, list[Link]]:
    """Links of the leaves of one module of the checkpoint, of either one linear layer or norm, to several modules."""
    modules: dict[tuple[Path, Digest], list[Link]] = defaultdict(list)
    for link in links:
        if len(link.left) == len(link.right) == 1 and link.right[0].segments[-1] in PARAMETERS | STATISTICS:
            modules[link.left[0].segments[:-1], link.left[0].indices].append(link)
    torn = (group for group in modules.values() if len({o.right[0].segments[:-1] for o in group}) > 1)
    return {id(link): group for group in torn for link in group if _are_of_one_layer(group)}


def _are_of_one_layer(group: Sequence[Link]) -> bool:
    names = Counter(o.right[0].segments[-1] for o in group)
    return max(names.values()) == 1 and (len(names) == len(PARAMETERS) or not STATISTICS.isdisjoint(names))


def _paired(links: Sequence[Link]) -> dict[int, list[Link]]:
    """Links to gate and up of one module whose names in the checkpoint do not both say which they are."""
    pairs: dict[tuple[Path, str], dict[str, Link]] = defaultdict(dict)
    for link in links:
        if len(link.left) == len(link.right) == 1 and not link.operations:
            p = link.right[0]
            part = _part(p)
            if part:
                pairs[_parent(p), p.segments[-1]][part] = link
    found: dict[int, list[Link]] = {}
    for both in pairs.values():
        group = [both[part] for part in ("gate", "up") if part in both]
        if len(group) == 2 and _one_shape(group) and not all(_says(o.left[0], part) for part, o in both.items()):
            found.update({id(o): group for o in group})
    return found


def _parent(p: Pattern) -> Path:
    return p.segments[:-2] if p.segments[-1] in PARAMETERS else p.segments[:-1]


def _name(p: Pattern) -> str:
    return p.named[-2] if p.named[-1] in PARAMETERS and len(p.named) > 1 else p.named[-1]


def _part(p: Pattern) -> str:
    """Which of the two a name spells, or nothing."""
    return next((part for part in ("gate", "up") if part in split_words(_name(p))), "")


def _says(p: Pattern, part: str) -> bool:
    """Whether a name of the checkpoint says it: in words, or as one of w1, w2, w3."""
    name = _name(p)
    return part in split_words(name) or split_words(name)[:2] in {("w", "1"), ("w", "3")}


def _one_shape(group: Sequence[Link]) -> bool:
    return len({o.left[0].signature for o in group}) == 1
