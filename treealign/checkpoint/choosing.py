"""Where the steps of a load come from: a given mapping, the record beside the files, or a suggestion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from treealign.align.links import Ambiguity
from treealign.checkpoint.adapters.lifting import lift
from treealign.checkpoint.adapters.scaling import other_settings
from treealign.checkpoint.adapters.scope import Scope, scope_of
from treealign.checkpoint.adapters.spelling import in_model_names
from treealign.checkpoint.carrying import slices
from treealign.checkpoint.conversion.marks import mark_of, marks_of
from treealign.checkpoint.places import Places, find_places
from treealign.checkpoint.record_file import WHOLE, Levels, Part, read_parts
from treealign.checkpoint.sources import Source
from treealign.errors import LoadError, MappingError
from treealign.mapping.conversion_mapping import ConversionMapping, as_mapping
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.key_sets import expand_keys
from treealign.mapping.marking import keys_in_question
from treealign.mapping.mismatches import unlike
from treealign.mapping.open_questions import OpenQuestion, question_lines
from treealign.mapping.planning import Step
from treealign.mapping.repeating import not_repeating
from treealign.tree.fold import fold, fold_names


@dataclass(frozen=True)
class Track:
    """Steps that belong to one record.

    `steps` stand in the record's names; `levels` says where these are in the files and in the model; `said` whether the
    steps are just what the mapping says, the names of the model apart.
    """

    mapping: ConversionMapping
    decision: GuardDecision
    steps: tuple[Step, ...]
    levels: Levels = WHOLE
    said: bool = False

    @property
    def translated(self) -> list[Step]:
        """The steps from keys in the files to keys of the model, one for each of `steps`."""
        if self.levels == WHOLE:
            return list(self.steps)
        return [step for step in map(self.levels.translate, self.steps) if step is not None]


@dataclass(frozen=True)
class Chosen:
    """What to load by.

    Attributes
    ----------
    tracks : tuple of Track
        The steps.
    places : Places
        The model under the names that the steps use.
    by : str
        ``"mapping"``, ``"record"`` or ``"suggestion"``.
    suggestion : Suggestion or None
        What was suggested, where that is what to load by.
    questions : tuple of OpenQuestion
        What the mapping leaves open; the steps do not touch the keys in question.
    adapter : str
        What the adapter is called in the model, where only that is loaded; the places are its own then.
    other_settings : tuple of str
        What of that adapter is computed otherwise in the model than the config beside the file says.
    """

    tracks: tuple[Track, ...]
    places: Places
    by: str
    suggestion: Any = None
    questions: tuple[OpenQuestion, ...] = ()
    adapter: str = ""
    other_settings: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> tuple[Any, ...]:
        """What is open, its keys written out."""
        if self.suggestion is not None:
            return tuple(self.suggestion.ambiguous)
        return tuple(_ambiguity(question) for question in self.questions)


def choose(
    model: nn.Module,
    source: Source,
    mapping: Any = None,
    hints: Any = None,
    converted: bool | GuardDecision | None = None,
    adapter: str = "",
    suggest: Callable[..., Any] | None = None,
) -> Chosen:
    """Find the steps of a load.

    A given mapping is taken as it is, but for what it only guesses. Without one, the record beside the files is, if it
    fits the files and the model; otherwise `suggest` finds a mapping, and its certain matches are taken. The file of an
    adapter is held against that adapter alone.

    Raises
    ------
    MappingError
        The mapping cannot be read, was made for another model, makes one key of two, or cannot tell what was converted.
    LoadError
        The model has nothing to load into.
    FormatError
        The record cannot be read.
    """
    places = find_places(model)
    if not places.places:
        raise LoadError("the model has no parameters and no buffers", hint="is this the model that is meant?")
    scope = scope_of(model, places, source.tree, source.beside, adapter)
    if scope is not None:
        return _into_adapter(model, source, scope, mapping, hints, converted, suggest)
    if mapping is not None:
        return _by_mapping(model, source, places, as_mapping(mapping), converted)
    found = _by_record(source, places) if hints is None else None
    return found or _by_suggestion(source, places, hints, suggest)


def _into_adapter(
    model: nn.Module,
    source: Source,
    scope: Scope,
    mapping: Any,
    hints: Any,
    converted: Any,
    suggest: Callable[..., Any] | None,
) -> Chosen:
    """The steps into one adapter: found under the names of its file, done under those of the model."""
    if mapping is not None:
        shapes = {leaf.key: leaf.shape or () for leaf in source.tree.leaves}
        fitted = lift(as_mapping(mapping), shapes, converted)
        found = _by_mapping(model, source, scope.spelled, fitted, converted, (scope.places,))
    else:
        found = _by_suggestion(source, scope.spelled, hints, suggest)
    steps = [step for track in found.tracks for step in track.translated]
    tracks = [
        Track(*in_model_names(t.mapping, t.decision, t.steps, scope.saved), levels=t.levels) for t in found.tracks
    ]
    other = other_settings(scope.config, source.beside, steps)
    return replace(found, tracks=tuple(tracks), places=scope.places, adapter=scope.name, other_settings=other)


def _by_mapping(
    model: nn.Module,
    source: Source,
    places: Places,
    mapping: ConversionMapping,
    converted: Any,
    others: Sequence[Places] = (),
) -> Chosen:
    if converted is None and mark_of(mapping, reverse=False) in (marks_of(source.layout) or ()):
        converted = True  # the files say so themselves: a square that was turned must not be turned again
    decision = _decide(model, mapping, source, converted)
    first = _planned(source, places, mapping, decision)
    if first[0]:
        return _settled(first[1], source, converted)
    # a mapping made for the wrapped model names the wrappers, one made for the model itself does not
    seconds = [_planned(source, other, mapping, decision) for other in others or (find_places(model, raw=True),)]
    best = max(first, *seconds, key=lambda found: found[2])
    if not best[2]:
        raise MappingError(
            "the mapping was made for another model or checkpoint: nothing it gives is in the model",
            facts=_examples(best[1], source, places),
            hint="load without a mapping to have one suggested",
        )
    return _settled(best[1], source, converted)


def _settled(chosen: Chosen, source: Source, converted: Any) -> Chosen:
    """Only the steps that no open question of the mapping speaks of, and that were not done already."""
    (track,) = chosen.tracks
    asked = keys_in_question(track.mapping) if track.mapping.questions else frozenset()
    certain = tuple(step for step in track.steps if asked.isdisjoint((*step.sources, *step.targets)))
    steps = not_repeating(track.mapping, certain, converted, source.path)
    kept = replace(track, steps=steps, said=track.said and steps == track.steps)
    return replace(chosen, tracks=(kept,), questions=track.mapping.questions)


def _ambiguity(question: OpenQuestion) -> Ambiguity:
    left, right = (tuple(expand_keys(side)) for side in (question.checkpoint, question.model))
    return Ambiguity(left, right, "; ".join(question.settled_by) or question.why)


def _planned(
    source: Source, places: Places, mapping: ConversionMapping, decision: GuardDecision
) -> tuple[bool, Chosen, int]:
    """What the mapping makes of a model under these names, whether all of it fits, and how much does."""
    known = frozenset((*places.places, *places.recomputed))
    steps, unaided = mapping.plan_for(source.tree, decision, known)
    fitting = sum(known.issuperset(step.targets) for step in steps)
    track = Track(mapping, decision, steps, said=unaided)
    return fitting == len(steps) > 0, Chosen((track,), places, "mapping"), fitting


def _decide(model: nn.Module, mapping: ConversionMapping, source: Source, converted: Any) -> GuardDecision:
    """The decision about guards; what the keys leave open follows what was loaded before, as an adapter its base."""
    if isinstance(converted, GuardDecision):
        return converted
    if converted is not None:
        return GuardDecision(tuple(Verdict.SKIP if converted and t.guarded else Verdict.APPLY for t in mapping))
    decided = list(mapping.decide(source.tree).decided)
    for carried in slices(model):
        if Verdict.UNKNOWN in decided:
            keys = [key for step in carried.read_record().steps for key in step.sources]
            base = mapping.decide(keys).decided
            decided = [b if d is Verdict.UNKNOWN else d for d, b in zip(decided, base, strict=True)]
    return GuardDecision(tuple(decided))


def _examples(chosen: Chosen, source: Source, places: Places) -> list[str]:
    step = next(iter(chosen.tracks[0].steps), None)
    made = [f"the mapping makes {', '.join(step.targets[:3])} of {', '.join(step.sources[:3])}"] if step else []
    return [*made, f"the model has {next(iter(places.places))}", f"the checkpoint has {len(source.tree)} keys"]


def _by_record(source: Source, places: Places) -> Chosen | None:
    parts = read_parts(source.beside) if source.beside else None
    if not parts:
        return None
    tracks = tuple(_track(part) for part in parts)
    covered = {key for track in tracks for step in track.translated for key in step.sources}
    # what no part knows was saved under the model's own names
    own = tuple(Step((key,), (key,)) for key in source.tree.keys if key not in covered)
    tracks += (Track(ConversionMapping(), GuardDecision(()), own),) if own else ()
    known = {*places.places, *places.recomputed}
    fits = all(key in known for track in tracks for step in track.translated for key in step.targets)
    return Chosen(tracks, places, "record") if fits and covered <= set(source.tree.keys) else None


def _track(part: Part) -> Track:
    here = tuple(step for step in part.record.steps if part.levels.translate(step) is not None)
    return Track(part.record.mapping, part.record.decision, here, part.levels)


def _by_suggestion(source: Source, places: Places, hints: Any, suggest: Callable[..., Any] | None) -> Chosen:
    if suggest is None:
        raise LoadError("there is neither a mapping nor a record beside the files", where=source.tree.source)
    found = suggest(source.tree, places.tree, hints=hints)
    known = {*places.places, *places.recomputed}
    decision = found.mapping.decide(source.tree)
    try:
        planned = {step.sources: step for step in found.mapping.plan(source.tree, decision, known)}
    except MappingError:  # its guesses collide; the certain matches stand on their own
        planned = {}
    steps = [_certain_step(m.checkpoint, m.model, m.operations, planned) for m in found.matches if m.certain]
    matched = {key for match in found.matches for key in (*match.checkpoint, *match.model)}
    steps += [step for step in planned.values() if _goes_without_saying(step, matched, source, places)]
    track = Track(found.mapping, decision, tuple(steps))
    return Chosen((track,), places, "suggestion", found, found.mapping.questions)


def _goes_without_saying(step: Step, matched: set[str], source: Source, places: Places) -> bool:
    """Whether a step that no match states belongs to the load all the same, by its names.

    No match names a buffer that the model computes, or the second name of a tied weight; where shapes or kinds of
    numbers differ, the step is to be judged, and found wanting.
    """
    if step.absent or step.operations or not matched.isdisjoint((*step.sources, *step.targets)):
        return False
    target = step.targets[0]
    if target in places.recomputed or target in places.tied:
        return True
    return target in places.places and unlike(source.tree.leaf(step.sources[0]), places.tree.leaf(target))


def _certain_step(
    checkpoint: Sequence[str], model: Sequence[str], operations: Iterable[Any], planned: dict[tuple[str, ...], Step]
) -> Step:
    step = Step(tuple(checkpoint), tuple(model), tuple(operations))
    own = planned.get(step.sources)
    return own if own is not None and own[:3] == step[:3] else step


def open_questions(chosen: Chosen) -> tuple[list[str], frozenset[str]]:
    """What is left open, as lines, and the keys in question; nothing where a record says what to do."""
    groups = chosen.ambiguous
    lines = [f"  {line}" for line in question_lines(chosen.questions)]
    asked = frozenset(key for group in groups for key in (*group.checkpoint, *group.model))
    guesses = [match for match in getattr(chosen.suggestion, "matches", ()) if not match.certain]
    rest = [match for match in guesses if not asked.issuperset((*match.checkpoint, *match.model))]
    alike: dict[tuple[str, ...], list[Any]] = {}
    for match in rest:
        templates = (f.template for f in fold([*match.checkpoint, *match.model]))
        alike.setdefault(tuple(templates), []).append(match)
    for matches in alike.values():
        left, right = ([key for match in matches for key in getattr(match, side)] for side in ("checkpoint", "model"))
        lines.append(f"  {', '.join(fold_names(left))} -> {', '.join(fold_names(right))}, perhaps")
    keys = asked.union(*((*match.checkpoint, *match.model) for match in rest))
    return (["ambiguous:", *lines] if lines else []), keys
