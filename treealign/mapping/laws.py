"""The laws of a conversion mapping, checked by running it on the two trees that it was made for.

Six of the seven laws are questions to the mapping and the trees. The seventh, that nothing ambiguous passes for
certain, is a question to the matches, where there are any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from treealign.errors import MappingError
from treealign.formats.collector import collector_paused
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.findings import LAWS, SHOWN, Fault, Finding, ForwardRun, grouped
from treealign.mapping.minimality import droppable, reach
from treealign.mapping.operations import is_lossy, output_shapes
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree

__all__ = ["LAWS", "AnyMatch", "Finding", "check_laws", "faults"]


class AnyMatch(Protocol):
    """What the laws ask of a match; see `treealign.suggestion`."""

    @property
    def checkpoint(self) -> tuple[str, ...]:
        """Keys of the checkpoint."""

    @property
    def model(self) -> tuple[str, ...]:
        """Keys of the model."""

    @property
    def certain(self) -> bool:
        """Whether it is not to be doubted."""


def check_laws(
    mapping: ConversionMapping,
    checkpoint: KeyTree,
    model: KeyTree,
    matches: Iterable[AnyMatch] | None = None,
    *,
    listed: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Check a mapping against the trees it was made for.

    Parameters
    ----------
    mapping : ConversionMapping
        From the checkpoint to the model.
    checkpoint, model : KeyTree
        The two sides.
    matches : iterable of Match, optional
        What the mapping is to realise.
    listed : collection of str
        Keys of either side that are known to be left over (missing, unexpected, mismatched, ambiguous); they are no
        findings.

    Returns
    -------
    tuple of Finding
        In the order of `LAWS`, and all of them but where the mapping cannot be run at all.

    Notes
    -----
    Linear in the number of keys: the mapping is run once forward, once back, and once on the model's own keys. Swaps
    are exempt from idempotence, for names alone do not tell their two sides apart.
    """
    with collector_paused():
        try:
            steps = mapping.plan(checkpoint)
        except MappingError as error:
            return (_cannot_run(mapping, checkpoint, error),)
        run = ForwardRun(mapping, checkpoint, model, steps, frozenset(listed))
        laws = (_complete, _exact, _reversible, _idempotent, _minimal, _unambiguous)
        found = [finding for law in laws for finding in law(run)] + list(_realised(run, matches or ()))
    return tuple(sorted(found, key=lambda finding: LAWS.index(finding.law)))


def _cannot_run(mapping: ConversionMapping, checkpoint: KeyTree, error: MappingError) -> Finding:
    """A finding for keys that meet or guards that cannot tell, made from what the mapping says of them."""
    said = "\n".join(error.facts)
    words = set(said.replace(":", " ").split())
    named = (transform for transform in mapping if repr(transform.with_guard()) in said)
    law = "injective" if "reach" in error.what else "idempotent"
    text = "; ".join([error.what, *(fact.strip() for fact in error.facts[:SHOWN])])
    return Finding(law, tuple(key for key in checkpoint.keys if key in words), next(named, None), text)


def _complete(run: ForwardRun) -> Iterator[Finding]:
    for step in run.steps:
        if step.absent:
            text = f"the conversion to {', '.join(step.targets[:3])} lacks {', '.join(step.absent[:3])}"
            yield Finding("complete", step.sources, run.last(step.transforms), text)
    tied, wanted = run.model.tied, run.wanted
    reached = run.reached
    filled = {tied.get(key, key) for key in reached} if tied else reached
    left_out = {*tied, *run.listed, *run.model.counters}
    missing = tuple(k for k in run.model.keys if k not in filled and k not in left_out)
    if missing:
        yield Finding("complete", missing, None, "keys of the model are missing: nothing fills them")
    if not reached <= wanted.keys():
        astray = (step for step in run.whole if not any(key in wanted for key in step.targets))
        unexpected = (
            (s.transforms, s.sources, f"keys of the checkpoint are unexpected: the model has no {s.targets[0]}")
            for s in astray
            if run.listed.isdisjoint(s.sources)
        )
        yield from grouped(run, "complete", unexpected)


def _exact(run: ForwardRun) -> Iterator[Finding]:
    given, wanted = run.given, run.wanted
    # of most keys there is nothing to say: all of the leaf but its name is the same on both sides
    others = run.conversions + [
        step
        for source, target, step in run.pairs
        if (a := given[source]) and ((b := wanted.get(target)) is None or a[1] != b[1] or a[2] != b[2])
    ]
    yield from grouped(run, "exact", (fault for step in others for fault in _shape_faults(run, step)))
    dtypes: dict[tuple[str, str], list[str]] = {}
    for step in others:
        before, after = given[step.sources[0]].dtype, {wanted[key].dtype for key in step.targets if key in wanted}
        for dtype in after - {before, None} if before else ():
            dtypes.setdefault((str(before), str(dtype)), []).extend(step.sources)
    for (old, new), keys in dtypes.items():
        yield Finding("exact", tuple(keys), None, f"{old} in the checkpoint, {new} in the model", fault=False)


