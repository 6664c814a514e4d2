"""`lint`: the entries of transformers' registry, each against its models, run by transformers' own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from os import PathLike
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

from treealign.dialects.lint_checks.model_checks import (
    collisions,
    conversions,
    converted,
    converters_in,
    reversal,
    smaller,
    uncovered,
)
from treealign.dialects.lint_checks.models import Case, case_of
from treealign.dialects.lint_checks.registered_models import build, classes_of, variants
from treealign.dialects.lint_checks.results import KINDS, EntryReport, Finding, Lint
from treealign.dialects.lint_checks.rule_checks import Said, dots, matching, rule_text, static, unused
from treealign.dialects.transformers.entries import existing
from treealign.dialects.transformers.installed import REGISTRY, require, version
from treealign.errors import TreealignError, look_alikes
from treealign.tree.reading import read_tree

_CHECKS: tuple[Callable[[Case], Iterator[Said]], ...] = (
    collisions,
    reversal,
    converted,
    unused,
    matching,
    dots,
    smaller,
)
_OF_NAMES = (collisions, unused, matching, dots)
_MOST_CLASSES = 6
_REASON = 200  # characters
# a rule that one class has no use for may serve another: only if all agree is it a finding
_UNANIMOUS = {"dead", "shadowed", "not-written-back", "smaller"}
_PLAIN_ENTRIES = ("legacy",)  # names of any model: it belongs to no class


def lint(
    entry: str | None = None,
    checkpoint: Any = None,
    *,
    workers: int = 1,
    progress: Callable[[EntryReport], None] | None = None,
) -> Lint:
    """Check entries of the registry of the installed transformers.

    Each entry meets the models that it is for, built without weights from their default configs with few layers. What
    transformers saves of them, and what it makes of that and of the models' own names, is run, not guessed.

    Parameters
    ----------
    entry : str, optional
        Class name or model type; all entries by default.
    checkpoint : optional
        Whatever `read_tree` takes: its keys in place of those that transformers would save. Needs an entry. With a
        ``config.json`` beside it the models are built from that, and it has to load whole.
    workers : int
        Processes.
    progress : callable, optional
        Told of each entry when it is done.

    Raises
    ------
    TreealignError
        transformers is not installed, or too old, or has no such entry, or the checkpoint cannot be read.
    """
    require()
    names = _names(entry)
    if checkpoint is not None and entry is None:
        raise TreealignError("a checkpoint is for one entry", hint="name its model type")
    reports = list[EntryReport]()
    given = None if checkpoint is None else _given(checkpoint)
    for report in _reports(names, given, min(workers, len(names))):
        reports.append(report)
        if progress:
            progress(report)
    return Lint(version(), tuple(sorted(reports, key=lambda report: names.index(report.entry))))


class Given(NamedTuple):
    """A checkpoint: its names and shapes, and its config if it has one."""

    shapes: dict[str, tuple[int, ...]]
    config: Any


def _given(checkpoint: Any) -> Given:
    shapes = {leaf.key: leaf.shape or () for leaf in read_tree(checkpoint).leaves}
    path = Path(checkpoint) if isinstance(checkpoint, str | PathLike) else None
    folder = None if path is None else path if path.is_dir() else path.parent
    if folder is None or not (folder / "config.json").is_file():
        return Given(shapes, None)
    try:
        config = import_module("transformers").AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError):
        # a config of no model of transformers says nothing here
        config = None
    return Given(shapes, config)


def _names(entry: str | None) -> list[str]:
    if entry is not None:
        if existing(entry) is None:
            facts = look_alikes(entry, import_module(REGISTRY)._build_checkpoint_conversion_mapping(), 5)
            hint = "`treealign lint transformers` goes through all entries"
            what = "the registry of transformers has no entry of this name"
            raise TreealignError(what, where=entry, facts=facts, hint=hint)
        return [entry]
    table = import_module(REGISTRY)._build_checkpoint_conversion_mapping()
    return sorted(name for name in table if name not in _PLAIN_ENTRIES)


def _reports(names: Sequence[str], given: Given | None, workers: int) -> Iterator[EntryReport]:
    if workers < 2:
        yield from map(partial(_quietly, given), names)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_quietly, given, name) for name in names]):
            yield done.result()


def _quietly(given: Given | None, name: str) -> EntryReport:
    import_module("torch").set_num_threads(1)
    logging = import_module("transformers").logging
    logging.set_verbosity_error()
    return entry_report(name, given)


def entry_report(name: str, given: Given | None = None) -> EntryReport:
    """One entry, checked."""
    rules = existing(name) or []
    texts, unchecked, met = tuple(map(rule_text, rules)), list[tuple[str, str]](), list[Met]()
    every = classes_of(name)
    # a class with an entry of its own does not look at that of its model type
    kinds = [kind for kind in every if kind.__name__ == name or existing(kind.__name__) is None]
    for kind in _worth_checking(kinds, given):
        try:
            met.append(_met(kind, given, met))
        except Exception as error:
            unchecked.append((kind.__name__, shorten(f"{type(error).__name__}: {error}", _REASON, placeholder=" …")))
    checked = [one.model for one in met]
    findings = [Finding(one.kind, name, one.rule, one.says, one.facts) for one in static(rules)]
    findings += _merged(name, [(one.model, said) for one in met for said in one.said], checked)
    if not kinds:
        none = "transformers has no model class and no model type of this name"
        findings.append(Finding("orphan", name, None, "each of its classes has an entry of its own" if every else none))
    order = list(KINDS)
    findings.sort(key=lambda finding: (order.index(finding.kind), finding.rule if finding.rule is not None else -1))
    return EntryReport(name, texts, tuple(checked), tuple(findings), tuple(unchecked))


class Met(NamedTuple):
    """A class that an entry was checked against, what is to be said of it, and the entry's converters that it uses."""

    model: str
    said: list[Said]
    converters: frozenset[int] = frozenset()


