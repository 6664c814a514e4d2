"""A conversion as pure data: what each file to be written is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from treealign.checkpoint.tensors import SourceTensor
from treealign.formats.stamps import Stamp
from treealign.mapping.operations import Operation


class Span(NamedTuple):
    """Bytes that are moved as they are: `size` of them, from byte `begin` of a file to byte `at` of the new one."""

    path: str
    begin: int
    size: int
    at: int


class Output(NamedTuple):
    """One tensor that a computation gives and the file takes: the number of the tensor, its dtype and its place."""

    number: int
    dtype: str
    at: int


@dataclass(frozen=True)
class Computation:
    """Operations on tensors, and what of their result goes where."""

    sources: tuple[SourceTensor, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Output, ...]
    keys: tuple[str, ...] = ()  # of the sources, for errors


@dataclass(frozen=True)
class ShardTask:
    """One file to write.

    Attributes
    ----------
    name : str
        Its name in the folder.
    header : bytes
        What it begins with.
    size : int
        Its length.
    spans : tuple of Span
        What is moved, in the order of the new file.
    computations : tuple of Computation
        What is computed.
    stamps : mapping of str to Stamp
        The files it is made of.
    mode : int
        Its permissions, before the umask.
    verify : bool
        Whether to read it again.
    """

    name: str
    header: bytes
    size: int
    spans: tuple[Span, ...]
    computations: tuple[Computation, ...]
    stamps: Mapping[str, Stamp]
    mode: int = 0o666
    verify: bool = False

    @property
    def anywhere(self) -> ShardTask:
        """The same for other machines, which may number files otherwise."""
        return replace(self, stamps={path: stamp.anywhere for path, stamp in self.stamps.items()})


class ShardResult(NamedTuple):
    """One file that was written; `digest` is its SHA-256, where it was read again."""

    name: str
    size: int
    digest: str = ""


def merged(spans: Iterable[Span]) -> Iterator[Span]:
    """The same moves in fewer spans, in the order of the new file."""
    last: Span | None = None
    for span in sorted((span for span in spans if span.size), key=lambda span: span.at):
        if last is None:
            last = span
        elif (span.path, span.begin, span.at) == (last.path, last.begin + last.size, last.at + last.size):
            last = last._replace(size=last.size + span.size)
        else:
            yield last
            last = span
    if last is not None:
        yield last
