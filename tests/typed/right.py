"""What a user writes, and what a type checker is to see in it: tests/test_types.py runs two over it."""

from pathlib import Path

import torch

import treealign
from treealign import ConversionMapping, KeyTree, LoadResult, Match, Mismatch, PrefixChange, Suggestion, TreealignError


def load(model: torch.nn.Module, checkpoint: Path) -> tuple[str, ...]:
    tree: KeyTree = treealign.read_tree(checkpoint)
    suggestion: Suggestion = treealign.suggest(tree, model, hints=["norm1=input_layernorm"])
    matches: tuple[Match, ...] = suggestion.matches
    mapping: ConversionMapping = suggestion.mapping
    print(len(matches), len(mapping), [match.certain for match in matches])
    try:
        result: LoadResult = treealign.load(model, checkpoint, mapping, strict=False)
    except TreealignError as error:
        print(error.hint.upper())
        raise
    mismatched: tuple[Mismatch, ...] = result.mismatched_keys
    saved: treealign.SaveResult = treealign.save(model, "out")
    print([one.checkpoint_shape for one in mismatched], saved.files)
    return result.missing_keys


def rename(mapping: ConversionMapping) -> dict[str, tuple[str, ...]]:
    longer = ConversionMapping([*mapping, PrefixChange(add="model"), treealign.Rename("a", "b")])
    return longer.reverse.map_keys(["a.weight"])


def update(old: str, new: str) -> list[str]:
    found: treealign.Audit = treealign.audit(old, new)
    changes: tuple[treealign.Change, ...] = found.changes
    references: tuple[treealign.Reference, ...] = found.scan(["tests"]).references
    return [*(change.summary for change in changes), *(reference.file for reference in references)]


operation: treealign.operations.Operation = treealign.operations.Concat(0, (4, 2, 2))
