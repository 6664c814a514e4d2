"""From transformers: a registry entry, a live list or a `key_mapping` as a conversion mapping.

A renaming is read as it is written where its regular expression is a key pattern. Whatever is more than that (it
matches inside segments, looks around, converts without sizes) is reported with the reason, and can still be run on keys
by the code of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from treealign.dialects.regex_reading import Reading, parts_of
from treealign.dialects.transformers.collecting import Both, both_of, fresh, run_one
from treealign.dialects.transformers.entries import existing
from treealign.dialects.transformers.installed import LOADING, REGISTRY, renamed
from treealign.dialects.transformers.sides import sample_keys
from treealign.dialects.transformers.whole_reading import read_whole
from treealign.errors import MappingError, PatternError, TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename

_BODY = re.compile(r"\((?P<number>\\d\+)\)|\((?P<choice>[\w|-]+\|[\w|-]+)\)|\\?(?P<dot>\.)|(?P<text>[\w-]+)", re.ASCII)
_END = re.compile(r"(?:\(\?!\[\^\.\]\)|\(\?=\\\.\|\$\))$")


@dataclass(frozen=True, repr=False)
class RulesReading(Reading):
    """What was read of rules of transformers: renamings first in the mapping, converters behind them.

    Attributes
    ----------
    read : tuple of (rule, transforms)
        What was made of each rule that was read.
    idle : tuple
        With a checkpoint, the rules that touch none of its keys; they are not in the mapping.
    notes : tuple of (rule, text)
        What transformers itself does not undo when it saves by the rule, though the mapping does.
    findings : tuple of str
        What the mapping as a whole does not do as it should, run on the keys of both sides.
    """

    read: tuple[tuple[Any, tuple[Transform, ...]], ...] = ()
    idle: tuple[Any, ...] = ()
    notes: tuple[tuple[Any, str], ...] = ()
    findings: tuple[str, ...] = ()

    def run(self, keys: Iterable[str], reverse: bool = False) -> dict[str, str]:
        """What all rules make of keys, by the code of transformers; of a conversion the first name.

        They are copied first, and meet the keys in the order in which transformers loads them.
        """
        return _run(self.rules, keys, reverse)


def read_rules(
    source: Any, keys: Iterable[str] | None = None, checkpoint: Any = None, model: Any = None
) -> RulesReading:
    """Read rules of transformers.

    Parameters
    ----------
    source : str, dict, list or PreTrainedModel
        A model type or class name of the registry, a ``key_mapping``, rules, or a model: all the rules by which
        transformers loads it.
    keys : iterable of str, optional
        Keys of a checkpoint. A pattern that could match inside segments is then read as one of whole segments where
        that makes no difference to them.
    checkpoint : optional
        Whatever `read_tree` takes. Every renaming is then read by what it does to these keys, and converters with the
        sizes of these tensors.
    model : optional
        A model of transformers, or whatever `read_tree` takes: some converters read sizes off the model or its config.
        Without a checkpoint, that is what transformers would save of the model by these rules.

    Raises
    ------
    TreealignError
        The registry has no such entry; the checkpoint or the model cannot be read.
    """
    model = source if model is None and hasattr(source, "named_modules") else model
    rules = tuple(_rules(source))
    if checkpoint is not None or model is not None:
        return _read_for(rules, both_of(rules, checkpoint, model))
    names = None if keys is None else list(keys)
    read, unread = list[tuple[Any, tuple[Transform, ...]]](), list[tuple[Any, str]]()
    for rule in rules:
        try:
            read.append((rule, (read_rule(rule, names),)))
        except PatternError as error:
            unread.append((rule, error.what))
        if names is not None:
            names = list(run_one(rule, names).values())
    mapping = ConversionMapping(transform for _, transforms in read for transform in transforms)
    return RulesReading(mapping, tuple(unread), rules, _alone(rules), tuple(read))


def _read_for(rules: tuple[Any, ...], both: Both) -> RulesReading:
    mapping, found = read_whole(rules, both, _as_written)
    known = [id(rule) for rule, _ in (*found.read, *found.unread)]
    idle = tuple(rule for rule in rules if id(rule) not in known)
    said = tuple(found.read), idle, tuple(found.notes), found.findings
    return RulesReading(mapping, tuple(found.unread), rules, _alone(rules), *said)


def _alone(rules: tuple[Any, ...]) -> Callable[[str], str | None]:
    return lambda key: _run(rules, [key])[key]


def _run(given: tuple[Any, ...], keys: Iterable[str], reverse: bool = False) -> dict[str, str]:
    rules = [fresh(rule) for rule in given]
    rules = [rule.reverse_transform() for rule in reversed(rules)] if reverse else rules
    ordered = sorted(keys, key=import_module(LOADING).dot_natural_key)
    return {key: renamed(key, rules, reverse) for key in ordered}


def _as_written(rule: Any, names: Sequence[str]) -> Sequence[Transform]:
    """A renaming as the key pattern that it is on these names, below each place where its scope is found."""
    scopes = _scopes(rule, names)
    transforms = [
        _READERS[type(rule).__name__](rule, False, under) for under in scopes if type(rule).__name__ in _READERS
    ]
    if not transforms:
        raise PatternError(f"a {type(rule).__name__} is code")
    mapping = ConversionMapping(transforms)
    made = mapping.map_keys(dict.fromkeys(names), converted=False)
    for name, meant in run_one(rule, names).items():
        if made[name] != (meant,):
            raise PatternError(f"it makes {meant} of {name}, which a key pattern would not")
    return transforms


def _scopes(rule: Any, names: Sequence[str]) -> list[str]:
    """Where a rule looks, among these names: below its scope, and below the base model's prefix and its scope."""
    if rule.scope_prefix is None:
        return [""]
    places = dict.fromkeys(_joined(base, rule.scope_prefix) for base in (getattr(rule, "base_model_prefix", ""), ""))
    touched = [name for name, made in run_one(rule, names).items() if made != name]
    held = {next(place for place in places if not place or name.startswith(f"{place}.")) for name in touched}
    return [place for place in places if place in held]


