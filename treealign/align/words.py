"""Names to words, and words to the roles of the field's vocabulary.

A name is split at underscores, case changes and digits; each word is brought to one spelling; runs of words that the
vocabulary knows become roles (`attention.self.query` and `wq` are both the role ``q``). The vocabulary is data:
``vocabulary.json`` beside this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+", re.UNICODE)
_ENDING = re.compile(r"(?<=_proj)_\w+$|_scale_inv$", re.ASCII)  # what a piece adds to the name of its weight
INDEX = "#"  # what a capture reads as in a run of words
LONG = 6  # letters: `to_k` is not the word `tok`, `self_attn` is the word `selfattn`
START = "^"  # what stands before the first word
CONTAINERS = frozenset({"mlp", "self attn", "cross attn", "text"})  # roles of containers, not of leaves
PARAMETER_ROLES = {"weight": "weight", "bias": "bias"}


@dataclass(frozen=True)
class Vocabulary:
    """The tables of ``vocabulary.json``, inverted for lookup.

    Attributes
    ----------
    words : dict
        A spelling to its one or more words.
    phrases : dict
        A run of words to the roles it names.
    guesses : dict
        A run of words to the role that it often, not always, names.
    containers : dict
        A run of words to the role of a container that it names: what it says of what stands in it.
    longest : int
        Words in the longest run.
    generic : frozenset
        Words that separate nothing by themselves.
    secondary : frozenset
        Words that name a second copy of the weights.
    compositions : dict
        A fused role to its parts, in their order.
    conventional_order : tuple of tuple of str
        Roles in the order in which they usually stand.
    other_orders : dict
        A fused role to orders of its parts that some library has all the same, whatever the name spells.
    letters : dict
        Letters that stand for roles in names such as `gqkv`.
    wrappers : frozenset
        Segments that a wrapper puts between a module and what it wraps: they say nothing of either.
    quantised : dict
        Spellings of pieces of a quantised weight to their kinds; ``*`` stands for any beginning.
    contraries : tuple of frozenset
        Words that exclude each other: what is about the one is not about the other.
    sequence : frozenset
        Words that say which part comes first, and stand in that order in the alphabet too: `in`, `out`.
    """

    words: dict[str, tuple[str, ...]]
    phrases: dict[tuple[str, ...], tuple[str, ...]]
    guesses: dict[tuple[str, ...], str]
    containers: dict[tuple[str, ...], str]
    longest: int
    generic: frozenset[str]
    secondary: frozenset[str]
    compositions: dict[str, tuple[str, ...]]
    conventional_order: tuple[tuple[str, ...], ...]
    other_orders: dict[str, tuple[tuple[str, ...], ...]]
    letters: dict[str, str]
    wrappers: frozenset[str]
    quantised: dict[str, str]
    contraries: tuple[frozenset[str], ...]
    sequence: frozenset[str]

    @property
    def part_roles(self) -> frozenset[str]:
        """The roles of projections that stand beside each other, fused or not: gate, up and down; q, k, v and o."""
        return frozenset(role for line in self.conventional_order for role in line)


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary that ships with treealign."""
    data = json.loads(resources.files("treealign.align").joinpath("vocabulary.json").read_text("utf-8"))
    words = {spelling: tuple(word.split()) for word, spellings in data["words"].items() for spelling in spellings}
    phrases: dict[tuple[str, ...], tuple[str, ...]] = {}
    for roles, runs in data["phrases"].items():
        for run in runs:
            key = tuple(run.split())
            phrases[key] = phrases.get(key, ()) + tuple(f"@{role}" for role in roles.split("|"))
    return Vocabulary(
        words,
        phrases,
        {tuple(run.split()): f"@{role}" for role, runs in data["guesses"].items() for run in runs},
        {tuple(run.split()): f"@{role}" for role in CONTAINERS for run in data["phrases"][role]},
        max(map(len, phrases)),
        frozenset(data["generic"]),
        frozenset(data["secondary"]),
        {whole: tuple(parts) for whole, parts in data["compositions"].items()},
        tuple(tuple(line) for line in data["conventional_order"]),
        {role: tuple(map(tuple, orders)) for role, orders in data["other_orders"].items()},
        data["letters"],
        frozenset(data["wrappers"]),
        {spelling: kind for kind, spellings in data["quantised"].items() for spelling in spellings},
        tuple(map(frozenset, data["contraries"])),
        frozenset(data["sequence"]),
    )


