"""A model of an entry: what transformers saves of it, and what it makes of that and of the model's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from treealign.dialects.lint_checks.walks import Walk, backward, forward
from treealign.dialects.transformers.installed import LOADING, REGISTRY
from treealign.dialects.transformers.proving import run
from treealign.dialects.transformers.skeleton import Part, parts_of

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Loaded:
    """A state dict after loading, and after saving again.

    Attributes
    ----------
    missing, unexpected, mismatched : tuple of str
        As transformers reports them.
    saved : dict
        Name to shape.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    saved: Shapes


@dataclass(frozen=True)
class Case:
    """A model without weights, and its rules.

    Attributes
    ----------
    name : str
        The class.
    own : int
        How many of the rules are those of the entry: they stand first.
    model : Shapes
        Its names and shapes.
    saved : Shapes
        What transformers writes of it; empty where it cannot.
    failure : str
        Why it cannot.
    loading, saving : Walk
        The saved names through the rules, and the model's names, converters done, through the reverse of the renamings.
    converted : Walk
        The model's own names through the rules.
    given : bool
        `saved` are the keys of a checkpoint.
    """

    name: str
    own: int
    model: Shapes
    parts: Mapping[str, Part]
    meta: Any
    saved: Shapes
    failure: str
    loading: Walk
    saving: Walk
    converted: Walk
    given: bool = False

    def rules(self, legacy: bool = False) -> list[Any]:
        """Fresh rules, as they were before they met a key."""
        found: list[Any] = import_module(REGISTRY).get_model_conversion_mapping(self.meta, add_legacy=legacy)
        return found

    def load(self, shapes: Shapes) -> Loaded:
        """Load names and shapes, and save again, by transformers itself."""
        torch = import_module("torch")
        state = {key: torch.empty(shape, dtype=torch.int64, device="meta") for key, shape in shapes.items()}
        _, info, saved = run(self.rules(legacy=True), state, self.model, self.parts)
        wrong = [*(key for key, *_ in info.mismatched_keys), *info.conversion_errors]
        missing, unexpected = sorted(info.missing_keys), sorted(info.unexpected_keys)
        return Loaded(tuple(missing), tuple(unexpected), tuple(wrong), shapes_of(saved))


def shapes_of(state: Mapping[str, Any]) -> Shapes:
    """Name to shape."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def case_of(model: Any, given: Shapes | None = None) -> Case:
    """Walk through the rules of a model; `given` are the keys of a checkpoint to take in place of what it saves."""
    registry = import_module(REGISTRY)
    tied = getattr(model, "all_tied_weights_keys", None) or ()
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    rules = registry.get_model_conversion_mapping(model, add_legacy=False)
    saved, failure = _saved(model, rules, state)
    taken = saved if given is None else given
    halfway, _ = _saved(model, [rule for rule in rules if hasattr(rule, "operations")], state)
    fresh = registry.get_model_conversion_mapping(model, add_legacy=False)
    return Case(
        type(model).__name__,
        len(registry.extract_weight_conversions_for_model(model) or ()),
        shapes_of(state),
        parts_of(model),
        model,
        taken,
        failure,
        forward(rules, taken),
        backward(fresh, halfway or state),
        forward(registry.get_model_conversion_mapping(model, add_legacy=False), state),
        given is not None,
    )


def _saved(model: Any, rules: list[Any], state: Mapping[str, Any]) -> tuple[Shapes, str]:
    model._weight_conversions = rules
    try:
        return shapes_of(import_module(LOADING).revert_weight_conversion(model, dict(state))), ""
    except Exception as error:
        return {}, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    finally:
        del model._weight_conversions
