"""Work counted in steps, never in seconds: the same on every machine, so that what comes of it is the same too."""

from __future__ import annotations


class OutOfWork(Exception):  # noqa: N818  a signal, not an error
    """More steps would be needed than there are."""


class Budget:
    """How many steps may still be made; one takes about a microsecond."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take some of them. Raises `OutOfWork` where there are not as many."""
        self.left -= steps
        if self.left < 0:
            raise OutOfWork