@lru_cache(maxsize=65536)
def split_words(segment: str) -> tuple[str, ...]:
    """The words of one segment, each in its one spelling.

    >>> split_words("post_attention_layernorm")
    ('post', 'attn', 'norm')
    >>> split_words("fc1")
    ('linear', '1')
    """
    if segment == "{}":
        return (INDEX,)
    table = vocabulary().words
    found: list[str] = []
    whole = segment.lower().replace("_", "")
    if whole in table and (whole == segment.lower() or len(whole) >= LONG):
        return table[whole]
    for word in _WORD.findall(segment):
        low = word.lower()
        # a letter is a word of its own only where nothing stands beside it: `h` holds layers, `4h` are hidden units
        found.extend(table.get(low, (low,)) if len(low) > 1 else (low,))
    return tuple(_joined(found))


def _joined(found: list[str]) -> list[str]:
    """`layer norm` is one word wherever the two stand side by side."""
    out: list[str] = []
    for word in found:
        if word == "norm" and out and out[-1] == "layer":
            out[-1] = "norm"
        else:
            out.append(word)
    return out


@lru_cache(maxsize=65536)
def quantised_piece(segment: str) -> str:
    """Which piece of a quantised weight a segment names, or nothing.

    >>> quantised_piece("weight_scale_inv"), quantised_piece("correct_output_scale")
    ('scale inv', '')
    """
    return vocabulary().quantised.get(_spelling(segment), "")


def weight_beside(segment: str) -> str:
    """The name of the weight beside its piece.

    >>> weight_beside("gate_up_proj_scale_inv"), weight_beside("qzeros")
    ('gate_up_proj', 'weight')
    """
    return _ENDING.sub("", segment) if _spelling(segment).startswith("*") else "weight"


def _spelling(segment: str) -> str:
    """The entry of the vocabulary that a segment falls under: itself, or one with a ``*`` for its beginning."""
    endings = (s for s in vocabulary().quantised if s[0] == "*" and segment.endswith(s[1:]))
    return segment if segment in vocabulary().quantised else next(endings, "")


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of evidence that a name carries.

    `depth` counts segments from the leaf: 0 is the parameter's own name, 1 its module. `qualified` says whether sharing
    it can settle anything; `ordinal` marks a number, which is a position in a series and not a name.
    """

    text: str
    depth: int
    qualified: bool
    ordinal: bool = False


def unwrapped(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The path without what wrappers add.

    >>> unwrapped(("layers", "{}", "_fsdp_wrapped_module", "mlp", "weight"))
    ('layers', '{}', 'mlp', 'weight')
    """
    wrappers = vocabulary().wrappers
    return tuple(s for s in segments if s not in wrappers) if wrappers.intersection(segments) else segments


def without_wrappers(text: str) -> str:
    """A hint whose paths are without what wrappers add.

    >>> without_wrappers("layers._orig_mod.up,layers._orig_mod=ff,l")
    'layers.up,layers=ff,l'
    """
    names = "|".join(sorted(vocabulary().wrappers))
    return re.sub(rf"\b(?:{names})\.|\.(?:{names})\b", "", text)