def _joined(*parts: str | None) -> str:
    return ".".join(part for part in parts if part)


def _rules(source: Any) -> Sequence[Any]:
    if isinstance(source, str):
        found = existing(source)
        if found is None:
            raise TreealignError("the registry of transformers has no entry of this name", where=source)
        return found
    if isinstance(source, Mapping):
        renaming = import_module(LOADING).WeightRenaming
        return [renaming(source_patterns=old, target_patterns=new) for old, new in source.items()]
    if hasattr(source, "named_modules"):
        return list(import_module(REGISTRY).get_model_conversion_mapping(source))
    return list(source)


def read_rule(rule: Any, names: Iterable[str] | None = None) -> Transform:
    """One rule as a transform, checked on these names or else on made up ones.

    Raises
    ------
    PatternError
        It is more than a key pattern; the message says why.
    """
    kind = type(rule).__name__
    if kind not in _READERS:
        why = (
            "takes its sizes from the tensors: pass the checkpoint and the model"
            if hasattr(rule, "operations")
            else "is code"
        )
        raise PatternError(f"a {kind} {why}")
    try:
        transform = _READERS[kind](rule, names is None, rule.scope_prefix or "")
    except MappingError as error:
        raise PatternError(error.what) from error
    if names is None:
        _refuse_difference(rule, transform)
    else:
        _refuse_difference_on(rule, transform, names)
    return transform


def _prefix(rule: Any, exact: bool, under: str) -> Transform:
    place = _plain(_joined(under, rule.model_prefix)) or ""
    return PrefixChange(_plain(rule.prefix_to_add), _plain(rule.prefix_to_remove), place)


def _plain(text: str | None) -> str | None:
    return text if text is None else text.replace("\\.", ".")


