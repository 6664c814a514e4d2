"""A pytest file for the repository that takes an emitted entry: round trip, idempotence, coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from treealign.dialects.transformers.entries import PLACEHOLDER, Entry, registry_restored, run_source, source_text
from treealign.dialects.transformers.sides import sides_of
from treealign.dialects.transformers.stages import Journey
from treealign.dialects.transformers.writer import rules_for
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.tree.fold import fold
from treealign.tree.keys import natural_key

_HEAD = '''"""The conversion mapping of {name}: round trip, idempotence, coverage. Written by treealign."""

from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key


NAME = {name!r}

# key of a checkpoint -> key of the model; of each series of keys the first and the last
RENAMED = {{
{renamed}
}}

# keys of a checkpoint that are converted together -> what becomes of them
CONVERTED = {{
{converted}
}}
'''
_BODY = '''

def rules(reverse=False):
    transforms = get_checkpoint_conversion_mapping(NAME)
    if reverse:
        transforms = [transform.reverse_transform() for transform in reversed(transforms)]
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    return renamings, [transform for transform in transforms if isinstance(transform, WeightConverter)]


def renamed(keys, reverse=False):
    """Keys to what becomes of them, in the order in which they are loaded; of several targets the first."""
    renamings, converters = rules(reverse)
    steps = [(renamings, []), ([], converters)]
    made = {key: key for key in sorted(keys, key=dot_natural_key)}
    for step in reversed(steps) if reverse else steps:
        made = {key: rename_source_key(name, *step)[0] for key, name in made.items()}
    return made, (renamings, converters)


def test_every_key_goes_to_its_place():
    converted = {key: targets[0] for sources, targets in CONVERTED.items() for key in sources}
    assert renamed([*RENAMED, *converted])[0] == RENAMED | converted


def test_every_name_comes_back():
    made, _ = renamed([*RENAMED.values()], reverse=True)
    assert made == {new: old for old, new in RENAMED.items()}


def test_no_rule_is_dead():
    keys = [*RENAMED, *(key for sources in CONVERTED for key in sources)]
    _, (renamings, converters) = renamed(keys)
    assert [rule for rule in (*renamings, *converters) if not rule.was_used()] == []
'''
_IDEMPOTENT = """

def test_a_converted_checkpoint_stays_as_it_is():
    own = [*RENAMED.values(), *(key for targets in CONVERTED.values() for key in targets)]
    made, _ = renamed(own)
    # a name that the model does not have leaves the key as it was
    assert {key: new for key, new in made.items() if new != key and new in own} == {}
"""


def write_tests(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """A pytest file for the emitted entry, which it passes; see `treealign.emit`.

    Raises
    ------
    MappingError
        The entry cannot be emitted, or fails a test.
    """
    sides = sides_of(mapping, checkpoint, model)
    title = name or (sides.parts[""].class_name if "" in sides.parts else PLACEHOLDER)
    calls = rules_for(sides)
    renames, conversions = _shown(sides.journey)
    head = _HEAD.format(
        name=title,
        renamed="\n".join(f'    "{old}": "{new}",' for old, new in renames.items()),
        converted="\n".join(f"    {old!r}: {new!r},".replace("'", '"') for old, new in conversions),
    )
    entry = source_text([Entry(title, calls, overwrite=True)], title)
    failing = _failing(entry, head + _BODY + _IDEMPOTENT)
    idempotent = "test_a_converted_checkpoint_stays_as_it_is" not in failing
    rest = [test for test in failing if "stays" not in test]
    if rest:
        raise MappingError("the emitted entry fails its tests", facts=rest)
    return head + _BODY + (_IDEMPOTENT if idempotent else "")


def _failing(entry: str, text: str) -> list[str]:
    with registry_restored():
        run_source(entry)
        scope: dict[str, Any] = {"__name__": "emitted_tests"}
        exec(compile(text, "<emitted tests>", "exec"), scope)
        return [name for name, test in scope.items() if name.startswith("test_") and not _passes(test)]


def _passes(test: Any) -> bool:
    try:
        test()
    except AssertionError:
        return False
    return True


def _shown(journey: Journey) -> tuple[Mapping[str, str], Sequence[tuple[tuple[str, ...], tuple[str, ...]]]]:
    """Of each series the first and the last."""
    pairs = {step.sources[0]: step.targets[0] for step in journey.steps if not step.operations}
    groups = {step.sources[0]: (step.sources, step.targets) for step in journey.steps if step.operations}
    return {key: pairs[key] for key in _ends(pairs)}, [groups[key] for key in _ends(groups)]


def _ends(keys: Mapping[str, Any]) -> list[str]:
    names = list(keys)
    ends = [names[at] for found in fold(names) for at in (found.positions[0], found.positions[-1])]
    return sorted(dict.fromkeys(ends), key=natural_key)
