"""Python for those who load weights by code of their own (plain functions, torchtitan, timm), written and read.

What is written needs no treealign; it is executed and compared with the mapping, both ways where there are two, before
it is handed out. A `checkpoint_filter_fn` of timm, the `from_hf` of a torchtitan adapter or a function of one's own is
no list of rules: it is read by what it makes of a checkpoint in which no number stands twice. What it computes rather
than moves, makes up or drops is reported.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple, TypeAlias

from treealign.dialects.function_proof import prove
from treealign.dialects.functions import Statements, source_names, statements
from treealign.dialects.given import given, heading
from treealign.dialects.regex_reading import Reading
from treealign.dialects.transformers.sides import Sides
from treealign.errors import MappingError, TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.mapping_json import mapping_to_text
from treealign.suggestion import Suggestion, suggest
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

_TITAN = "torchtitan.protocols.state_dict_adapter"
_INDENT = "    "


class _Both(NamedTuple):
    held: Sides
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
    return mapping_to_text(mapping)


def read_json(source: Any, keys: Any = None) -> Any:
    """The mapping in a file of our own JSON, with nothing left unread."""
    mapping = ConversionMapping.from_json(source)
    return Reading(mapping, (), tuple(mapping), lambda key: (mapping.map_keys([key])[key])[0])


# -- text --------------------------------------------------------------------------------------------------------------


def _both(mapping: ConversionMapping, checkpoint: Any, model: Any) -> _Both:
    held = given(mapping, checkpoint, model)
    forward = held.used(mapping)
    targets = [key for step in held.steps for key in step.targets]
    backward = tuple(ConversionMapping(forward).reverse)
    return _Both(held, statements(forward, held.keys, held.sampled), statements(backward, targets, held.sampled))


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


MOST = 1 << 30  # numbers
_DROPPED = "it is dropped"
_MADE_UP = "it is made of nothing that the checkpoint holds"
_COMPUTED = "it is computed, not moved"
_SMALL = "pass a small checkpoint of the same names"

State: TypeAlias = dict[str, Any]


def read_function(source: Any, keys: Any = None) -> Reading:
    """What a function does with a checkpoint, as a conversion mapping.

    Parameters
    ----------
    source : callable, or an object with ``from_hf``
        From the checkpoint's state dict to the model's. Of a filter that also takes the model,
        ``functools.partial(filter, model=model)``.
    keys : KeyTree, or anything `read_tree` takes
        A checkpoint that it is for: its names and shapes.

    Returns
    -------
    Reading
        The mapping has been run on the same numbers and gives just what the function gives, but for the keys that
        `unread` lists with the reason: those of the checkpoint that it drops, those of the model that it computes or
        makes up.

    Raises
    ------
    TreealignError
        There is no function, no shapes are given, or they are too large to be filled with numbers.
    """
    function: Callable[[State], Mapping[str, Any]] = getattr(source, "from_hf", source)
    if not callable(function):
        raise TreealignError("no function on state dicts", facts=[repr(source)])
    state = dict(_numbers(_tree(keys)))
    made = dict(function({key: tensor.clone() for key, tensor in state.items()}))
    found, computed = _settled(state, made)
    computed += [mismatch.model for mismatch in found.mismatched_keys]
    reached = {key: match.model[0] for match in found.matches for key in match.checkpoint}
    unread = [(key, _DROPPED) for key in state if key not in reached and key not in made]
    unread += [(key, _COMPUTED if key in computed else _MADE_UP) for key in (*found.missing_keys, *computed)]
    return Reading(found.mapping, tuple(dict.fromkeys(unread)), (source,), reached.get)


def _tree(keys: Any) -> KeyTree:
    if keys is None or (isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys)):
        raise TreealignError("a function is read by running it", hint="pass a checkpoint, whose shapes are needed")
    tree = keys if isinstance(keys, KeyTree) else read_tree(keys)
    unknown = [leaf.key for leaf in tree.leaves if leaf.shape is None]
    count = sum(prod(leaf.shape or ()) for leaf in tree.leaves)
    if unknown or count > MOST:
        facts = unknown[:20] or [f"{count:,} numbers"]
        raise TreealignError("the checkpoint cannot be filled with numbers", facts=facts, hint=_SMALL)
    return tree


def _numbers(tree: KeyTree) -> Iterable[tuple[str, Any]]:
    """A state dict in which each tensor has numbers of its own."""
    torch = import_module("torch")
    drawn = torch.Generator().manual_seed(0)
    for leaf in tree.leaves:
        if (leaf.dtype or "").startswith(("int", "uint", "bool")):
            yield leaf.key, torch.randint(1 << 62, leaf.shape, generator=drawn)
        else:
            yield leaf.key, torch.randn(leaf.shape, generator=drawn)


def _settled(state: State, made: State) -> tuple[Suggestion, list[str]]:
    """What numbers show, and the keys that are left out of it since no transform makes them."""
    computed: list[str] = []
    while True:
        left = {key: tensor for key, tensor in made.items() if key not in computed}
        found = suggest(state, left, values=True)
        wrong = _not_made(found, state, left)
        if not wrong:
            return found, computed
        computed += wrong


def _not_made(found: Suggestion, state: State, made: State) -> list[str]:
    """Keys that are matched, and come out of the mapping otherwise or not certainly."""
    torch = import_module("torch")
    unsure = [key for match in found.matches if not match.certain for key in match.model]
    if unsure:
        return unsure
    try:
        results = dict(ConversionMapping(found.mapping).apply(state))
    except MappingError:
        return [key for match in found.matches if match.operations for key in match.model]
    matched = [key for match in found.matches for key in match.model]
    return [key for key in matched if key not in results or not torch.equal(results[key], made[key])]
