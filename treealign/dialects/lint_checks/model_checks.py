"""Findings about an entry as a whole: whether what is saved loads again, and what has the model's names already.

Its converters are read with their sizes: whether they lose numbers, and whether fewer rules would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from treealign.dialects.lint_checks.models import Case, Loaded, Shapes
from treealign.dialects.lint_checks.rule_checks import Said, rule_text
from treealign.dialects.lint_checks.walks import Walk
from treealign.dialects.transformers.reader import RulesReading, read_rules
from treealign.dialects.transformers.writer import write_live
from treealign.errors import TreealignError
from treealign.synthesize import Conversion, synthesize
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree

_FEW = 4
_MOST_KEYS = 3000  # beyond that no shorter list is looked for


def collisions(case: Case) -> Iterator[Said]:
    """Keys that become one, loading or saving."""
    for walk, way in ((case.loading, "loading"), (case.saving, "saving")):
        found = walk.collisions()
        if found:
            names = [key for keys in found.values() for key in keys]
            where = _common_rule(case, walk, names)
            facts = [f"{' and '.join(keys[:3])} become {end}" for end, keys in list(found.items())[:_FEW]]
            yield Said("collision", where, f"{way}, {len(names)} keys become {len(found)}", tuple(facts))


def reversal(case: Case) -> Iterator[Said]:
    """Whether what transformers writes loads again and is written the same."""
    if case.failure:
        yield Said("reversal", None, f"saving fails: {case.failure}")
        return
    loaded = case.load(case.saved)
    yield from _gaps(case, case.loading, loaded, "reversal", "what was just saved does not load")
    again = _differences(case.saved, loaded.saved)
    if again and not loaded.missing:
        yield Said("reversal", None, "what is saved, loaded and saved again has other names", _shown(again))


def uncovered(case: Case) -> Iterator[Said]:
    """Whether a checkpoint loads whole into the model of its own config."""
    yield from _gaps(case, case.loading, case.load(case.saved), "uncovered", "the checkpoint does not load whole")


def converted(case: Case) -> Iterator[Said]:
    """Whether a checkpoint of the model's own names passes, and is saved as it came."""
    if case.failure:
        return
    loaded = case.load(case.model)
    wrong = list(
        _gaps(case, case.converted, loaded, "converted", "a checkpoint of the model's own names does not load")
    )
    yield from wrong
    other = _differences(case.model, loaded.saved)
    if other and not wrong:
        says = "a checkpoint of the model's own names is saved under others than it came with"
        yield Said("saved-otherwise", None, says, _shown(other))


def _gaps(case: Case, walk: Walk, loaded: Loaded, kind: str, says: str) -> Iterator[Said]:
    gaps = ((loaded.missing, "get nothing"), (loaded.unexpected, "go nowhere"), (loaded.mismatched, "do not fit"))
    counts = [f"{len(keys)} {what}" for keys, what in gaps if keys]
    if counts:
        facts = [f"{what}: {name}" for keys, what in gaps for name in fold_names(keys, limit=2)]
        named = [*loaded.unexpected, *loaded.missing, *loaded.mismatched]
        yield Said(kind, _common_rule(case, walk, named), f"{says}: of its keys {', '.join(counts)}", tuple(facts))


def _differences(given: Iterable[str], saved: Iterable[str]) -> list[str]:
    return sorted({*given} ^ {*saved})


def _common_rule(case: Case, walk: Walk, names: Iterable[str]) -> int | None:
    """The entry's own rule that touched most of these keys, or made most of these names; the first of equals."""
    wanted, counts = set(names), dict[int, int]()
    for n in range(case.own):
        touched = walk.touched.get(n, ())
        counts[n] = sum(bool(wanted & {touch.key, touch.after, walk.ends[touch.key]}) for touch in touched)
    most = max(counts.values(), default=0)
    return next((n for n, count in counts.items() if count == most), None) if most else None


def smaller(case: Case) -> Iterator[Said]:
    """Fewer renamings that do the same, both ways, in transformers."""
    rules = case.rules()
    own = [n for n in range(case.own) if case.loading.touched.get(n) and not hasattr(rules[n], "operations")]
    if not case.loading.converted:
        yield from _fewer(case, len(own), lambda: _shortest_renamings(case, len(own)))


def _fewer(case: Case, count: int, shortest: Callable[[], Sequence[Any]]) -> Iterator[Said]:
    """Only where every rule in use is the entry's own: what other entries say is not its business."""
    apart = any(n >= case.own for n in case.loading.touched)
    if count < 2 or apart or len(case.saved) > _MOST_KEYS or case.loading.collisions():
        return
    try:
        made = shortest()
    except TreealignError:
        return
    if 0 < len(made) < count:
        yield Said("smaller", None, f"{len(made)} rules do what {count} do", tuple(map(rule_text, made)))


def _shortest_renamings(case: Case, count: int) -> Sequence[Any]:
    left = _tree(case.saved)
    right = _tree({case.loading.ends[key]: shape for key, shape in case.saved.items()})
    found = synthesize(list(case.loading.ends.items()), (), left, right)
    return [] if found.findings or len(found.mapping) >= count else write_live(found.mapping, left, right)


def _shown(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(fold_names(keys, limit=_FEW))


# -- converters --------------------------------------------------------------------------------------------------------


def converters_in(case: Case) -> frozenset[int]:
    """The entry's own converters that take something when what was saved is loaded."""
    rules = case.rules()
    return frozenset(n for n in case.loading.touched if n < case.own and hasattr(rules[n], "operations"))


def conversions(case: Case) -> Iterator[Said]:
    """Converters that saving does not undo, on numbers; and fewer rules that convert and rename the same."""
    if case.given or case.failure or not case.loading.converted:
        return
    rules = case.rules()
    try:
        reading = read_rules(rules, checkpoint=_tree(case.saved), model=case.meta)
    except TreealignError:
        # what cannot be read at all is looked at by its names and shapes only
        return
    own = {id(rule): n for n, rule in enumerate(rules[: case.own])}
    for rule, note in reading.notes:
        if id(rule) in own:
            yield Said("reversal", own[id(rule)], note)
    used = len(case.loading.touched)
    if not (reading.unread or reading.notes or reading.findings) and len(reading.read) == used:
        yield from _fewer(case, used, lambda: _shortest(case, reading))


def _shortest(case: Case, reading: RulesReading) -> Sequence[Any]:
    """The rules for the shortest mapping that does the same; transformers has loaded and saved by them."""
    steps = [s for s in reading.mapping.plan(list(case.saved)) if case.model.keys() >= {*s.targets}]
    left, right = _tree(case.saved), _tree(case.model)
    pairs = [(step.sources[0], step.targets[0]) for step in steps if not step.operations]
    groups = [Conversion(step.sources, step.targets, step.operations) for step in steps if step.operations]
    found = synthesize(pairs, groups, left, right)
    return [] if found.findings else write_live(found.mapping, left, right)


def _tree(shapes: Shapes) -> KeyTree:
    return KeyTree.from_leaves([(key, shape, None) for key, shape in shapes.items()])
