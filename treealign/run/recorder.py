"""Record what a module computes, where the module runs: this one file needs torch and nothing else of treealign.

Copied into the environment of the original code it is a command, ``python recorder.py package.module:factory --run
package.module:function -o FILE``; here it is `treealign.record`. What is written is read by ``torch.load`` without
running any code of the file: a run with the module's own weights, and one with random ones, each with inputs, outputs
and the signatures of all that is computed on the way.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

FORMAT = "treealign recording 1"
NARROW = frozenset({torch.float16, torch.bfloat16, torch.float32})
MAIN = ("logits", "last_hidden_state")  # of a result with names, the first of these that it has
DIGITS = 4  # of a moment that count: tables that were computed in float32 are the same to six
_BITS = frozenset({"aten::view.dtype"})  # what reads the same bits as another type
_MATRIX = 2  # dimensions
Signature = tuple[int, str, str]


class DoublePrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Lets no operation narrow what is double, whatever the code of a model casts to.

    Code casts to float32 for softmaxes, norms and rotary tables; in a comparison that is rounding, which hides what a
    wrong mapping changes. What an operation is to give in a narrower type it gives in double, and where narrow and
    double tensors meet the narrow ones are widened.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") in NARROW and func.name() not in _BITS:
            kwargs = {**kwargs, "dtype": torch.float64}
        if _is_mixed((args, kwargs)) and not func._schema.is_mutable:
            args, kwargs = tree_map(_widened, (args, kwargs))
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.dtype in NARROW else value


def _is_mixed(values: Any) -> bool:
    kinds = {value.dtype for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor) and value.dim()}
    return torch.float64 in kinds and not NARROW.isdisjoint(kinds)


class Events(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as above
    """Collects the signatures of all that is computed, in order, each once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.seen: dict[Signature, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            for one in tree_flatten(result)[0]:
                if isinstance(one, torch.Tensor) and one.numel() > 1 and (one.is_floating_point() or one.is_complex()):
                    self.seen[signature(one)] = None
        return result


def signature(tensor: torch.Tensor) -> Signature:
    """How many values a tensor has, and two of their absolute moments, whatever their order and shape.

    >>> signature(torch.tensor([1.0, 2.0])) == signature(torch.tensor([[2.0], [1.0]]))
    True
    """
    size = tensor.detach().abs().double()
    size = size[size.isfinite()]
    square = size * size
    return tensor.numel(), _rounded(square.sum()), _rounded((square * size).sum())


def _rounded(value: torch.Tensor) -> str:
    return f"{float(value):.{DIGITS - 1}e}"


@contextmanager
def calm(seed: int, *, double: bool) -> Iterator[None]:
    """One run under equal conditions: seeds, maths attention, and all numbers in double precision.

    The state of torch's, numpy's and Python's random numbers, the default dtype, and the fast path of attention are as
    they were afterwards.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    numpy: Any = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else None
    kept, default, fast = random.getstate(), torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    mode: Any = DoublePrecision() if double else nullcontext()  # type: ignore[no-untyped-call]  # as above
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch.set_default_dtype(torch.float64 if double else torch.float32)
        with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(seed)
            random.seed(seed)
            if numpy:
                numpy.random.seed(seed)
            with mode:
                yield
    finally:
        torch.set_default_dtype(default)
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(kept)
        if numpy:
            numpy.random.set_state(state)


def drawn(held: torch.Tensor, generator: torch.Generator, *, near: bool = False) -> torch.Tensor:
    """New values for a tensor, all distinct, and none that hides what it does.

    Parameters
    ----------
    held : torch.Tensor
        What stands there: whether it is constant, and the values of vectors and single numbers, tell what is allowed.
    generator : torch.Generator
        Where they are drawn from.
    near : bool
        Close to what stands there, for code that accepts nothing else.

    Returns
    -------
    torch.Tensor
        Float64, of the same shape; what does not float is only put in another order. A matrix: normal, to keep the
        variance. A vector: its values in another order, each times a factor. Where all is constant: around zero for
        zeros, else within 0.5 to 1.5 with the same sign.
    """
    if not held.is_floating_point():  # positions in a table, or marks: in another order
        return held.detach().flatten().roll(1).reshape(held.shape)
    old = held.detach().double().cpu()
    flat = old.flatten()
    uniform = torch.rand(old.shape, generator=generator, dtype=torch.float64)
    normal = torch.randn(old.shape, generator=generator, dtype=torch.float64)
    matrix, zero = old.dim() >= _MATRIX, not bool(old.any())
    if not bool(flat.isfinite().all()):  # memory that nothing was written to
        made = normal * gain(old) if matrix else 0.5 + uniform
    elif near:
        made = old * (0.9 + 0.2 * uniform) + 0.01 * normal * (1.0 if zero else flat.std(correction=0))
    elif old.numel() == 1:
        made = 0.2 * normal if zero else old * (0.8 + 0.4 * uniform)
    elif zero:
        made = normal * (gain(old) if matrix else 0.2)
    elif bool((flat == flat[:1]).all()):
        made = (0.5 + uniform) * flat[0].sign()
    elif matrix:
        made = normal * gain(old)
    else:
        made = old[torch.randperm(old.numel(), generator=generator)] * (0.8 + 0.45 * uniform) + 1e-3 * uniform
    return made


def gain(tensor: torch.Tensor) -> float:
    """One over the root of how many values are summed, whichever way the matrix stands."""
    rows = max(tensor.shape[:_MATRIX]) or 1
    return float((rows / max(tensor.numel(), 1)) ** 0.5)


def named_tensors(result: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    """The tensors of a result with their places in it; of named results the main one only."""
    if isinstance(result, torch.Tensor):
        return [(name, result)]
    if isinstance(result, bool | int | float) or hasattr(result, "__array__"):
        return [(name, torch.as_tensor(result))]
    parts = _parts(result)
    main = next((parts[key] for key in MAIN if isinstance(parts.get(key), torch.Tensor)), None)
    if main is not None:
        return [(name, main)]
    return [pair for key, value in parts.items() for pair in named_tensors(value, f"{name}.{key}")]


def _parts(result: Any) -> Mapping[Any, Any]:
    """What a result consists of, by name or number; nothing of what is no container."""
    if isinstance(result, Mapping):
        return result
    if isinstance(result, list | tuple):
        return dict(enumerate(result))
    if hasattr(result, "__dataclass_fields__"):
        return {name: getattr(result, name) for name in result.__dataclass_fields__}
    if isinstance(result, torch.nn.Module | type) or not hasattr(result, "__dict__"):
        return {}
    held = vars(result).items()  # of an object that is no container: a distribution, a namespace
    return {name: value for name, value in held if isinstance(value, torch.Tensor | Mapping | list | tuple)}


def recording(module: Any, run: Callable[[Any], Any], seed: int = 0) -> dict[str, Any]:
    """Run a module with its own weights, and with random ones, which it has afterwards.

    Returns
    -------
    dict
        ``own`` and ``drawn``, each with ``outputs`` and ``events``, the latter with the ``values`` it had; the
        ``inputs`` that the module was called with; ``seed`` and ``torch``, the release that it was recorded with.

    Raises
    ------
    ValueError
        Two runs with the same weights differ.
    """
    module = module.double().eval()
    for parameter in filter(lambda one: one.is_leaf, module.parameters()):  # of a compiled module they are not
        parameter.requires_grad_(False)
    inputs: list[Any] = []
    depth = [0]

    def enter(part: Any, args: Any, kwargs: Any) -> Any:
        depth[0] += 1
        if depth[0] > 1:
            return args, kwargs
        if not inputs:
            inputs.append(tree_map(lambda one: one.clone() if isinstance(one, torch.Tensor) else one, [args, kwargs]))
        return tree_map(_wide_copy, (args, kwargs))

    def leave(part: Any, args: Any, result: Any) -> None:
        depth[0] -= 1

    for part in module.modules():
        if not isinstance(part, torch.jit.ScriptModule):  # which allows no hooks
            part.register_forward_pre_hook(enter, with_kwargs=True)
            part.register_forward_hook(leave)
    own, again = _one_run(module, run, seed), _one_run(module, run, seed)
    if not all(torch.equal(a, b) for a, b in zip(own["outputs"], again["outputs"], strict=True)):
        raise ValueError("two runs with the same weights, inputs and seeds differ")
    first = {key: value.detach().clone() for key, value in module.state_dict().items()}
    other: dict[str, Any] = {}
    for near in (False, True):
        with torch.no_grad():
            for key, value in module.state_dict().items():
                value.copy_(first[key])
        _redraw(module, seed, near=near)
        other = _one_run(module, run, seed)
        if all(bool(output.isfinite().any()) and not bool(output.isnan().any()) for output in other["outputs"]):
            break
    values = {key: value.detach().clone() for key, value in module.state_dict().items()}
    about = {"format": FORMAT, "seed": seed, "torch": str(torch.__version__), "inputs": inputs[0] if inputs else None}
    return {**about, "own": own, "drawn": {**other, "values": values}}


@torch.no_grad()
def _redraw(module: Any, seed: int, *, near: bool) -> None:
    """Random values for all parameters, and for buffers that hold nothing but one number over and over."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.parameters():
        if tensor.is_floating_point():
            tensor.copy_(drawn(tensor, generator, near=near))
    for tensor in module.buffers():
        flat = tensor.flatten()
        if tensor.is_floating_point() and flat.numel() > 1 and bool((flat == flat[:1]).all()):
            tensor.copy_(drawn(tensor, generator, near=near))
    module.train().eval()  # what was folded from the weights before is folded anew


def _wide_copy(one: Any) -> Any:
    if not isinstance(one, torch.Tensor):
        return one
    return one.detach().to(torch.float64 if one.is_floating_point() else one.dtype, copy=True)


def _one_run(module: Any, run: Callable[[Any], Any], seed: int) -> dict[str, Any]:
    watch = Events()
    held = [(part, name, one) for part in module.modules() for name, one in part._buffers.items() if one is not None]
    kept = [(*place, place[2].clone()) for place in held]
    with torch.no_grad(), calm(seed, double=True), watch:
        outputs = [tensor.detach().clone() for _, tensor in named_tensors(run(module))]
    with torch.no_grad():
        for part, name, buffer, value in kept:
            part._buffers[name] = buffer.copy_(value)
    return {"outputs": outputs, "events": [list(one) for one in watch.seen]}


def main() -> None:
    """Record from the command line."""
    import argparse
    from importlib import import_module

    parser = argparse.ArgumentParser(description="Record what a module computes, for treealign.")
    parser.add_argument("factory", help="package.module:factory, a function without arguments that makes the module")
    parser.add_argument("--run", required=True, help="package.module:function, which takes the module")
    parser.add_argument("--output", "-o", required=True, help="the file to write")
    given = parser.parse_args()
    sys.path.insert(0, ".")
    factory, run = (
        getattr(import_module(t.partition(":")[0]), t.partition(":")[2]) for t in (given.factory, given.run)
    )
    torch.save(recording(factory(), run), given.output)


if __name__ == "__main__":
    main()
