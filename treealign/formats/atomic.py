"""One file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from treealign.formats.transaction.transaction import transaction


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """One file to write into, which takes its name on leaving, once it is on the disk.

    A symbolic link is replaced rather than written through: the hub's cache is made of links to shared files. The mode
    is what the umask gives.

    Raises
    ------
    FormatError
        If the system refuses to write; `where` names the place.
    """
    with transaction(path, single=True) as held:
        name = Path(path).name
        with held.open(name) as file:
            yield file
        held.commit([name])
