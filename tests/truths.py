"""Checkpoints of which is known, by construction, what each name of the model is to hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from treealign import KeyTree, OpenQuestionsWarning, suggest
from treealign.suggestion import Suggestion

Change = Callable[[torch.Tensor], torch.Tensor]


def unchanged(tensor: torch.Tensor) -> torch.Tensor:
    """As it is stored."""
    return tensor


def of_tensors(tensors: dict[str, torch.Tensor], ordered: bool = False) -> KeyTree:
    """A tree of the names and shapes of a state dict."""
    return KeyTree.from_leaves([(k, tuple(t.shape), "float32") for k, t in tensors.items()], ordered=ordered)


@dataclass
class Truth:
    """What the checkpoint holds, and what each name of the model is to hold of it."""

    checkpoint: dict[str, torch.Tensor] = field(default_factory=dict)
    model: dict[str, torch.Tensor] = field(default_factory=dict)

    def pair(self, old: str, new: str, shape: tuple[int, ...], change: Change = unchanged) -> None:
        """One tensor of either side, all of its numbers different."""
        start = 1 + sum(t.numel() for t in self.checkpoint.values())
        count = int(torch.tensor(shape).prod())
        self.checkpoint[old] = torch.arange(start, start + count).reshape(shape)
        self.model[new] = change(self.checkpoint[old]).contiguous()

    def fused(self, old: str, new: Iterable[str], shape: tuple[int, ...]) -> None:
        """Several tensors of one shape that the checkpoint keeps as one, the rows of one after those of another."""
        names = list(new)
        self.pair(old, "", (len(names) * shape[0], *shape[1:]))
        del self.model[""]
        self.model.update(zip(names, self.checkpoint[old].split(shape[0]), strict=True))

    def suggestion(self, hints: list[str] | None = None) -> Suggestion:
        """What is suggested for the two sides."""
        return suggest(of_tensors(self.checkpoint), of_tensors(self.model, ordered=True), hints=hints)

    def judged(self, suggestion: Suggestion) -> tuple[set[str], set[str]]:
        """The names of the model that the guess fills wrongly or not at all, and those that are certain."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OpenQuestionsWarning)
            got = dict(suggestion.mapping.apply(self.checkpoint))
        wrong = {k for k, v in self.model.items() if k not in got or not torch.equal(got[k], v)}
        return wrong, {k for m in suggestion.matches if m.certain for k in m.model}
