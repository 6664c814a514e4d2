"""From transformers: a registry entry, a live list or a `key_mapping` as a conversion mapping.

A renaming is read as it is written where its regular expression is a key pattern. Whatever is more than that (it
matches inside segments, looks around, converts without sizes) is reported with the reason, and can still be run on keys
by the code of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from treealign.dialects.transformers.calls import LOADING
from treealign.dialects.transformers.entries import existing
from treealign.dialects.transformers.sides import sample_keys
from treealign.errors import MappingError, PatternError, TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename

_BODY = re.compile(r"\((?P<number>\\d\+)\)|\((?P<choice>[\w|-]+\|[\w|-]+)\)|\\?(?P<dot>\.)|(?P<text>[\w-]+)", re.ASCII)
_END = re.compile(r"(?:\(\?!\[\^\.\]\)|\(\?=\\\.\|\$\))$")


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes
    ----------
    mapping : ConversionMapping
        The rules that are key patterns, in order.
    unread : tuple of (rule, reason)
        Those that are not, with the reason; `run` runs them all the same.
    rules : tuple
        All rules, as objects of transformers.
    """

    mapping: ConversionMapping
    unread: tuple[tuple[Any, str], ...]
    rules: tuple[Any, ...]

    def run(self, keys: Iterable[str], reverse: bool = False) -> dict[str, str]:
        """What all rules make of keys, by the code of transformers; of a conversion the first name.

        They are copied first, and meet the keys in the order in which transformers loads them.
        """
        loading = import_module(LOADING)
        rules = [_fresh(rule) for rule in self.rules]
        if reverse:
            rules = [rule.reverse_transform() for rule in reversed(rules)]
        renamings = [rule for rule in rules if isinstance(rule, loading.WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, loading.WeightConverter)]
        ordered = sorted(keys, key=loading.dot_natural_key)
        return {key: loading.rename_source_key(key, renamings, converters, reverse=reverse)[0] for key in ordered}


def _fresh(rule: Any) -> Any:
    """The rule as it was before it met a key."""
    return rule.reverse_transform().reverse_transform()


def read_rules(source: Any, keys: Iterable[str] | None = None) -> Reading:
    """Read rules of transformers.

    Parameters
    ----------
    source : str, dict or list
        A model type or class name of the registry, a ``key_mapping``, or rules.
    keys : iterable of str, optional
        Keys of a checkpoint. A pattern that could match inside segments is then read as one of whole segments where
        that makes no difference to them.

    Raises
    ------
    TreealignError
        The registry has no such entry.
    """
    rules, names = tuple(_rules(source)), None if keys is None else list(keys)
    transforms, unread = list[Transform](), list[tuple[Any, str]]()
    for rule in rules:
        try:
            transforms.append(read_rule(rule, names))
        except PatternError as error:
            unread.append((rule, error.what))
        if names is not None:
            names = list(_run_one(rule, names).values())
    return Reading(ConversionMapping(transforms), tuple(unread), rules)


def _run_one(rule: Any, names: Iterable[str]) -> dict[str, str]:
    fresh, order = _fresh(rule), import_module(LOADING).dot_natural_key
    return {name: fresh.rename_source_key(name)[0] for name in sorted(names, key=order)}


def _rules(source: Any) -> Sequence[Any]:
    if isinstance(source, str):
        found = existing(source)
        if found is None:
            raise TreealignError("the registry of transformers has no entry of this name", where=source)
        return found
    if isinstance(source, Mapping):
        renaming = import_module(LOADING).WeightRenaming
        return [renaming(source_patterns=old, target_patterns=new) for old, new in source.items()]
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
        why = "converts, and takes its sizes from the tensors" if hasattr(rule, "operations") else "is code"
        raise PatternError(f"a {kind} {why}")
    try:
        transform = _READERS[kind](rule, names is None)
    except MappingError as error:
        raise PatternError(error.what) from error
    if names is None:
        _refuse_difference(rule, transform)
    else:
        _refuse_difference_on(rule, transform, names)
    return transform


def _prefix(rule: Any, exact: bool) -> Transform:
    under = ".".join(part for part in (rule.scope_prefix, rule.model_prefix) if part)
    return PrefixChange(_plain(rule.prefix_to_add), _plain(rule.prefix_to_remove), _plain(under) or "")


def _plain(text: str | None) -> str | None:
    return text if text is None else text.replace("\\.", ".")


def _renaming(rule: Any, exact: bool) -> Transform:
    pairs = [_pair(source, rule.target_patterns[0], exact) for source in rule.source_patterns]
    if len(pairs) > 1:
        raise PatternError("several patterns go to one: only the first could be written back")
    (old, new), under = pairs[0], rule.scope_prefix or ""
    if not old and not new:
        raise PatternError("nothing changes")
    if not old.removeprefix("**."):
        return PrefixChange(add=new, under=under)
    return Rename(old, new, under) if new else PrefixChange(remove=old, under=under)


def _group(rule: Any, exact: bool) -> Transform:
    pairs = (_pair(*pair, exact) for pair in zip(rule.source_patterns, rule.target_patterns, strict=True))
    return Rename(dict(pairs), None, rule.scope_prefix or "")


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
    text, at, holes = "", 0, list[str]()
    while at < len(body):
        found = _BODY.match(body, at)
        if not found:
            raise PatternError(f"`{source}` is a regular expression beyond key patterns at `{body[at:]}`")
        if found["number"] or found["choice"]:
            hole = "{i}" if found["number"] else f"{{part:{found['choice']}}}"
            holes.append(hole)
            text += hole
        else:
            text += found["dot"] or found["text"]
        at = found.end()
    if len(holes) > 1:
        raise PatternError(f"`{source}` has several groups, of which transformers carries over one")
    return text, holes


def _filled(target: str, holes: Sequence[str]) -> str:
    if (r"\1" in target) != bool(holes):
        raise PatternError("a group stands on one side only")
    return target.replace(r"\1", holes[0].split(":")[0].rstrip("}") + "}") if holes else target


def _refuse_difference(rule: Any, transform: Transform) -> None:
    mapping = ConversionMapping([transform])
    fresh = _fresh(rule)
    for key in sorted(sample_keys(mapping), key=import_module(LOADING).dot_natural_key):
        made, meant = fresh.rename_source_key(key)[0], mapping.map_keys([key], converted=False)[key][0]
        inner = key.count(".") > 1 and key.split(".")[0] == "block"
        if made != meant and (inner or not _at_an_edge(rule)):
            raise PatternError(f"it makes {made} of {key}, which a key pattern would not")


def _refuse_difference_on(rule: Any, transform: Transform, names: Iterable[str]) -> None:
    mapping = ConversionMapping([transform])
    for name, made in _run_one(rule, names).items():
        meant = mapping.map_keys([name], converted=False)[name][0]
        if made != meant:
            raise PatternError(f"it makes {made} of {name}, which a key pattern would not")


def _at_an_edge(rule: Any) -> bool:
    """Whether it wants a dot on its left, so that it leaves the first segment of a key alone."""
    return all(pattern.startswith((r"\.", ".")) for pattern in rule.source_patterns)
