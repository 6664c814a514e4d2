"""Where a conversion goes, and where it must not go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from treealign.checkpoint.conversion.planning import ConversionPlan
from treealign.checkpoint.conversion.undoing import ORIGINALS
from treealign.checkpoint.obsolete import obsolete
from treealign.checkpoint.record_file import BEFORE, NAME
from treealign.checkpoint.sources import Source
from treealign.errors import TreealignError
from treealign.formats.transaction.stages import SUFFIX, refuse_unnamable

_FILE = ".safetensors"


@dataclass(frozen=True)
class Destination:
    """A folder, or a single file; `mode` is for a folder that is made."""

    path: Path
    single: bool
    mode: int = 0o777

    def name(self, name: str) -> str:
        """What a file of the result is called there: what stands beside a single file begins with its name."""
        if not self.single:
            return name
        return f"{self.path.name}.{name}" if name in (NAME, BEFORE, ORIGINALS) else self.path.name

    def obsolete(self, names: Sequence[str]) -> list[str]:
        """The files there that go before those of these names appear."""
        if self.single:
            records = (f"{self.path.name}.{name}" for name in (NAME, BEFORE, ORIGINALS))
            return [name for name in records if os.path.lexists(self.path.with_name(name))]
        return obsolete(self.path, names)

    def renamed(self, plan: ConversionPlan) -> ConversionPlan:
        """The plan with the names that its files have there.

        Raises
        ------
        TreealignError
            The destination is a file, and there are several.
        """
        if not self.single:
            return plan
        if len(plan.placement.shards) != 1:
            hint = "name a folder as the destination"
            raise TreealignError(f"the result has {len(plan.placement.shards)} files", where=str(self.path), hint=hint)
        tasks = [replace(task, name=self.name(task.name)) for task in plan.tasks]
        # what stands beside appears first
        tasks.sort(key=lambda task: task.name == self.path.name)
        placement = plan.placement.in_one_file(self.path.name)
        return replace(plan, tasks=tuple(tasks), placement=placement)


def destination_of(source: Source, path: Path, *, force: bool) -> Destination:
    """The destination, if the checkpoint may be converted to it.

    Raises
    ------
    TreealignError
        It is the checkpoint, lies within it, is there already, or is no place for it.
    """
    refuse_unnamable(path)
    single = source.folder is None and path.suffix == _FILE and not path.is_dir()
    _refuse_source(source, path)
    if path.is_file() and not single:
        hint = "a single file can go to a file named .safetensors" if source.folder is None else "name a folder"
        raise TreealignError("the destination is a file", where=str(path), hint=hint)
    if os.path.lexists(path) and not force and (single or _occupied(path)):
        raise TreealignError("the destination is there already", where=str(path), hint="--force (force=True) replaces")
    mode = source.folder.stat().st_mode & 0o777 if source.folder is not None else 0o777
    return Destination(path, single, mode)


def _refuse_source(source: Source, path: Path) -> None:
    here = Path(os.path.realpath(path))
    given = Path(os.path.realpath(source.folder or source.path))
    files = {os.path.realpath(file) for file in source.files}
    if here == given or str(here) in files or any((here / Path(file).name) == Path(file) for file in files):
        raise TreealignError(
            "the destination is the checkpoint itself",
            where=str(path),
            hint="name another one; --in-place (in_place=True) renames in the files themselves",
        )
    if source.folder is not None and given in here.parents:
        raise TreealignError("the destination lies inside of the checkpoint", where=str(path), hint="name another one")


def _occupied(path: Path) -> bool:
    """Whether something is there, other than what a run that was killed has left."""
    return not path.is_dir() or any(entry.name != SUFFIX for entry in path.iterdir())
