"""What a model does with its modules, seen in one run on the meta device: who feeds whom, and through what.

Parameters and buffers are replaced by tensors of the meta device for the run (`torch.func.functional_call`), so nothing
is computed and the model stays as it is. Every operation is seen by a `TorchDispatchMode`. A tensor carries the modules
whose parameters it went through last; where a module's parameters meet a tensor, those modules feed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ACTIVATIONS = ("silu", "gelu", "relu", "sigmoid", "tanh", "hardswish", "leaky_relu", "mish")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution")
SOFTMAXES = ("softmax", "safe_softmax")
ATTENTION = "scaled_dot_product"
INPUT = ""  # stands for what the model is given


class Trace(NamedTuple):
    """One run of a model, as data.

    Attributes
    ----------
    order : tuple of str
        Keys of parameters in the order in which they are first used; buffers count as constants.
    feeds : tuple of (str, str)
        Module that feeds another, with no parameters between them; the empty name is the model's input.
    activated : tuple of str
        Modules whose output goes through an activation function before any other parameters.
    attended : tuple of str
        Modules whose outputs are compared with one another in an attention, queries and keys.
    problem : str
        Why there is no trace, or empty.
    """

    order: tuple[str, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    activated: tuple[str, ...] = ()
    attended: tuple[str, ...] = ()
    problem: str = ""

    def to_data(self) -> dict[str, list[Any] | str]:
        """As plain JSON."""
        return {name: value if isinstance(value, str) else list(value) for name, value in self._asdict().items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Trace:
        """From `to_data`; what is absent is empty."""
        names = {name: tuple(map(str, data.get(name, ()))) for name in ("order", "activated", "attended")}
        feeds = tuple((str(a), str(b)) for a, b in data.get("feeds", ()))
        return cls(feeds=feeds, problem=str(data.get("problem", "")), **names)


def trace_model(module: Any, inputs: Any = True) -> Trace:
    """Run a module once and record the flow of data between its modules.

    Parameters
    ----------
    module : nn.Module
        On any device; it is not changed.
    inputs : tensor, tuple, mapping or True
        What `forward` takes: one tensor, positional arguments, or keyword arguments; only shapes and dtypes of tensors
        matter. True for inputs that a transformers model names itself (`dummy_inputs`).

    Returns
    -------
    Trace
        Where the run fails, or has no inputs, one that only says why: nothing is raised.
    """
    problems = []
    for args, kwargs, dtype in _attempts(module, inputs):
        try:
            return _traced(module, args, kwargs, dtype)
        except Exception as error:  # whatever a stranger's forward may raise: a trace is evidence, not a duty
            lines = str(error).strip().splitlines()
            problems.append(f"{type(error).__name__}: {lines[0] if lines else ''}")
    return Trace(problem=problems[0] if problems else "the model names no example inputs; give some")


def _attempts(module: Any, inputs: Any) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    """Arguments and a dtype to run with: as given; then in bfloat16, the only one that some kernels know.

    Of inputs that the model names itself masks are optional, and often their values are looked at.
    """
    if inputs is not True:
        if isinstance(inputs, Mapping):
            args, kwargs = (), dict(inputs)
        else:
            args, kwargs = tuple(inputs if isinstance(inputs, tuple | list) else (inputs,)), {}
        yield from ((args, kwargs, dtype) for dtype in ("", "bfloat16"))
        return
    own = own_inputs(module)
    bare = {name: value for name, value in own.items() if "mask" not in name}
    yield from (((), kwargs, dtype) for dtype in ("", "bfloat16") for kwargs in (own, bare) if kwargs)


def own_inputs(module: Any) -> dict[str, Any]:
    """What a transformers model says of its inputs: example tokens, or the size of an image; perhaps nothing."""
    import torch

    if getattr(module, "main_input_name", "") == "pixel_values":
        size, channels = getattr(module.config, "image_size", None), getattr(module.config, "num_channels", 3)
        if isinstance(size, int) and isinstance(channels, int):
            return {"pixel_values": torch.empty(1, channels, size, size, device="meta")}
    elif isinstance(found := getattr(module, "dummy_inputs", None), Mapping):
        return dict(found)
    return {}


def _on_meta(value: Any, dtype: str) -> Any:
    """A tensor without data in place of one; floats in another dtype where one is named."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    wanted = getattr(torch, dtype) if dtype and value.is_floating_point() else value.dtype
    return torch.empty_like(value, dtype=wanted, device="meta", requires_grad=False)


