"""Cases whose answer is known: a checkpoint, a model, and the groups of keys that belong together."""

from __future__ import annotations

import json
import lzma
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from treealign import KeyTree

CORPUS = Path(__file__).parent.parent / "data" / "corpus"
Runs = Sequence[tuple[int, int, int, int]]  # of rows: the checkpoint's part, the first row, how many, the step


class Group(NamedTuple):
    """Keys that belong together, in the order of the operation that joins or parts them.

    Where the operation does not say it, `rows` has the checkpoint's rows of which each of the model's keys is made.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    operation: str
    rows: Mapping[str, Runs] | None = None

    @property
    def renames(self) -> bool:
        return self.operation in ("rename", "copy") and len(self.checkpoint) == len(self.model) == 1

    @property
    def ties(self) -> bool:
        return self.operation.startswith("tie")


@dataclass(frozen=True)
class Case:
    """Two sides and what is known about them."""

    name: str
    checkpoint: tuple[tuple[Any, ...], ...]
    model: tuple[tuple[Any, ...], ...]
    groups: tuple[Group, ...]
    modules: dict[str, str]
    tied: dict[str, str]
    ordered: bool
    by_hand: int | None
    family: str = ""

    @property
    def renames_only(self) -> bool:
        return all(group.renames for group in self.groups)

    def trees(self, keep_order: bool = False) -> tuple[KeyTree, KeyTree]:
        """Both sides; the checkpoint's keys are shuffled unless their order is real and wanted."""
        leaves, ordered = list(self.checkpoint), keep_order and self.ordered
        if not ordered:
            random.Random(self.name).shuffle(leaves)
        model = KeyTree.from_leaves(self.model, modules=self.modules, tied=self.tied, ordered=True)
        return KeyTree.from_leaves(leaves, ordered=ordered), model


def read_cases(corpus: str, only: str = "") -> Iterator[Case]:
    """The cases of a corpus in data/corpus whose name contains `only`."""
    with lzma.open(CORPUS / f"{corpus}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            if only in raw["id"]:
                yield Case(
                    raw["id"],
                    tuple(tuple(leaf) for leaf in raw["checkpoint"]),
                    tuple(tuple(leaf) for leaf in raw["model"]),
                    tuple(Group(tuple(c), tuple(m), *rest) for c, m, *rest in raw["gold"]),
                    raw.get("modules") or {},
                    raw.get("tied") or {},
                    raw.get("ordered", False),
                    raw.get("hand_written"),
                    raw.get("family") or raw["id"],
                )


def one_of_each_family(corpus: str) -> list[Case]:
    """The first case of each family of a corpus."""
    return list({case.family: case for case in reversed(list(read_cases(corpus)))}.values())


def sampled(corpus: str, every: int = 1) -> list[Case]:
    """Every so many-th case of a corpus; ``real_text:3`` is each third of that one."""
    name, _, own = corpus.partition(":")
    return list(read_cases(name))[:: int(own or every)]
