"""Addresses: a path, or ``path#name`` for one of several state dicts that were saved together."""

from __future__ import annotations

import os
from pathlib import Path

from treealign.formats.remote.urls import is_url

SIGN = "#"


def split_address(address: str | os.PathLike[str]) -> tuple[str, str]:
    """The path, and the name of what is meant in it; no name where the address is a path that is there.

    >>> split_address("nowhere/latest.pt#ema"), split_address("latest.pt")
    (('nowhere/latest.pt', 'ema'), ('latest.pt', ''))
    """
    text = os.fspath(address)
    if SIGN not in text or is_url(text) or os.path.lexists(text):
        return text, ""
    path, _, name = text.rpartition(SIGN)
    # the sign may stand in the path: the longest that is there counts
    while SIGN in path and not Path(path).exists():
        path, _, more = path.rpartition(SIGN)
        name = f"{more}{SIGN}{name}"
    return path, name
