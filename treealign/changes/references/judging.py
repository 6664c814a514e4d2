"""From mentions to references: which texts speak of the old tree, how sure that is, what became of their meaning.

No text counts without a name from the old tree. How sure it is depends on who reads the text, on how many segments
that not every model has stand in it, on whether it begins where the tree begins, and on whether the file speaks of the
model at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from treealign.changes.references.mentions import HOLE, Mention
from treealign.changes.references.names import common_segments
from treealign.changes.references.readers import READERS
from treealign.changes.references.resolving import Resolution, Resolver, is_plain
from treealign.changes.results import DEAD, Reference
from treealign.formats.cached import cached_property

_WORDS = re.compile(r"[A-Za-z_]\w*")
_LITERAL = re.compile(r"[\w.-]*")
_STEM = re.compile(r"(For[A-Z]|Model|With[A-Z]|LMHead|PreTrained|Pipeline|Encoder|Decoder|Config)")
_WRAPPERS = ("base_model.model.", "module.", "_orig_mod.", "_fsdp_wrapped_module.")
_CONFIGS = frozenset(
    ["config", "cfg", "args", "hparams", "conf", "opt", "options", "settings", "params", "self.config"]
)
_OF_MODULES = frozenset(
    ["weight", "bias", "data", "requires_grad", "requires_grad_", "parameters", "to", "eval", "train"]
)


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges the mentions of one file after the other."""

    resolver: Resolver
    minimum: float

    @cached_property
    def _stem(self) -> str:
        """What the model is called in class names and prose: the root's class without its purpose."""
        name = self.resolver.old.tree.modules.get("", "")
        stem = _bare(_STEM.split(name)[0])
        return stem if len(stem) >= 3 else ""

    def about_model(self, text: str) -> bool:
        """Whether a file names the model."""
        return bool(self._stem) and self._stem in _bare(text)

    def references(self, mentions: Sequence[Mention], file: str, source: str) -> Iterator[Reference]:
        """The references among the mentions of a file, those of enough certainty."""
        about: bool | None = None
        resolved = [(mention, *self._resolved(mention)) for mention in mentions]
        alive = {mention.group for mention, _, resolution in resolved if resolution is not None} - {""}
        for mention, text, resolution in resolved:
            if resolution is None:
                if mention.group in alive and self.resolver.is_dead(mention.text, mention.reader):
                    yield Reference(file, mention.line, mention.shown, None, DEAD, 0.9, mention.reader, mention.column)
                continue
            if about is None:
                about = self.about_model(f"{file}\n{source}")
            certainty = self._certainty(mention, text, resolution, about)
            if certainty >= self.minimum:
                yield _reference(mention, text, resolution, file, certainty)

    def _resolved(self, mention: Mention) -> tuple[str, Resolution | None]:
        """The part of a mention that names something in the old tree, and what became of it."""
        text = mention.text
        words = self.resolver.old.words
        if words.isdisjoint(_WORDS.findall(text)):
            return text, None
        if mention.strength == "chain":
            text = self.resolver.run_in(text)
            return text, self.resolver.resolve(text, "chain") if text else None
        if READERS[mention.reader].is_regex:
            return text, self.resolver.resolve(text, mention.reader)
        if mention.strength == "text":
            text = _unwrapped(text)
            if not self._could_be_name(text):
                return text, None
        found = self.resolver.resolve(text, mention.reader) or self._otherwise(text, mention.reader)
        if found is None and mention.reader in ("exact", "path", "contains") and "." in text:
            return text, self.resolver.resolve(text, "run")
        return text, found

    def _otherwise(self, text: str, reader: str) -> Resolution | None:
        """As another release, or another rule of the same reader, would take it."""
        other = {"skip": "skip inside", "layer": "class"}.get(reader)
        return self.resolver.resolve(text, other) if other else None

    def _could_be_name(self, text: str) -> bool:
        """Two segments at least, all of them neighbours somewhere in the tree, and nothing else."""
        segments = text.strip(".").split(".")
        if len(segments) < 2 or not is_plain(text):
            return False
        return all(self.resolver.old.beside(a, b) for a, b in pairwise(segments))

    def _certainty(self, mention: Mention, text: str, resolution: Resolution, about: bool) -> float:
        segments = [word for word in _WORDS.findall(text) if word in self.resolver.old.words]
        telling = sum(segment not in common_segments() for segment in segments)
        begins = _begins(text, resolution.names)
        base = _base(mention, text, len(segments), telling, begins) + 0.15 * about
        if mention.strength in ("text", "chain") and not begins and self._starts_in_change(text, resolution.names[0]):
            # nothing in it says of which tower or decoder it speaks: other models have parts of the same name
            base = min(base, 0.75 if about and mention.strength == "text" else 0.5)
        if mention.excused or _is_config(mention, text):
            base /= 2
        return round(min(1.0, base), 2)

    def _starts_in_change(self, text: str, name: str) -> bool:
        """Whether the first segment of a text is what changed."""
        first = text.strip(".").partition(".")[0]
        path, found, _ = name.partition(first)
        there = self.resolver.translation.of(path + found)
        return not any(one.rpartition(".")[2] == first for one in there)


def _bare(text: str) -> str:
    return text.lower().replace("_", "").replace("-", "")


def _unwrapped(text: str) -> str:
    for wrapper in _WRAPPERS:
        text = text.removeprefix(wrapper)
    return text


def _begins(text: str, names: Sequence[str]) -> bool:
    """Whether the text begins where the tree begins."""
    first = _LITERAL.match(text.lstrip(".^(").replace("\\.", "."))[0].rstrip(".")  # type: ignore[index]  # it may be empty
    return bool(first) and any(name.startswith(first) for name in names[:100])


def _base(mention: Mention, text: str, count: int, telling: int, begins: bool) -> float:
    several, depth = count >= 2, len(text.split("."))
    if mention.strength == "consumer":
        return 0.9 if telling else 0.75  # segments that every model has may be those of another one
    if mention.strength in ("loop", "maybe"):
        less = 0.1 * (mention.strength == "maybe")
        if begins and mention.reader in ("startswith", "exact", "match"):
            return (0.9 if several else 0.8 if telling else 0.6) - less
        plain = 0.8 if depth >= 3 else 0.6 if several else 0.4
        return (0.9 if telling and several else 0.8 if telling else plain) - less
    if not several:
        return 0.2
    if begins and telling:
        return 0.9 if depth >= 3 else 0.8
    return min(0.9, 0.3 + 0.2 * telling + 0.1 * (depth >= 3) + 0.2 * begins)


def _is_config(mention: Mention, text: str) -> bool:
    """Attributes of a configuration bear the names of the modules that it describes."""
    if mention.strength != "chain":
        return False
    before, _, behind = mention.text.partition(text)
    return bool(_CONFIGS.intersection(before.strip(".").split("."))) and not _OF_MODULES.intersection(behind.split("."))


def _reference(mention: Mention, text: str, resolution: Resolution, file: str, certainty: float) -> Reference:
    old, new = text.replace(HOLE, "{}"), resolution.new
    shown = None if new is None else new.replace(HOLE, "{}")
    span = mention.span if resolution.exact and new is not None else (0, 0)
    told = resolution.status, certainty, mention.reader, mention.column, span, resolution.guess
    return Reference(file, mention.line, old, shown, *told)
