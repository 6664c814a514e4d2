"""What names something on another machine."""

from __future__ import annotations

import re

# `pathlib` makes one slash of two
_URL = re.compile(r"hf:/|(?:[a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: str) -> bool:
    r"""Whether it names something on another machine rather than a path.

    >>> is_url("hf://org/name"), is_url("s3://bucket/model"), is_url("C:\\model"), is_url("model")
    (True, True, False, False)
    """
    return bool(_URL.match(text))
