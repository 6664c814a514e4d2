"""Findings about an entry as a whole: whether what is saved loads again, and what has the model's names already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from treealign.dialects.lint_checks.models import Case, Loaded
from treealign.dialects.lint_checks.rule_checks import Said, rule_text
from treealign.dialects.lint_checks.walks import Walk
from treealign.dialects.transformers.writer import write_live
from treealign.errors import TreealignError
from treealign.synthesize import synthesize
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
    apart = any(n >= case.own for n in case.loading.touched)
    if len(own) < 2 or apart or case.loading.converted or len(case.saved) > _MOST_KEYS or case.loading.collisions():
        return
    shapes = case.saved
    left = KeyTree.from_leaves([(key, shape, None) for key, shape in shapes.items()])
    right = KeyTree.from_leaves([(case.loading.ends[key], shape, None) for key, shape in shapes.items()])
    try:
        found = synthesize(list(case.loading.ends.items()), (), left, right)
        if found.findings or len(found.mapping) >= len(own):
            return
        made = write_live(found.mapping, left, right)
    except TreealignError:
        return
    if len(made) < len(own):
        says = f"{len(made)} rules do what {len(own)} do"
        yield Said("smaller", None, says, tuple(map(rule_text, made)))


def _shown(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(fold_names(keys, limit=_FEW))
