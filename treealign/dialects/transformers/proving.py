"""Rules run by transformers' own loader and saver, on a model without weights, against what the mapping says.

Every key that is only renamed gets a shape of its own, so that the shapes say which key went where; keys that are
converted get their true shapes. All of it lives on the meta device. Then each conversion is run once more on numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from treealign.dialects.samples import counted, samples
from treealign.dialects.transformers.installed import LOADING, load_into
from treealign.dialects.transformers.joint_operations import joined_steps
from treealign.dialects.transformers.skeleton import Part, skeleton
from treealign.dialects.transformers.stages import Journey
from treealign.errors import MappingError
from treealign.mapping import execution
from treealign.mapping.operations import output_shapes
from treealign.mapping.planning import Step

Shapes = Mapping[str, tuple[int, ...] | None]


def prove(rules: Sequence[Any], journey: Journey, shapes: Shapes, parts: Mapping[str, Part]) -> None:
    """Load and save by the rules.

    Parameters
    ----------
    rules : sequence of WeightTransform
        Fresh ones; transformers marks those that it uses.
    journey : Journey
        What is to become of each key.
    shapes : mapping
        Key of the checkpoint to its shape, None where it is unknown.
    parts : mapping
        The parts of the model that are models; see `treealign.dialects.transformers.skeleton`.

    Raises
    ------
    MappingError
        Something comes out otherwise; the message names the keys.
    """
    given, wanted = _shapes(journey, shapes)
    torch = import_module("torch")
    state = {key: torch.empty(shape, dtype=torch.int64, device="meta") for key, shape in given.items()}
    _, info, saved = run(rules, state, wanted, parts)
    faults = _load_faults(info, wanted) + _save_faults(saved, given)
    if faults:
        raise MappingError(
            "transformers would not load and save by these rules as the mapping says",
            facts=faults[:20],
            hint="treealign's own load and save do it",
        )
    for step, sizes in _all_samples(journey, given):
        _prove_numbers(rules, step, sizes, parts)


def run(
    rules: Sequence[Any], state: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]], parts: Mapping[str, Part]
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Load a state dict into a model of these shapes and save it again; what is there after each, and the report."""
    model, info = load(rules, state, wanted, parts)
    loaded = dict(model.state_dict())
    with _refusing("saves"):
        return loaded, info, save(model, loaded)


def load(
    rules: Sequence[Any], state: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]], parts: Mapping[str, Part]
) -> tuple[Any, Any]:
    """A model of these shapes with a state dict loaded into it by transformers, and its report."""
    device = next((tensor.device.type for tensor in state.values()), "cpu")
    model = skeleton(wanted, parts, device)
    for rule in rules:
        rule._was_used = False
        if device == "meta" and getattr(rule, "force_cpu", False):
            rule.force_cpu = False  # nothing here has a size, and it cannot be moved
    with without_bars(), _refusing("loads"):
        info = load_into(model, state, rules, device)
    return model, info


@contextmanager
def _refusing(doing: str) -> Iterator[None]:
    """Say what transformers fails at, whatever it raises."""
    try:
        yield
    except Exception as error:
        raise MappingError(
            f"transformers fails when it {doing} by these rules",
            facts=[f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"],
            hint="treealign's own load and save do it",
        ) from error


def save(model: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers writes of a loaded model."""
    saved: dict[str, Any] = import_module(LOADING).revert_weight_conversion(model, dict(state))
    return saved


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers' inside."""
    logging = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _shapes(journey: Journey, shapes: Shapes) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of both sides: one of its own for each key that is only renamed."""
    given, wanted = dict[str, tuple[int, ...]](), dict[str, tuple[int, ...]]()
    for number, step in enumerate(journey.steps, start=1):
        if not step.operations:
            given[step.sources[0]] = wanted[step.targets[0]] = (number, 0)
            continue
        held = [shapes.get(key) for key in step.sources]
        known = [shape for shape in held if shape is not None]
        if len(known) < len(held):
            raise MappingError(
                "the shapes of these keys are not known, so that their conversion cannot be checked",
                facts=list(step.sources[:5]),
                hint="pass the checkpoint",
            )
        given |= dict(zip(step.sources, known, strict=True))
        wanted |= dict(zip(step.targets, output_shapes(step.operations, known), strict=True))
    return given, wanted


def _load_faults(info: Any, wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    faults = [f"loading: {key} gets nothing" for key in sorted(info.missing_keys)]
    faults += [f"loading: something goes to {key}" for key in sorted(info.unexpected_keys)]
    faults += [
        f"loading: something else goes to {key}, or {made} for {shape}" for key, made, shape in info.mismatched_keys
    ]
    return faults + [f"loading: {key}: {text.splitlines()[-1]}" for key, text in info.conversion_errors.items()]


def _save_faults(saved: Mapping[str, Any], given: Mapping[str, tuple[int, ...]]) -> list[str]:
    faults = [f"saving: {key} is not written" for key in given if key not in saved]
    for key, tensor in saved.items():
        if key not in given:
            faults.append(f"saving: {key} is written")
        elif tuple(tensor.shape) != given[key]:
            faults.append(f"saving: {key} gets something else, or {tuple(tensor.shape)} for {given[key]}")
    return faults


def samples_of(journey: Journey, shapes: Shapes) -> list[tuple[Step, list[tuple[int, ...]]]]:
    """One group of each kind of conversion, and shapes for it as small as its operations allow.

    Raises
    ------
    MappingError
        Shapes of keys that are converted are not known.
    """
    return _all_samples(journey, _shapes(journey, shapes)[0])


def _all_samples(journey: Journey, given: Mapping[str, tuple[int, ...]]) -> list[tuple[Step, list[tuple[int, ...]]]]:
    together = joined_steps(journey.steps)
    return samples((together.get(step, step) for step in journey.steps), given)


def _prove_numbers(
    rules: Sequence[Any], step: Step, shapes: Sequence[tuple[int, ...]], parts: Mapping[str, Part]
) -> None:
    torch, state = import_module("torch"), dict(counted(step, shapes))
    made = execution.run(step.operations, [state[key] for key in step.sources])
    wanted = dict(zip(step.targets, made, strict=True))
    loaded, _, saved = run(rules, state, {key: tuple(tensor.shape) for key, tensor in wanted.items()}, parts)
    faults = [f"loading: other numbers in {k}" for k, v in wanted.items() if not torch.equal(v, loaded[k])]
    faults += [
        f"saving: other numbers in {k}" for k, v in state.items() if k not in saved or not torch.equal(v, saved[k])
    ]
    if faults:
        raise MappingError("transformers converts otherwise than the mapping says", facts=faults[:20])