def _shape_faults(run: ForwardRun, step: Step) -> Iterator[Fault]:
    targets = [run.wanted[key] for key in step.targets if key in run.wanted]
    shapes = [run.given[key].shape for key in step.sources]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or len(targets) < len(step.targets):
        return
    try:
        made = output_shapes(step.operations, known)
    except MappingError as error:
        yield step.transforms, step.sources, "; ".join([error.what, *error.facts])
        return
    for leaf, shape in zip(targets, made, strict=True):
        if leaf.shape is not None and leaf.shape != shape:
            text = f"{leaf.key} has shape {leaf.shape} in the model, and would be given {shape}"
            yield step.transforms, step.sources, text


def _reversible(run: ForwardRun) -> Iterator[Finding]:
    try:
        back = _way_back(run)
    except MappingError as error:
        found = _cannot_run(run.mapping.reverse, run.model, error)
        yield Finding("reversible", found.keys, found.transform, f"on the way back, {found.text}")
        return
    # what is left over stays outside the model, and nothing has to bring it back
    astray = [step for key, target, step in run.pairs if key not in run.listed and back[target] != step[0]]
    astray += [s for s in run.conversions if any(set(back[key]) != set(s.sources) for key in s.targets)]
    faults = (
        (step.transforms, step.sources, f"{step.targets[0]} would go back as {', '.join(back[step.targets[0]][:3])}")
        for step in astray
    )
    yield from grouped(run, "reversible", faults)
    lossy = [step for step in run.conversions if is_lossy(step.operations)]
    yield from grouped(run, "reversible", ((s.transforms, s.sources, "the operations lose something") for s in lossy))


def _way_back(run: ForwardRun) -> dict[str, tuple[str, ...]]:
    """What the reverse mapping makes of all that was reached."""
    if run.reached == run.wanted.keys():
        return run.mapping.reverse.map_keys(run.model)  # folded already
    outside = {target for key, target, _ in run.pairs if key in run.listed} - run.wanted.keys() if run.listed else set()
    return run.mapping.reverse.map_keys(sorted(run.reached - outside))


def _idempotent(run: ForwardRun) -> Iterator[Finding]:
    tied = run.model.tied
    own = [key for key in run.model.keys if key not in tied] if tied else run.model
    try:
        same = run.mapping.map_keys(own)
    except MappingError as error:
        found = _cannot_run(run.mapping, run.model, error)
        yield Finding("idempotent", found.keys, found.transform, f"the model's own keys: {found.text}")
        return
    moved = [key for key, targets in same.items() if targets[0] != key or len(targets) > 1]
    if moved:
        swapped = _cycles({s.sources[0]: s.targets[0] for s in run.steps if not s.operations})
        by = run.mapping.trace(own)
        faults = (
            (by[key].transforms, (key,), f"the model's own {key} would become {', '.join(same[key][:3])}")
            for key in moved
            if key not in swapped
        )
        yield from grouped(run, "idempotent", faults)


def _cycles(moves: Mapping[str, str]) -> set[str]:
    """The keys that come back to themselves."""
    found: set[str] = set()
    seen: set[str] = set()
    for start in moves:
        path, at = [], start
        while at in moves and at not in seen:
            seen.add(at)
            path.append(at)
            at = moves[at]
        if at in path and moves[at] != at:
            found.update(path[path.index(at) :])
    return found


def _minimal(run: ForwardRun) -> Iterator[Finding]:
    used = {at for step in run.steps for at in step.transforms}
    for at, transform in enumerate(run.mapping):
        if at not in used:
            keys = reach(transform, run.checkpoint)
            text = "is shadowed: transforms before it take its keys" if keys else "is dead: it matches nothing"
            yield Finding("minimal", keys, transform, text)
    for at, keys in droppable(run.mapping, run.checkpoint, run.steps).items():
        yield Finding("minimal", keys, run.mapping.transforms[at], "can be dropped: its keys end the same without it")


def _unambiguous(run: ForwardRun) -> Iterator[Finding]:
    for at, keys in run.mapping.several_positions(run.checkpoint).items():
        text = "could work at two positions in these keys, and works at the first"
        yield Finding("unambiguous", tuple(keys), run.mapping.transforms[at], text, fault=False)


def _realised(run: ForwardRun, matches: Iterable[AnyMatch]) -> Iterator[Finding]:
    targets = {key: step.targets for step in run.steps for key in step.sources}
    tied = run.model.tied.keys()
    doubtful: list[str] = []
    for match in matches:
        doubtful += () if match.certain else match.checkpoint
        for key in match.checkpoint:
            given = targets.get(key, ())
            if given != match.model and set(given) - tied != set(match.model) - tied:
                goes = ", ".join(given[:3]) or "nothing"
                text = f"{key} goes to {goes}, not to its match {', '.join(match.model[:3])}"
                yield Finding("complete", (key,), None, text)
    if doubtful:
        yield Finding("unambiguous", tuple(doubtful), None, "these are matched, but not for certain", fault=False)


def faults(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Those that break a law."""
    return tuple(finding for finding in findings if finding.fault)
