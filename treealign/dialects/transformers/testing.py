"""A pytest file for the repository that takes an emitted entry: round trip, idempotence, coverage, and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import Any

from treealign.dialects.transformers.entries import existing, import_lines, registry_restored, rules_of, run_source
from treealign.dialects.transformers.installed import LOADING, REGISTRY, scope_settings
from treealign.dialects.transformers.proving import without_bars
from treealign.dialects.transformers.reference_testing import PROOF, ProofTest, proof_test
from treealign.dialects.transformers.sides import Sides
from treealign.dialects.transformers.skeleton import Part
from treealign.dialects.transformers.stages import Journey
from treealign.dialects.transformers.tensor_testing import (
    OWN_IMPORTS,
    TEST,
    THEIR_IMPORTS,
    TensorTest,
    no_tensor_test,
    tensor_test,
)
from treealign.dialects.transformers.writer import entry_name, rooted_sides, source_for
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.tree.fold import fold
from treealign.tree.keys import natural_key

_HEAD = '''"""The conversion mapping of {name}: round trip, idempotence, coverage. Written by treealign."""
{imports}
# path of each model within the model -> the name under which the registry has its rules
PARTS = {parts}

# those that this mapping registers
ENTRIES = {entries}

# key of a checkpoint -> key of the model; of each series of keys the first and the last
RENAMED = {renamed}

# keys of a checkpoint that are converted together -> what becomes of them
CONVERTED = {converted}

OWN = [*RENAMED.values(), *(key for targets in CONVERTED.values() for key in targets)]
'''
_LOADING = ("WeightConverter", "WeightRenaming", "dot_natural_key", "rename_source_key")
_BODY = '''

def rules(name, path):
    transforms = get_checkpoint_conversion_mapping(name)
    assert transforms is not None, f"nothing is registered for {name}"
    for transform in transforms if path else ():
{scoped}
    return transforms


def collected():
    """The rules of all parts, each below its path, as transformers collects them; and those of our entries."""
    parts = {path: rules(name, path) for path, name in PARTS.items()}
    ours = [transform for path, name in PARTS.items() if name in ENTRIES for transform in parts[path]]
    return [transform for transforms in parts.values() for transform in transforms], ours


def renamed(transforms, keys, reverse=False):
    """Keys to what becomes of them, in the order in which they are loaded; of several targets the first."""
    if reverse:
        transforms = [transform.reverse_transform() for transform in reversed(transforms)]
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    steps = [(renamings, []), ([], converters)]
    made = {key: key for key in sorted(keys, key=dot_natural_key)}
    for step in reversed(steps) if reverse else steps:
        made = {key: rename_source_key(name, *step)[0] for key, name in made.items()}
    if reverse:
        return made
    # a name that the model does not have leaves a key of the model as it was
    return {key: key if key in OWN and name not in OWN else name for key, name in made.items()}


def test_every_key_goes_to_its_place():
    converted = {key: targets[0] for sources, targets in CONVERTED.items() for key in sources}
    assert renamed(collected()[0], [*RENAMED, *converted]) == RENAMED | converted


def test_every_name_comes_back():
    made = renamed(collected()[0], RENAMED.values(), reverse=True)
    assert made == {new: old for old, new in RENAMED.items()}


def test_no_rule_is_dead():
    every, ours = collected()
    renamed(every, [*RENAMED, *(key for sources in CONVERTED for key in sources)])
    assert [rule for rule in ours if not rule.was_used()] == []
'''
_IDEMPOTENT_TEST = "test_a_converted_checkpoint_stays_as_it_is"
_IDEMPOTENT = """

def test_a_converted_checkpoint_stays_as_it_is():
    assert renamed(collected()[0], OWN) == {name: name for name in OWN}
