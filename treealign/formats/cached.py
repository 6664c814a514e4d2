"""A property that is computed once, without the lock that Python 3.11 holds meanwhile.

That lock is one for all instances: threads wait for one another, for ever where two compute in opposite orders, and so
does a child that is forked meanwhile. Without it two threads may both compute what is equal, as from Python 3.12 on.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")


class cached_property(functools.cached_property[T]):  # noqa: N801  named as what it stands for
    """`functools.cached_property` as it is from Python 3.12 on."""

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value
