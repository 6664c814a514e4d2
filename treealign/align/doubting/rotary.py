"""Whether a match may hide another rotary order of the rows of q and k: what names and towers say of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from treealign.align.doubting.habits import Habits
from treealign.align.knowledge.entries import table
from treealign.align.links import Link
from treealign.align.parameters import PARAMETER_NAMES
from treealign.align.patterns import Pattern
from treealign.align.words import quantised_piece, split_words, tokens, unwrapped
from treealign.tree.keytree import KeyTree

OUTPUTS = {"lora_b", "lora_magnitude_vector"}  # of an adapter: one row for each output of its layer
TURNED = {"q", "k", "qkv"}
PROJECTIONS = {"q", "k", "v", "o", "qkv"}
Path = tuple[str, ...]


def roles(p: Pattern) -> set[str]:
    """What a leaf stands for in an attention or an MLP, by its own name and its module's."""
    return {t.text[1:] for t in tokens(_layer(p, p.named)) if t.text[0] == "@" and t.depth <= 1}


def _layer(p: Pattern, path: Path = ()) -> Path:
    """The path of the layer's own weight, for what an adapter adds to its outputs: these have the same rows."""
    named = unwrapped(path or p.segments)
    at = next((at for at, s in enumerate(named) if s.lower() in OUTPUTS), None)
    return named if at is None else (*named[:at], "weight")


def attention_name(p: Pattern) -> Path:
    """The spelling of the attention: its name and that of the projection."""
    named = _layer(p)
    end = next((at for at, s in enumerate(named) if s in PARAMETER_NAMES or quantised_piece(s)), len(named))
    return named[max(end - 2, 0) : end]


@dataclass(frozen=True)
class Rotary:
    """Where rows of q and k may stand in rotary order at all.

    Attributes
    ----------
    learned : frozenset of tuple of str
        Towers of the model whose positions are learned, and learned only.
    attentions : frozenset of tuple of str
        Modules of either side that are called attentions, or in which q stands beside k, v or the output.
    pixels : frozenset of tuple of str
        Modules of either side in which one of them is a convolution: these attend to pixels, and turn nothing.
    streams : frozenset of tuple of str
        Modules of either side with q and k of a stream called `a`.
    """

    learned: frozenset[Path] = frozenset()
    attentions: frozenset[Path] = frozenset()
    pixels: frozenset[Path] = frozenset()
    streams: frozenset[Path] = frozenset()

    @classmethod
    def of(cls, links: Sequence[Link], habits: Habits, model: KeyTree) -> Rotary:
        """Read it off the matches, the names of both sides and the classes of the model."""
        found: dict[Path, set[str]] = defaultdict(set)
        pixels = set()
        for p in (*habits.left, *habits.right):
            if mine := roles(p) & PROJECTIONS:
                for path in _around(p):
                    found[path] |= mine
                if any(len(shape or ()) > 3 for shape in p.shapes.values()):
                    pixels.add(_attention(p))
        streams = frozenset(_attention(p) for p in (*habits.left, *habits.right) if _is_numbered_a(p, "k"))
        whole = frozenset(path for path, mine in found.items() if len(mine) > 1 or "qkv" in mine or _is_attention(path))
        return cls(frozenset(learned_positions(links, habits, model)), whole, frozenset(pixels), streams)

    def turns(self, link: Link) -> bool:
        """Whether it may be a rotated q or k at all: one beside the other, in a tower that may turn them."""
        both = [p for side in (link.left, link.right) for p in side]
        if not TURNED & {r for p in both for r in roles(p)} or any(map(self._is_latent, both)):
            return False
        if any(p.segments[: len(tower)] == tower for p in link.right for tower in self.learned):
            return False
        if self.attentions.isdisjoint(path for p in both for path in _around(p)):
            return False
        if not self.pixels.isdisjoint(_attention(p) for p in both):
            return False
        return not any("norm" in t.text for p in link.right for t in tokens(p.named))

    def _is_latent(self, p: Pattern) -> bool:
        """Whether it makes the latents of which another projection makes q; beside a `k_a`, it is q of a stream."""
        return _is_numbered_a(p, "q") and _attention(p) not in self.streams

    def may_turn(self, link: Link) -> bool:
        """Whether its rows may stand in another rotary order: the attention is spelled or kept otherwise."""
        differ = bool(link.operations) or attention_name(link.left[0]) != attention_name(link.right[0])
        return differ and self.turns(link)


