"""Python modules for those who load weights by code of their own: plain functions, torchtitan, timm.

None of them needs treealign; each is executed and compared with the mapping, both ways where there are two, before it
is handed out.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from treealign.dialects.function_proof import prove
from treealign.dialects.functions import Statements, source_names, statements
from treealign.dialects.given import Given, given
from treealign.dialects.renaming_only import heading
from treealign.mapping.conversion_mapping import ConversionMapping

_TITAN = "torchtitan.protocols.state_dict_adapter"
_INDENT = "    "


class _Both(NamedTuple):
    held: Given
    forward: Statements
    backward: Statements

    def top(self, *imports: str) -> str:
        """Imports and helpers for both directions."""
        return _top(Statements((), self.forward.converts or self.backward.converts), *imports)


def write_python(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Two functions, ``checkpoint_to_model`` and ``model_to_checkpoint``; see `treealign.emit`.

    Raises
    ------
    MappingError
        Something cannot be written so, or comes out otherwise.
    """
    both = _both(mapping, checkpoint, model)
    text = "\n".join(
        [
            f'"""{heading(both.held)}, both ways: names and tensors of a checkpoint, and those of the model."""\n',
            both.top(),
            *_function("checkpoint_to_model(state_dict)", "What to load: the checkpoint's state dict.", both.forward),
            *_function("model_to_checkpoint(state_dict)", "What to save: the model's state dict.", both.backward),
        ]
    )
    made = _run(text)
    prove(both.held, made["checkpoint_to_model"], made["model_to_checkpoint"], "plain Python")
    return text


def write_torchtitan(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """A `StateDictAdapter` with ``from_hf`` and ``to_hf``; `name` is that of the class.

    Raises
    ------
    MappingError
        As `write_python`.
    """
    both, title = _both(mapping, checkpoint, model), name or "EmittedStateDictAdapter"
    text = "\n".join(
        [
            f'"""{heading(both.held)}, both ways, for torchtitan."""\n',
            both.top(f"from {_TITAN} import StateDictAdapter"),
            f"\nclass {title}(StateDictAdapter):",
            *_method("from_hf(self, hf_state_dict)", "From the checkpoint's state dict.", both.forward),
            "",
            *_method("to_hf(self, state_dict)", "Back to the checkpoint's state dict.", both.backward),
        ]
    )
    with _stub(_TITAN, "StateDictAdapter"):
        adapter = _run(text)[title]
    adapter = adapter.__new__(adapter)
    prove(both.held, adapter.from_hf, adapter.to_hf, "torchtitan")
    return text + "\n"


def write_timm(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """``checkpoint_filter_fn(state_dict, model)``, which leaves a state dict of the model's own names as it is.

    Raises
    ------
    MappingError
        As `write_python`.
    """
    both = _both(mapping, checkpoint, model)
    body = ("own = set(model.state_dict())", "if own >= set(state_dict):", "    return state_dict")
    lines = _function(
        "checkpoint_filter_fn(state_dict, model)",
        "The model's state dict, from a checkpoint's or from one of its own.",
        Statements((*body, *both.forward.lines), both.forward.converts),
    )
    text = "\n".join([f'"""{heading(both.held)}, for timm: checkpoint -> model."""\n', _top(both.forward), *lines])
    filtered: Callable[..., Mapping[str, Any]] = _run(text)["checkpoint_filter_fn"]
    own = dict.fromkeys(key for step in both.held.steps for key in step.targets)
    fake = types.SimpleNamespace(state_dict=lambda: own)
    prove(both.held, lambda state: filtered(state, fake), None, "timm")
    return text


def write_json(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Our own JSON."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.json"
        mapping.to_json(path)
        return path.read_text(encoding="utf-8")


def read_json(source: Any, keys: Any = None) -> Any:
    """The mapping in a file of our own JSON, with nothing left unread."""
    from treealign.dialects.regex_reading import Reading

    mapping = ConversionMapping.from_json(source)
    return Reading(mapping, (), tuple(mapping), lambda key: (mapping.map_keys([key])[key])[0])


# -- text --------------------------------------------------------------------------------------------------------------


def _both(mapping: ConversionMapping, checkpoint: Any, model: Any) -> _Both:
    held = given(mapping, checkpoint, model)
    forward = _used(mapping, held)
    targets = [key for step in held.steps for key in step.targets]
    backward = tuple(ConversionMapping(forward).reverse)
    return _Both(held, statements(forward, held.keys, held.sampled), statements(backward, targets, held.sampled))


def _used(mapping: ConversionMapping, held: Given) -> tuple[Any, ...]:
    touched = {at for step in held.steps for at in step.transforms}
    return tuple(transform for at, transform in enumerate(mapping) if at in touched)


def _top(lines: Statements, *imports: str) -> str:
    other = [*(["import torch"] if lines.converts else []), *imports]
    return "\n".join(["import re", *([""] if other else []), *other, "", source_names(lines)])


def _function(signature: str, says: str, body: Statements) -> list[str]:
    lines = [f'"""{says}"""', *body.lines, "return state_dict"]
    return [f"\ndef {signature}:", *(_INDENT + line for line in lines), ""]


def _method(signature: str, says: str, body: Statements) -> list[str]:
    argument = signature.split(", ")[1].rstrip(")")
    rebound = [] if argument == "state_dict" else [f"state_dict = {argument}"]
    lines = [f'"""{says}"""', *rebound, *body.lines, "return state_dict"]
    return [f"{_INDENT}def {signature}:", *(_INDENT * 2 + line for line in lines)]


def _run(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "emitted"}
    exec(compile(text, "<emitted>", "exec"), scope)
    return scope


@contextmanager
def _stub(module: str, name: str) -> Iterator[None]:
    """A module with an empty class, where the real one is not installed."""
    top = module.partition(".")[0]
    if top in sys.modules or find_spec(top) is not None:
        yield
        return
    parts = module.split(".")
    paths = [".".join(parts[: n + 1]) for n in range(len(parts))]
    stubs = {path: types.ModuleType(path) for path in paths}
    setattr(stubs[module], name, type(name, (), {}))
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for path in paths:
            del sys.modules[path]
