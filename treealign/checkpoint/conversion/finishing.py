"""What stands beside the weights: the other files of the folder, what undoes the conversion, and last the index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from treealign.checkpoint.conversion.planning import ConversionPlan
from treealign.checkpoint.conversion.side_files import SideFiles, carry_along
from treealign.checkpoint.conversion.writing import written
from treealign.formats.flushing import write_at
from treealign.formats.safetensors_writer import index_bytes
from treealign.formats.transaction.transaction import refusals


def finish(
    stage: Path, plan: ConversionPlan, side_files: SideFiles, beside: Mapping[str, bytes], index_mode: int = 0o666
) -> list[str]:
    """Write what stands beside the weights.

    Returns
    -------
    list of str
        All files, in the order in which they are to appear: the index, or what is left without one, comes last.

    Raises
    ------
    FormatError
        The system refuses to write.
    """
    with refusals(stage):
        for other in side_files.carried:
            carry_along(other, stage)
        for name, content in beside.items():
            write_file(stage / name, content)
        names = [*(other.name for other in side_files.carried), *beside, *(task.name for task in plan.tasks)]
        placement = plan.placement
        if placement.index is not None:
            content = index_bytes(placement.shards, placement.index, placement.index_name, placement.text)
            write_file(stage / placement.index_name, content, index_mode)
            names.append(placement.index_name)
        _sweep(stage, names)
    return names


def write_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a small file, whole or not at all."""
    with written(path, mode) as descriptor:
        write_at(descriptor, content, 0)


def _sweep(stage: Path, names: list[str]) -> None:
    """Remove what workers that were killed have left."""
    expected = {stage / name for name in names}
    for path in stage.rglob("*"):
        if path not in expected and not path.is_dir():
            path.unlink()
