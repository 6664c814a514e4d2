"""Prove a mapping by running both sides: equal values, equal inputs, equal outputs, and what these depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from treealign.checkpoint.loading import LoadOptions, LoadResult, load_tensors
from treealign.errors import TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.run.calling import Runner, runners
from treealign.run.pair import Pair, RefusedError, Sides
from treealign.run.results import FOLLOWS, LOOSE, PROVED, UNPROVED, WORSE, Proof, Verdict, agrees
from treealign.run.subject import Subject

MOST_TRIED = 400  # keys that are given other values one by one
CLEAR = 1e-6  # of a change of the outputs that gradients foretell
NOTHING = {"float64": 1e-11, "float32": 1e-5}  # changes that rounding may make


def prove_pair(original: Any, model: Any, mapping: ConversionMapping, run: Any, inputs: Any, seed: int) -> Proof:
    """Run both sides under a mapping; see `treealign.prove`."""
    calls = runners(run, inputs, original, model)
    try:
        pair = loaded_pair(original, model, mapping, calls, double=True)
        pair.draw(seed)
        found = pair.compare()
    except TreealignError as first:
        if isinstance(first, RefusedError) or "return" in first.what:
            raise
        # some code runs in float32 only
        pair = loaded_pair(original, model, mapping, calls, double=False)
        try:
            pair.draw(seed)
        except TreealignError:
            raise first from None
        found = pair.compare()
    return verdict_of(pair, found)


def loaded_pair(
    original: Any, model: Any, mapping: ConversionMapping, calls: tuple[Runner, Runner], *, double: bool
) -> Pair:
    """Both sides, the model filled by a load with the mapping."""
    sides = Subject(original, calls[0], "original", double=double), Subject(model, calls[1], "model", double=double)
    results: list[LoadResult] = []

    def carry(left: Subject, right: Subject) -> None:
        values = {key: place.tensor.detach() for key, place in left.places.places.items()}
        results.append(
            load_tensors(
                right.module, values, LoadOptions(mapping.accept(), strict=False, dtype="model", allow_lossy=True)
            )
        )

    carry(*sides)
    left_out = results[0].unexpected_keys
    pair = Pair(*sides, carry, left_out, _joint_ties(sides, mapping))
    pair.missing = frozenset((*results[0].missing_keys, *(one.model for one in results[0].mismatched_keys)))
    return pair


def _joint_ties(sides: tuple[Subject, Subject], mapping: ConversionMapping) -> dict[str, str]:
    """Keys of the original that feed a second name of a tied weight, to the key that feeds its first."""
    feeds = mapping.map_keys(list(sides[0].places.places), converted=False)
    source = {target: key for key, targets in feeds.items() for target in targets}
    tied = sides[1].places.tied
    pairs = ((source.get(alias), source.get(owner)) for alias, owner in tied.items())
    return {a: b for a, b in pairs if a is not None and b is not None and a != b}


def verdict_of(pair: Sides, found: float) -> Proof:
    """What the outputs say of the whole, and of each key."""
    precision = pair.precision
    if found > LOOSE or math.isnan(found):
        reason = f"the outputs differ by {found:.2g} of how much they vary"
        if pair.draws_chance():
            reason += "; the original draws random numbers, which the two may draw in another order"
        verdicts = {key: Verdict(UNPROVED, "the outputs differ") for key in keys_of(pair)}
        return Proof(False, found, verdicts, reason, precision, pair.runs)
    effects = effects_of(pair, exact=agrees(found, precision))
    verdicts = {key: _verdict(key, pair, effects, found) for key in effects}
    drowned = [key for key, effect in effects.items() if _drowns(effect, found, precision)]
    reason = ""
    if drowned:
        reason = f"the outputs differ by {found:.2g}, and what {drowned[0]} does to them is no {WORSE} times that"
    elif PROVED not in verdicts.values():
        reason = "the outputs depend on no key"
    return Proof(not reason, found, verdicts, reason, precision, pair.runs)


def keys_of(pair: Sides) -> list[str]:
    """The keys of the model that a verdict is given of: tied weights by their first name."""
    places = pair.model.places
    return [key for key in places.places if key not in places.tied]


def _drowns(effect: float, found: float, precision: str) -> bool:
    return 0 < effect < WORSE * found and not agrees(found, precision)


def _verdict(key: str, pair: Sides, effects: Mapping[str, float], found: float) -> Verdict:
    effect = effects[key]
    if key in pair.missing:
        read = "the run reads its own value" if effect else "the run does not read it"
        return Verdict(UNPROVED, f"nothing fills it; {read}")
    if _drowns(effect, found, pair.precision):
        return Verdict(UNPROVED, f"what it does to the outputs, {effect:.2g}, is lost in their difference")
    if effect:
        return Verdict(PROVED, f"the outputs depend on it: other values change them by {effect:.2g}")
    module, _, name = key.rpartition(".")
    if pair.model.places.places[key].is_counted_by_torch:
        beside = [k for k, e in effects.items() if e and k.rpartition(".")[0] == module]
        if beside:
            return Verdict(FOLLOWS, f"{name} is not read in eval mode; {beside[0]} is proved")
    return Verdict(UNPROVED, "the outputs do not depend on it")


def effects_of(pair: Sides, *, exact: bool) -> dict[str, float]:
    """How much the outputs change when one key has other values, for each key; 0 for what is no more than rounding.

    Where outputs are equal exactly, a gradient that is clearly not zero is proof enough. One that is zero, or none at
    all, is not: a codebook that is searched for the nearest entry has none, and decides what comes out.
    """
    found = _by_gradients(pair) if exact else {}
    tried = 0
    for key in keys_of(pair):
        if found.get(key, 0.0) > CLEAR:
            continue
        tried += 1
        effect = pair.effect([key]) if tried <= MOST_TRIED else 0.0
        found[key] = effect if effect > NOTHING[pair.precision] else 0.0
    return {key: found.get(key, 0.0) for key in keys_of(pair)}


def _by_gradients(pair: Sides) -> dict[str, float]:
    """About how much outputs change where a key changes by as much as its values are; empty without gradients."""
    places = pair.model.places.places
    keys = [k for k in keys_of(pair) if places[k].kind == "parameter" and places[k].tensor.is_floating_point()]
    leaves = [places[key].tensor for key in keys]
    try:
        for leaf in leaves:
            leaf.requires_grad_(True)
        score = _projected(pair.seen(grad=True))
        grads = torch.autograd.grad(score, leaves, allow_unused=True)
    except (TreealignError, RuntimeError):  # the run allows no gradients
        return {}
    finally:
        for leaf in leaves:
            if leaf.is_leaf:
                leaf.requires_grad_(False)
    pairs = zip(keys, leaves, grads, strict=True)
    return {key: float((grad * leaf).norm()) for key, leaf, grad in pairs if grad is not None}


def _projected(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """One number that depends on all of the outputs."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        if output.is_floating_point() and output.requires_grad:
            flat = output.flatten().double()
            flat = flat[flat.isfinite()]
            direction = torch.randn(flat.shape, generator=generator, dtype=torch.float64)
            total = total + flat @ direction / (flat.detach().std(correction=0) + 1e-12) / max(flat.numel(), 1) ** 0.5
    return total