def _renaming(rule: Any, exact: bool, under: str) -> Transform:
    pairs = [_pair(source, rule.target_patterns[0], exact) for source in rule.source_patterns]
    if len(pairs) > 1:
        raise PatternError("several patterns go to one: only the first could be written back")
    old, new = pairs[0]
    if not old and not new:
        raise PatternError("nothing changes")
    if not old.removeprefix("**."):
        return PrefixChange(add=new, under=under)
    return Rename(old, new, under) if new else PrefixChange(remove=old, under=under)


def _group(rule: Any, exact: bool, under: str) -> Transform:
    pairs = (_pair(*pair, exact) for pair in zip(rule.source_patterns, rule.target_patterns, strict=True))
    return Rename(dict(pairs), None, under)


_READERS = {"PrefixChange": _prefix, "WeightRenaming": _renaming, "GroupWeightRename": _group}


def _pair(source: str, target: str, exact: bool) -> tuple[str, str]:
    """Both sides as key patterns; either may be empty, which adds or removes levels."""
    anchored, body = source.startswith("^"), source.removeprefix("^")
    bounded = _END.search(body) is not None
    body = _END.sub("", body)
    after = _in_front(body, anchored, exact)
    begins, ends = body[: len(body) - len(after)], body.endswith((r"\.", "."))
    if exact and not (ends or bounded or re.search(r"[A-Za-z0-9]$", body) or not after):
        raise PatternError(f"`{source}` ends inside a segment")
    old, holes = _read(after, source)
    new = _filled(target.removeprefix("." if begins else ""), holes)
    if ends != new.endswith(".") and new:
        raise PatternError(f"`{source}` ends at a dot, and `{target}` does not")
    mark = "" if anchored else "**."
    old, new = (old.removesuffix("."), new.removesuffix("."))
    if mark and not (old and new):
        raise PatternError("a level comes or goes in the middle of names")
    return (mark + old if old else old), (mark + new if new else new)


def _in_front(body: str, anchored: bool, exact: bool) -> str:
    """What follows the mark of a segment's beginning."""
    if anchored:
        return body
    for mark in (r"\.", ".", "(?<![^.])"):
        if body.startswith(mark):
            return body.removeprefix(mark)
    if not exact:
        return body
    raise PatternError(f"`{body}` matches inside segments: nothing says where it begins")


def _read(body: str, source: str) -> tuple[str, list[str]]:
    text, holes = "", list[str]()
    for found in parts_of(body, _BODY, source):
        if found["number"] or found["choice"]:
            holes.append("{i}" if found["number"] else f"{{part:{found['choice']}}}")
        text += found["dot"] or found["text"] or holes[-1]
    if len(holes) > 1:
        raise PatternError(f"`{source}` has several groups, of which transformers carries over one")
    return text, holes


def _filled(target: str, holes: Sequence[str]) -> str:
    if (r"\1" in target) != bool(holes):
        raise PatternError("a group stands on one side only")
    return target.replace(r"\1", holes[0].split(":")[0].rstrip("}") + "}") if holes else target


def _refuse_difference(rule: Any, transform: Transform) -> None:
    mapping = ConversionMapping([transform])
    met = fresh(rule)
    for key in sorted(sample_keys(mapping), key=import_module(LOADING).dot_natural_key):
        made, meant = met.rename_source_key(key)[0], mapping.map_keys([key], converted=False)[key][0]
        inner = key.count(".") > 1 and key.split(".")[0] == "block"
        if made != meant and (inner or not _at_an_edge(rule)):
            raise PatternError(f"it makes {made} of {key}, which a key pattern would not")


def _refuse_difference_on(rule: Any, transform: Transform, names: Iterable[str]) -> None:
    mapping = ConversionMapping([transform])
    for name, made in run_one(rule, names).items():
        meant = mapping.map_keys([name], converted=False)[name][0]
        if made != meant:
            raise PatternError(f"it makes {made} of {name}, which a key pattern would not")


def _at_an_edge(rule: Any) -> bool:
    """Whether it wants a dot on its left, so that it leaves the first segment of a key alone."""
    return all(pattern.startswith((r"\.", ".")) for pattern in rule.source_patterns)