def _traced(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: str) -> Trace:
    import torch

    args = tuple(_on_meta(value, dtype) for value in args)
    kwargs = {name: _on_meta(value, dtype) for name, value in kwargs.items()}
    held = [*module.named_parameters(), *module.named_buffers()]
    meta = {name: _on_meta(value, dtype) for name, value in held}
    names = [name for name, _ in module.named_parameters()]
    watch = _Watch({name: meta[name] for name in names}, _tensors([args, kwargs]))
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), torch.device("meta"), watch.mode():
            torch.func.functional_call(module, meta, args, kwargs)
    finally:
        for part, mode in modes:
            part.training = mode
    return watch.trace()


def _tensors(values: Any) -> list[Any]:
    """All tensors in nested arguments."""
    if hasattr(values, "is_meta"):
        return [values]
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


class _Watch:
    """Follows tensors through a run.

    Each is known, by the memory that it shares with its views, to be made of parameters alone (their keys), or to have
    passed through modules; those that are neither are constants. All stay alive during the run, so that no memory is
    used twice.
    """

    def __init__(self, parameters: Mapping[str, Any], inputs: Sequence[Any]) -> None:
        self.made_of = {_memory(value): frozenset({key}) for key, value in parameters.items()}
        self.passed = {_memory(value): frozenset({INPUT}) for value in inputs}
        self.scores: dict[int, frozenset[str]] = {}
        self.alive: list[Any] = list(inputs)
        self.order: dict[str, None] = {}
        self.feeds: dict[tuple[str, str], None] = {}
        self.activated: dict[str, None] = {}
        self.attended: dict[str, None] = {}

    def mode(self) -> Any:
        """The mode that shows every operation to this."""
        from torch.utils._python_dispatch import TorchDispatchMode

        watch = self

        class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
            def __torch_dispatch__(
                self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                result = func(*args, **(kwargs or {}))
                watch.see(str(func), _tensors([args, kwargs or {}]), _tensors([result]))
                return result

        return Mode()  # type: ignore[no-untyped-call]  # as above

    def see(self, name: str, given: list[Any], made: list[Any]) -> None:
        """One operation."""
        passed, keys = _union(self.passed, given), _union(self.made_of, given)
        self.alive += made
        if not passed:
            self.made_of.update((_memory(t), keys) for t in made if keys)
            return
        if keys:
            passed = self._enter(keys, passed)
        self._note(name, given, made, passed)
        for at in map(_memory, made):
            # what is written into a tensor adds to what is there already
            self.passed[at] = self.passed.get(at, frozenset()) | passed

    def _enter(self, keys: frozenset[str], passed: frozenset[str]) -> frozenset[str]:
        modules = frozenset(key.rpartition(".")[0] for key in keys)
        self.order.update((key, None) for key in sorted(keys))
        self.feeds.update(((a, b), None) for a in sorted(passed - modules) for b in sorted(modules))
        return modules

    def _note(self, name: str, given: list[Any], made: list[Any], passed: frozenset[str]) -> None:
        """Activation functions and attentions; scores of one are products of two tensors on their way to a softmax."""
        operation = name.removeprefix("aten.").lstrip("_").partition(".")[0]
        if operation in ACTIVATIONS:
            self.activated.update(dict.fromkeys(sorted(passed)))
        if operation in PRODUCTS:
            both = [t for t in given if _memory(t) in self.passed]
            compared = _union(self.passed, both) if len(both) > 1 else frozenset()
        else:
            compared = _union(self.scores, given)
        if operation.startswith(ATTENTION):
            compared = _union(self.passed, given[:2])
        if operation in SOFTMAXES or operation.startswith(ATTENTION):
            self.attended.update(dict.fromkeys(sorted(compared)))
        elif compared:
            self.scores.update((_memory(t), compared) for t in made)

    def trace(self) -> Trace:
        """What was seen."""
        return Trace(tuple(self.order), tuple(self.feeds), tuple(self.activated), tuple(self.attended))


def _memory(tensor: Any) -> int:
    """What a tensor has in common with its views and with nothing else."""
    found: int = tensor.untyped_storage()._cdata
    return found


def _union(known: Mapping[int, frozenset[str]], tensors: Iterable[Any]) -> frozenset[str]:
    return frozenset[str]().union(*(known.get(_memory(t), ()) for t in tensors))