def _around(p: Pattern) -> tuple[Path, ...]:
    """The module that holds a projection, and the one that holds that: a projection may have a module of its own."""
    return _attention(p), _attention(p)[:-1]


def _is_attention(path: Path) -> bool:
    """Whether a module is called one: an adapter may hold no more of it than q."""
    return bool(path) and any("attn" in word for segment in path[-2:] for word in split_words(segment))


def _is_numbered_a(p: Pattern, part: str) -> bool:
    """Whether a projection is called the first of two of its part: `q_a_proj`, `wq_a`."""
    words = [w for s in attention_name(p) for w in split_words(s)]
    return any(a in {part, f"w{part}"} and b == "a" for a, b in pairwise(words))


def _attention(p: Pattern) -> Path:
    """The module that holds the projection a leaf is of; of a bare parameter, its own."""
    named = _layer(p)
    own = next((at for at, s in enumerate(named) if s in PARAMETER_NAMES or quantised_piece(s)), len(named))
    return named[: max(own - 1, 0)]


def learned_positions(links: Sequence[Link], habits: Habits, model: KeyTree) -> set[Path]:
    """Towers of the model without rotary embeddings: positions are learned there, and something says it is all.

    A table alone proves nothing: there are towers with both. The classes of the model tell, or the marks of a library.
    """
    turning = [_holder(path) for path, name in model.modules.items() if _is_rotary(path, name)]
    found = set()
    for link in links:
        for p, q in zip(link.left, link.right, strict=False):
            here, there = _tower_of_positions(p), _tower_of_positions(q)
            if there is None:
                continue
            if model.modules:
                told = not any(_shares(holder, there) for holder in turning)
            else:
                told = _is_relative(q) or habits.learns_positions(there)
                told = told or (here is not None and habits.learns_positions(here, left=True))
            found |= {there} if told else set()
    return found


def _is_relative(p: Pattern) -> bool:
    """Whether it is a table of relative positions, which its attention adds: none is known to turn rows besides."""
    return {"rel", "pos"} <= {t.text for t in tokens(p.segments)}


def _is_rotary(path: str, class_name: str) -> bool:
    """Whether a module turns rows by position, by its class or by its own name."""
    if class_name in table()["turning without a module"]["classes"]:
        return True
    words = {*split_words(class_name), *split_words(path.rpartition(".")[2])}
    return any(word.startswith(("rotar", "rope")) for word in words)


def _holder(path: str) -> Path:
    return tuple("{}" if s.isdecimal() else s for s in path.split(".")[:-1])


def _shares(holder: Path, tower: Path) -> bool:
    """Whether what holds the rotary embedding holds the tower, or is within it."""
    plain = tuple("{}" if s.isdecimal() else s for s in tower)
    size = min(len(holder), len(plain))
    return holder[:size] == plain[:size]


def _tower_of_positions(p: Pattern) -> Path | None:
    found = tokens(p.segments)
    words = {t.text for t in found}
    if {"rel", "pos"} <= words:
        capture = next((at for at, s in enumerate(p.segments) if "{}" in s), len(p.segments) - 1)
        return p.segments[: max(capture - 1, 0)]
    depths = [t.depth for t in found if t.text == "@pos embed"]
    # the table stands in a module of its own or not, and that in one for embeddings
    return p.segments[: max(len(p.segments) - 2 - min(depths), 0)] if depths else None