@lru_cache(maxsize=65536)
def tokens(segments: tuple[str, ...]) -> tuple[Token, ...]:
    """All tokens of a path: its words, and the roles that runs of words name; wrappers are looked through."""
    segments = unwrapped(segments)
    last = len(segments) - 1
    words = [(START, last)]
    for at, segment in enumerate(segments):
        words += [(w, last - at) for w in split_words(segment)]
    numbers = {last - at for at, segment in enumerate(segments) if segment.isdecimal()}
    found = [Token(w, d, _qualified(w), w.isdigit()) for w, d in words if w not in (INDEX, START)]
    return tuple(found + _pair_tokens(segments) + _phrase_tokens(words, numbers) + _guessed_tokens(words))


def _pair_tokens(segments: tuple[str, ...]) -> list[Token]:
    """Whole names of several words, and neighbouring words: `image_to_token` is not `token_to_image`.

    A whole name separates where its words alone are generic (`norm_out`, `norm_conv`); a number in it is no name.
    """
    last = len(segments) - 1
    found = []
    for at, segment in enumerate(segments):
        words = split_words(segment)
        if len(words) > 1:
            if not any(w.isdigit() for w in words):
                found.append(Token(f"={segment}", last - at, at < last))
            found += [Token(f"{a} {b}", last - at, _qualified(a) or _qualified(b)) for a, b in pairwise(words)]
    return found


def _guessed_tokens(words: Sequence[tuple[str, int]]) -> list[Token]:
    """Roles that neighbouring words often name: the first attention of a block is the one to itself."""
    guesses = vocabulary().guesses
    pairs = (((a, b), depth) for (a, _), (b, depth) in pairwise(words))
    return [Token(guesses[run], depth, False) for run, depth in pairs if run in guesses]


def _qualified(word: str) -> bool:
    """Whether sharing a word can settle anything."""
    return not (word in vocabulary().generic or word.isdigit() or len(word) == 1)


def _phrase_tokens(words: Sequence[tuple[str, int]], numbers: Set[int]) -> list[Token]:
    """Roles named by runs of words, longest run first, no word used twice.

    `numbers` are the depths at which a segment is a number: an index like any other, unless a run spells it.
    """
    table, longest = vocabulary().phrases, vocabulary().longest
    used = [False] * len(words)
    found: list[Token] = []
    for length in range(min(longest, len(words)), 0, -1):
        for start in range(len(words) - length, -1, -1):
            if any(used[start : start + length]):
                continue
            run = tuple(w for w, _ in words[start : start + length])
            indexed = tuple(INDEX if d in numbers else w for w, d in words[start : start + length])
            roles = table.get(run) or table.get(indexed)
            if roles is None or _cuts_a_number(words, start, length):
                continue
            used[start : start + length] = [True] * length
            depth = words[start + length - 1][1]
            found += [Token(role, depth, True) for role in roles]
    return found + _container_tokens(words, used)


def _container_tokens(words: Sequence[tuple[str, int]], used: Sequence[bool]) -> list[Token]:
    """What a whole name says of a container, where a word of it names a part of it too: `cross_attn.query`."""
    found = []
    for start in range(len(words) - 1):
        depth = words[start][1]
        end = next((at for at in range(start, len(words)) if words[at][1] != depth), len(words))
        role = vocabulary().containers.get(tuple(w for w, _ in words[start:end]))
        begins = start == 0 or words[start - 1][1] != depth
        if role is not None and begins and depth > 0 and any(used[start:end]) and not all(used[start:end]):
            found.append(Token(role, depth, True))
    return found


def _cuts_a_number(words: Sequence[tuple[str, int]], start: int, length: int) -> bool:
    """Whether a run of several names cuts one before its number or behind it.

    The 1 of `fc1.norm` counts no norms, and the `output.fc1` of an MLP is not what BERT calls `output.dense`.
    """
    (first, depth), (_, last), end = words[start], words[start + length - 1], start + length
    begins = first.isdigit() and start > 0 and words[start - 1][1] == depth
    ends = end < len(words) and words[end][0].isdigit() and words[end][1] == last
    return last != depth and (begins or ends)
