"""The original and the model made ready to be compared: the original live, recorded elsewhere, or its outputs alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from treealign.align.alignment import Alignment
from treealign.checkpoint.sources import open_source
from treealign.errors import TreealignError
from treealign.run.calling import runners
from treealign.run.importing import is_named, module_of
from treealign.run.pair import Pair, RefusedError, Sides
from treealign.run.proving import verdict_of
from treealign.run.realising import Realiser, joint_ties, names_in, tree_of
from treealign.run.replay import Recorded, Recording, Replay, read_recording
from treealign.run.results import UNPROVED, Proof, Ran, Verdict, agrees
from treealign.run.settling import settle
from treealign.run.subject import Subject
from treealign.tree.keytree import KeyTree

Ready = tuple[Sides, Realiser]


def settle_by_run(
    alignment: Alignment,
    model: Any,
    original: Any,
    run: Any = None,
    inputs: Any = None,
    seed: int = 0,
) -> tuple[Alignment, Ran]:
    """Settle what is open by the original: a module, what makes it, or the file of a recording; see `settle`.

    Raises
    ------
    TreealignError
        The original is not the model of the checkpoint, or the two cannot be run or compared.
    """
    if is_file(original):
        recording = read_recording(original)
        if not recording.values:
            raise TreealignError(
                "the file holds no run with random weights",
                where=str(original),
                hint="it can be given as reference=, beside the checkpoint that it was made with",
            )
        return _settled(
            alignment, model, lambda double: _replayed(alignment, model, recording, run, inputs, double), seed
        )
    live = module_of(original)
    return _settled(alignment, model, lambda double: _live(alignment, live, model, run, inputs, double), seed)


def settle_by_reference(
    alignment: Alignment, checkpoint: Any, model: Any, reference: Any, run: Any = None, inputs: Any = None
) -> tuple[Alignment, Ran]:
    """Settle what is open by outputs of the original with the checkpoint's own weights; see `settle`.

    Raises
    ------
    TreealignError
        The file holds no outputs, the checkpoint no tensors, or the model cannot be run or compared.
    """
    recording = read_recording(reference)
    return _settled(
        alignment, model, lambda double: _referred(alignment, checkpoint, model, recording, run, inputs, double), 0
    )


def is_file(original: Any) -> bool:
    """Whether an original is the file of a recording, and not a module or the name of a factory."""
    if isinstance(original, os.PathLike):
        return True
    return isinstance(original, str) and (Path(original).exists() or not is_named(original))


def _settled(alignment: Alignment, model: Any, ready: Callable[[bool], Ready], seed: int) -> tuple[Alignment, Ran]:
    """Settle in double precision where the code allows it, else in float32."""
    problem: TreealignError | None = None
    for double in (True, False):
        try:
            sides, realiser = ready(double)
            sides.draw(seed)
            sides.compare()
        except RefusedError as error:
            ran = Ran(False, reason=error.what)
            return replace(alignment, findings=(*alignment.findings, str(ran))), ran
        except TreealignError as error:
            problem = problem or error
        else:
            return settle(alignment, model, sides, realiser, seed)
    assert problem is not None
    raise problem


def _live(alignment: Alignment, original: Any, model: Any, run: Any, inputs: Any, double: bool) -> Ready:
    calls = runners(run, inputs, original, model)
    left, right = (
        Subject(original, calls[0], "original", double=double),
        Subject(model, calls[1], "model", double=double, wrappers=True),
    )
    names = names_in(alignment.checkpoint, tree_of(original))
    realiser = Realiser(alignment, names)
    unread = set(left.places.places) - set(names.values())
    return Pair(left, right, realiser.carry, unread, joint_ties(alignment, names)), realiser


def _replayed(alignment: Alignment, model: Any, recording: Recording, run: Any, inputs: Any, double: bool) -> Ready:
    leaves = [(key, tuple(value.shape), "float64") for key, value in recording.values.items()]
    names = names_in(alignment.checkpoint, KeyTree.from_leaves(leaves, ordered=True))
    realiser = Realiser(alignment, names)
    values = {key: recording.values[name] for key, name in names.items()}
    subject = _recorded_subject(model, recording, run, inputs, double)
    return Replay(recording.drawn, recording.events[1], values, subject, realiser), realiser


def _referred(
    alignment: Alignment, checkpoint: Any, model: Any, recording: Recording, run: Any, inputs: Any, double: bool
) -> Ready:
    with open_source(checkpoint) as source:
        values = {key: source.read(key) for key in alignment.checkpoint.keys}
    values = {key: value.double() if value.is_floating_point() else value for key, value in values.items()}
    realiser = Realiser(alignment, {key: key for key in values})
    subject = _recorded_subject(model, recording, run, inputs, double)
    precision = recording.precision
    return Replay(
        recording.own, recording.events[0], values, subject, realiser, precision=precision, generic=False
    ), realiser


def _recorded_subject(model: Any, recording: Recording, run: Any, inputs: Any, double: bool) -> Subject:
    """The model, called as the user says, else with the inputs that were recorded."""
    given = recording.inputs if inputs is None else inputs
    if isinstance(given, dict) and run is None and isinstance(model, nn.Module):
        known = set(_words(model))
        given = given if given.keys() <= known else tuple(v for v in given.values() if v is not None)
    if given is None and run is None:
        raise TreealignError("the recording has no inputs", hint="give inputs=…, or run=…, for the model")
    return Subject(model, runners(run, given, model, model)[1], "model", double=double, wrappers=True)


def verdict_by_reference(model: nn.Module, reference: Any, run: Any = None, inputs: Any = None) -> Proof:
    """Whether a model with its weights in it gives what was recorded of the original; see `treealign.verify`."""
    recording = read_recording(reference)
    problem: TreealignError | None = None
    for double in (True, False):
        subject = _recorded_subject(model, recording, run, inputs, double)
        sides = Recorded(recording.own, recording.events[0], subject, precision=recording.precision)
        try:
            sides.draw(0)
            return _exact(verdict_of(sides, sides.compare()), recording.precision)
        except RefusedError:
            raise
        except TreealignError as error:  # some code runs in float32 only
            problem = problem or error
    assert problem is not None
    raise problem


def _exact(proof: Proof, recorded: str) -> Proof:
    """A proof by a model's own weights, which may be nearly equal: in float64 its outputs are to agree exactly."""
    if not proof.proved or recorded != "float64" or proof.precision != "float64" or agrees(proof.difference, "float64"):
        return proof
    reason = f"the outputs differ by {proof.difference:.2g} of how much they vary, more than rounding does in float64"
    return replace(proof, proved=False, reason=reason, verdicts={k: Verdict(UNPROVED, reason) for k in proof.verdicts})


def _words(model: nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(model.forward).parameters)
