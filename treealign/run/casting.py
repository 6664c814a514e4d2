"""Arithmetic in double precision, whatever the code of a model casts to.

Code casts to float32 for softmaxes, norms and rotary tables. In a proof such a cast is rounding, which hides behind
itself what a wrong mapping changes. So all operations are seen by a `TorchDispatchMode`: what they are to give in a
narrower type they give in double, and where narrow and double tensors meet the narrow ones are widened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NARROW = frozenset({torch.float16, torch.bfloat16, torch.float32})
_BITS = frozenset({"aten::view.dtype"})  # what reads the same bits as another type


class DoublePrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Lets no operation narrow what is double."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") in NARROW and func.name() not in _BITS:
            kwargs = {**kwargs, "dtype": torch.float64}
        if _is_mixed((args, kwargs)) and not func._schema.is_mutable:
            args, kwargs = tree_map(widened, (args, kwargs))
        return func(*args, **kwargs)


def widened(value: Any) -> Any:
    """A narrow floating tensor in double precision; anything else as it is."""
    return value.double() if isinstance(value, torch.Tensor) and value.dtype in NARROW else value


def _is_mixed(values: Any) -> bool:
    kinds = {value.dtype for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor) and value.dim()}
    return torch.float64 in kinds and not NARROW.isdisjoint(kinds)


@contextmanager
def calm(seed: int, *, double: bool) -> Iterator[None]:
    """One run under equal conditions: seeds, maths attention, no gradients, and all numbers in double precision.

    The state of torch's, numpy's and Python's random numbers, the default dtype, and the fast path of attention are as
    they were afterwards.
    """
    import random

    import numpy as np
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kept = random.getstate(), np.random.get_state()
    default, fast = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    mode: Any = DoublePrecision() if double else nullcontext()  # type: ignore[no-untyped-call]  # as above
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch.set_default_dtype(torch.float64 if double else torch.float32)
        with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            with mode:
                yield
    finally:
        torch.set_default_dtype(default)
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(kept[0])
        np.random.set_state(kept[1])