def _met(kind: Any, given: Given | None, before: Sequence[Met]) -> Met:
    """What is to be said of one class, after others."""
    if given is not None:
        fits = isinstance(given.config, kind.config_class)
        case = case_of(build(kind, given.config if fits else None), given.shapes)
        checks = (*_OF_NAMES, *((uncovered,) if fits else ()))
        return Met(kind.__name__, [one for check in checks for one in check(case)])
    case = case_of(build(kind))
    used = converters_in(case)
    made = [one for check in (*_CHECKS, *((conversions,) if _tells(used, before) else ())) for one in check(case)]
    alive = _alive_otherwise(kind, {one.rule for one in made if one.kind == "dead"})
    # fewer rules were looked for without the keys that only another model has
    kept = [one for one in made if not (one.kind == "smaller" and alive)]
    return Met(kind.__name__, [one for one in kept if not (one.kind == "dead" and one.rule in alive)], used)


def _tells(converters: frozenset[int], before: Sequence[Met]) -> bool:
    """Whether reading converters, which takes seconds, can tell more: they are others, or all agree on fewer rules."""
    agreed = all(any(said.kind == "smaller" for said in one.said) for one in before)
    return agreed or not converters <= frozenset().union(*(one.converters for one in before))


def _alive_otherwise(kind: Any, dead: set[int | None]) -> set[int | None]:
    """The rules that touch something in a model with all layers, or once a switch of the config is turned."""
    alive: set[int | None] = set()
    for model in variants(kind) if dead else ():
        alive |= dead & case_of(model).loading.touched.keys()
        if alive == dead:
            break
    return alive


def _worth_checking(kinds: Sequence[Any], given: Given | None = None) -> list[Any]:
    """The base model, and those with most to load: the others are these with another head.

    Of a checkpoint's config, the class that it names.
    """
    named = getattr(given.config, "architectures", None) if given is not None else None
    chosen = [kind for kind in kinds if kind.__name__ in (named or ())]
    if chosen:
        return chosen
    first = [kind for kind in kinds if "For" not in kind.__name__]
    heads = [kind for kind in kinds if kind not in first]
    wanted = ("ConditionalGeneration", "CausalLM", "MaskedLM", "PreTraining")
    heads.sort(key=lambda kind: not kind.__name__.endswith(wanted))
    return [*first, *heads][:_MOST_CLASSES]


def _merged(name: str, said: Sequence[tuple[str, Said]], checked: Sequence[str]) -> Iterator[Finding]:
    """One finding for each rule and kind, with all the classes it was found in."""
    grouped: dict[tuple[str, int | None], list[tuple[str, Said]]] = {}
    for model, one in said:
        grouped.setdefault((one.kind, one.rule), []).append((model, one))
    idle: dict[int | None, set[str]] = {}
    for (kind, rule), found in grouped.items():
        if kind in {"dead", "shadowed", "not-written-back"}:
            idle.setdefault(rule, set()).update(model for model, _ in found)
    for (kind, rule), found in grouped.items():
        models = dict.fromkeys(model for model, _ in found)
        agreed = idle.get(rule, set()) if kind in {"dead", "shadowed", "not-written-back"} else set(models)
        if kind in _UNANIMOUS and agreed != {*checked}:
            continue
        if kind == "dead" and any((other, rule) in grouped for other in ("shadowed", "not-written-back")):
            continue
        first = found[0][1]
        yield Finding(kind, name, rule, first.says, first.facts, tuple(models))
