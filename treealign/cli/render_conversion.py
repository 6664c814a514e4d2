"""What a conversion did, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from treealign.cli.console import fold_line, plural, size
from treealign.tree.fold import fold_names

if TYPE_CHECKING:
    from treealign.checkpoint.conversion.converting import ConversionResult
    from treealign.run.results import Proof

_INDENT = " " * 12


def conversion_json(result: ConversionResult, proof: Proof | None = None) -> dict[str, Any]:
    """Everything there is to say of a conversion, and of a run of what it made."""
    told = {} if proof is None else {"proved": proof.proved, "difference": proof.difference, "unproved": proof.unproved}
    return asdict(result) | told


def conversion_lines(
    result: ConversionResult, proof: Proof | None = None, *, reverse: bool, in_place: bool
) -> Iterator[str]:
    """What was done, fact by fact."""
    yield f"direction   {'model -> checkpoint' if reverse else 'checkpoint -> model'}"
    yield f"keys        {result.keys:,}, {result.renamed:,} of them renamed, {result.computed:,} converted"
    if in_place and not result.files:
        yield "in place    nothing was left to do"
        return
    changed = "in place    " if in_place else "wrote       "
    weight = "headers only" if in_place else size(result.nbytes)
    yield from _listed(f"{changed}{plural(len(result.files), 'file')}, {weight}: ", result.files)
    if result.left_out:
        yield from _listed("left out    ", result.left_out)
    yield from fold_line(_way(result, reverse=reverse), _INDENT)
    for name, digest in result.digests.items():
        yield f"verified    {name}"
        yield f"            sha256 {digest}"
    if proof is not None:
        yield from fold_line(f"outputs     {proof.summary}", _INDENT)
    if result.notes:
        yield ""
        yield "not converted"
        yield from (f"    {note}" for note in result.notes)
    if result.rounded:
        yield ""
        yield "not as they were: changed since, or rounded by a cast"
        yield from (f"    {name}" for name in fold_names(result.rounded))


def _listed(start: str, names: tuple[str, ...]) -> Iterator[str]:
    shown = [*names[:8], f"… and {len(names) - 8} more"] if len(names) > 9 else names
    yield from fold_line(start + ", ".join(shown), _INDENT)


def _way(result: ConversionResult, *, reverse: bool) -> str:
    if result.by == "record":
        return "followed    the record of the conversion that made the checkpoint"
    if result.recorded:
        return "way back    by the record beside the files, which tells what the mapping does not"
    back = "" if reverse else " --reverse"
    given = "the same bytes" if result.exact else "the same keys and tensors, in safetensors"
    return f"way back    convert{back} with the same mapping gives {given}"