"""
_SCOPED = "        transform.{setting} = {value}"


def write_tests(
    mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None, reference: Any = None
) -> str:
    """A pytest file for all emitted entries, those of parts included, which it passes; see `treealign.emit`.

    With the file of a recorded run it keeps the proof, too: see `reference_testing`.

    Raises
    ------
    MappingError
        The entries cannot be emitted, or fail a test.
    TreealignError
        The recorded run cannot be used.
    """
    sides = rooted_sides(mapping, checkpoint, model, name)
    source, title = source_for(sides, name), entry_name(sides, name)
    body, tensors = _BODY.replace("{scoped}", _scoping()), tensor_test(sides)
    failing = _failing(source, _file(sides, source, title, [body, _IDEMPOTENT], tensors))
    tensors = no_tensor_test() if tensors.body and TEST in failing else tensors
    rest = [test for test in failing if test not in (TEST, _IDEMPOTENT_TEST)]
    if rest:
        raise MappingError("the emitted entries fail their tests", facts=rest)
    tests = [body, *([_IDEMPOTENT] if _IDEMPOTENT_TEST not in failing else [])]
    if reference is None:
        return _file(sides, source, title, tests, tensors)
    proof = proof_test(model, reference)
    made = _file(sides, source, title, tests, tensors, proof)
    if PROOF in _failing(source, made, Path(reference)):
        raise MappingError(
            "the model does not compute what was recorded of the original",
            where=str(reference),
            hint="`suggest --original FILE` settles the mapping by the same file",
        )
    return made


def _file(
    sides: Sides, source: str, title: str, tests: Sequence[str], tensors: TensorTest, proof: ProofTest | None = None
) -> str:
    head = _head(sides, source, title, _imports(tensors, proof))
    return "".join([head, tensors.data, *tests, tensors.body, proof.body if proof else ""])


def _imports(tensors: TensorTest, proof: ProofTest | None) -> str:
    names = sorted([*_LOADING, *tensors.names], key=lambda name: (name.islower(), name))
    own = [*(OWN_IMPORTS if tensors.body else ()), *(proof.own_imports if proof else ())]
    theirs = [
        *(["import torch"] if tensors.body or proof else []),
        *(proof.their_imports if proof else ()),
        *import_lines(REGISTRY, ["get_checkpoint_conversion_mapping"]),
        *import_lines(LOADING, names),
        *(THEIR_IMPORTS if tensors.body else ()),
    ]
    blocks = [block for block in (sorted(own), theirs) if block]
    return "".join("\n" + "".join(f"{line}\n" for line in block) for block in blocks)


def _head(sides: Sides, source: str, title: str, imports: str) -> str:
    renames, conversions = _shown(sides.journey)
    with registry_restored() as registry:
        before = dict(registry)
        run_source(source)
        entries = sorted(entry for entry, rules in registry.items() if rules is not before.get(entry))
        parts = _names(sides.parts)
    return _HEAD.format(
        name=title,
        imports=imports,
        parts=_table(f'"{path}": "{name}"' for path, name in parts.items()),
        entries=dumps(entries),
        renamed=_table(f'"{old}": "{new}"' for old, new in renames.items()),
        converted=_table(f"{old!r}: {new!r}".replace("'", '"') for old, new in conversions),
    )


def _table(lines: Iterable[str]) -> str:
    body = "".join(f"    {line},\n" for line in lines)
    return f"{{\n{body}}}" if body else "{}"


def _names(parts: Mapping[str, Part]) -> dict[str, str]:
    """Path of each part whose own rules transformers uses, in its order, to the name that it finds them under."""
    bare = {**parts, "": parts[""]._replace(base_model_prefix="")}
    used = {getattr(rule, "scope_prefix", None) or "" for rule in rules_of(bare, legacy=False)}
    names = {path: _looked_up(part) for path, part in parts.items() if path in used or not path}
    return {path: name for path, name in names.items() if existing(name) is not None}


def _looked_up(part: Part) -> str:
    """A class comes before its model type."""
    return part.class_name if existing(part.class_name) is not None else str(part.model_type)


def _scoping() -> str:
    """How a rule is told its path, in the words of the installed release."""
    named = {key: "path" if value else '""' for key, value in scope_settings("path").items()}
    return "\n".join(_SCOPED.format(setting=setting, value=value) for setting, value in named.items())


def _failing(entry: str, text: str, beside: Path = Path("run.pt")) -> list[str]:
    with registry_restored(), without_bars():
        run_source(entry)
        scope: dict[str, Any] = {"__name__": "emitted_tests", "__file__": str(beside.with_name("test_emitted.py"))}
        exec(compile(text, "<emitted tests>", "exec"), scope)
        return [name for name, test in scope.items() if name.startswith("test_") and not _passes(test)]


def _passes(test: Any) -> bool:
    try:
        test()
    except Exception:
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
