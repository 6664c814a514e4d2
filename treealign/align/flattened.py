"""Names whose dots were written otherwise or left out: `text_model_encoder_layers_0_fc1`, `input_blocks00weight`.

Trainers flatten the path of a module into one segment: kohya and LyCORIS put underscores for its dots behind a word or
two of their own (`lora_te_`, `lora_unet_`); the averages of weights that `LitEma` keeps are buffers, whose names may
have no dots, so that these are left out. A text that fits one path of the other side, and no other, once separators
are dropped is that path. The tree is read under it, and what an alignment finds holds for the keys as they stand.
Two paths that fit (`layers.1.1` and `layers.11` for `layers11`) leave the text as it is.

Sources: kohya-ss/sd-scripts `networks/lora.py` (``lora_name = prefix + "." + name …; lora_name.replace(".", "_")``),
LyCORIS `lycoris/wrapper.py` likewise, CompVis/latent-diffusion `ldm/modules/ema.py` (``name.replace('.', '')``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from treealign.align.spelling import respelled
from treealign.tree.keytree import KeyTree

_FEWEST_LEVELS = 3  # that one segment has to spell: `conv1` is no `conv.1`, a number behind a name is a name of its own
_MOST_WORDS = 4  # that a trainer puts in front
_MOST_ABOVE = 4  # levels of the other side that the flattened names do not have
_FEWEST_KEYS = 2
_NO_SEPARATORS = str.maketrans("", "", "._-/")
_NO_NUMBERS = str.maketrans("", "", "._-/{}0123456789")


class _Place(NamedTuple):
    """Where flattened names stand in keys: the segment, what is in front of them there, and what the paths lack."""

    at: int
    front: str
    above: str


def unflattened(flat: KeyTree, other: KeyTree) -> KeyTree:
    """A tree with its flattened names spelled as the other side spells them; the tree itself where it has none.

    Notes
    -----
    Linear in the number of keys times their depth, on either side.
    """
    if not _has_flat(flat, other):
        return flat
    paths = _Paths(other.keys)
    found = {key: list(paths.fitting(key)) for key in flat.keys}
    votes = Counter(place for fits in found.values() for place in {place for place, _ in fits})
    chosen = _chosen(votes)
    if not chosen:
        return flat
    return respelled(flat, [_spelled(key, found[key], chosen) for key in flat.keys])


def _has_flat(flat: KeyTree, other: KeyTree) -> bool:
    """Whether some segment consists of several of the other side's, one behind the other; numbers aside."""
    theirs, mine = ({s for fold in tree.folds for s in fold.template.split(".")} for tree in (other, flat))
    words = frozenset(segment.translate(_NO_NUMBERS) for segment in theirs) - {""}
    longest = max(map(len, words), default=0)
    for segment in mine - theirs:
        texts = (segment[len(front) :].translate(_NO_NUMBERS) for front in _fronts(segment))
        if any(_count(text, words, longest) >= _FEWEST_LEVELS for text in texts):
            return True
    return False


def _count(text: str, words: frozenset[str], longest: int) -> int:
    """Of how many words a text consists, at most; 0 where it does not.

    >>> _count("layers0fc1", frozenset({"layers", "0", "fc1"}), 6)
    3
    """
    most = [0] + [-1] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - longest), end):
            if most[start] >= 0 and text[start:end] in words:
                most[end] = max(most[end], most[start] + 1)
    return max(0, most[-1])


def _chosen(votes: Mapping[_Place, int]) -> frozenset[_Place]:
    """The places that count: of those with one front, the one that most keys have; a tie is no evidence."""
    best: dict[tuple[int, str], list[_Place]] = {}
    for place, count in votes.items():
        held = best.setdefault((place.at, place.front), [])
        if not held or count > votes[held[0]]:
            held[:] = [place]
        elif count == votes[held[0]]:
            held.append(place)
    return frozenset(held[0] for held in best.values() if len(held) == 1 and votes[held[0]] >= _FEWEST_KEYS)


def _spelled(key: str, fits: Iterable[tuple[_Place, str]], chosen: frozenset[_Place]) -> str:
    """The key under the one path that it can be, as much of it as the key has; as it is where it can be several."""
    named = [(f"{place.above}.{path}", place, path) for place, path in fits if place in chosen]
    if len({whole.strip(".") for whole, _, _ in named}) != 1:
        return key
    _, place, path = max(named, key=lambda one: len(one[2]))
    return _put(key, place, path)


def _put(key: str, place: _Place, path: str) -> str:
    segments = key.split(".")
    front = place.front.rstrip("_")
    return ".".join([*segments[: place.at], *([front] if front else []), path, *segments[place.at + 1 :]])


def _squashed(text: str) -> str:
    """A text without separators.

    >>> _squashed("layers.0.self_attn"), _squashed("layers_0_self_attn")
    ('layers0selfattn', 'layers0selfattn')
    """
    return text.translate(_NO_SEPARATORS)


class _Paths:
    """The paths of modules and leaves of a tree, by their text without separators, from each of the first levels on."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._found: dict[str, set[tuple[str, str]]] = {}
        for above, path in _paths(keys):
            self._found.setdefault(_squashed(path), set()).add((above, path))

    def fitting(self, key: str) -> Iterator[tuple[_Place, str]]:
        """The places in a key where one segment spells a path, with that path; those where two fit are left out."""
        segments = key.split(".")
        for at, segment in enumerate(segments):
            for front in _fronts(segment):
                text = segment[len(front) :]
                for above, paths in self._by_above(text).items():
                    path = _only(paths, text)
                    if path is not None:
                        yield _Place(at, front, above), path

    def _by_above(self, text: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for above, path in self._found.get(_squashed(text), ()):
            found.setdefault(above, []).append(path)
        return found


def _paths(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What stands above, and what below, for every level above a module or leaf; as deep as a flattened name is."""
    seen: set[str] = set()
    for key in keys:
        path = key
        while path and path not in seen:
            seen.add(path)
            segments = path.split(".")
            for start in range(min(_MOST_ABOVE, len(segments) - _FEWEST_LEVELS) + 1):
                yield ".".join(segments[:start]), ".".join(segments[start:])
            path = path.rpartition(".")[0]


def _fronts(segment: str) -> Iterator[str]:
    """Nothing, and the first words of a segment."""
    yield ""
    ends = [found.end() for found in re.finditer("_", segment)]
    yield from (segment[:end] for end in ends[:_MOST_WORDS])


def _only(paths: list[str], text: str) -> str | None:
    """The one path that a text is; of several, the one whose dots and underscores are the underscores of the text."""
    if len(paths) == 1:
        return paths[0] if paths[0] != text else None
    exact = [path for path in paths if path.replace(".", "_") == text and "_" in text]
    return exact[0] if len(exact) == 1 else None
