"""A mapping as Python functions on state dicts that need nothing but torch.

Each transform is one statement: a renaming is a regular expression and its replacement, a conversion the patterns of
its sources, the names of its targets, and an expression on the list of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from treealign.dialects.operation_code import EACH, code
from treealign.dialects.substitutions import Hole, Token, escaped, substitutions, tokens
from treealign.errors import MappingError
from treealign.formats.legible import raw_literal
from treealign.mapping.convert import Convert
from treealign.mapping.scope import Transform
from treealign.tree.patterns import Choice, KeyPattern

HELPERS = '''
def rename(state_dict, pattern, replacement):
    """The state dict with its keys renamed."""
    made = {}
    for key, tensor in state_dict.items():
        name = re.sub(pattern, replacement, key)
        if name in made:
            raise KeyError(f"two keys become {name}")
        made[name] = tensor
    return made
'''
CONVERTING = '''

def convert(state_dict, sources, count, targets, operations, by=()):
    """Groups of `count` tensors, in the order of `sources` and of the numbers in their names, become others.

    Where sizes differ from group to group, `operations` are looked up by the parts of the name that `by` lists.
    """
    made, groups = {}, {}
    for key, tensor in state_dict.items():
        found, at = next(((f, n) for n, source in enumerate(sources) if (f := re.match(source, key))), (None, 0))
        if found is None:
            made[key] = tensor
            continue
        parts = found.groupdict()
        place = (at, *(int(parts.pop(name)) for name in list(parts) if name.startswith("each_")))
        groups.setdefault(tuple(parts.items()), []).append((place, tensor))
    for parts, members in groups.items():
        names = [target.format(**dict(parts)) for target in targets]
        if len(members) != count:
            raise KeyError(f"{names[0]} is made of {count} keys, and {len(members)} are there")
        operate = operations[tuple(dict(parts)[name] for name in by)] if by else operations
        tensors = operate([tensor for _, tensor in sorted(members, key=lambda member: member[0])])
        made.update(zip(names, (tensor.contiguous() for tensor in tensors), strict=True))
    return made

'''
_REST = r"(?P<rest>(?:\..*)?)$"
_WIDTH = 108


class Statements(NamedTuple):
    """The body of a function on ``state_dict``, and whether it converts."""

    lines: tuple[str, ...]
    converts: bool


def statements(transforms: Iterable[Transform], names: Sequence[str], sampled: bool = False) -> Statements:
    """One statement for each transform.

    Parameters
    ----------
    transforms : iterable of Transform
        In order; those that touch nothing left out.
    names : sequence of str
        The keys that they work on.
    sampled : bool
        Those are made up.

    Raises
    ------
    MappingError
        Something cannot be written so.
    """
    lines, converts = list[str](), False
    for transform in transforms:
        if isinstance(transform, Convert):
            lines += _conversion(transform, () if sampled else names)
            converts = True
        else:
            pairs = substitutions(transform, () if sampled else names)
            lines += [_renaming(*pair) for pair in pairs]
        names = list(dict.fromkeys(made for name in names for made in transform.map_key(name) or (name,)))
    return Statements(tuple(lines), converts)


def source_names(lines: Statements) -> str:
    """The helpers that the statements need."""
    return HELPERS + (f"{CONVERTING}{EACH}" if lines.converts else "")


def _renaming(pattern: str, replacement: str) -> str:
    return f"state_dict = rename(state_dict, {raw_literal(pattern)}, {raw_literal(replacement)})"


# -- conversions -------------------------------------------------------------------------------------------------------


def _conversion(convert: Convert, names: Sequence[str]) -> list[str]:
    sources = [text for pattern in convert._patterns[0] for text in _source(convert, pattern)]
    count = sum(map(convert._member_count, convert._patterns[0]))
    targets = [_target(convert, pattern) for pattern in convert._patterns[1]]
    if convert.counts:
        raise MappingError("groups of different sizes are not written as code", facts=[repr(convert)])
    by = sorted({name for operation in convert.operations for name in operation.capture_names})
    operations = _by_group(convert, by, names) if by else [f"    lambda t: {code(convert.operations, 't')},"]
    return [
        "state_dict = convert(",
        "    state_dict,",
        *_listed([*map(raw_literal, sources)]),
        f"    {count},",
        *_listed(targets),
        *operations,
        ")",
    ]


def _by_group(convert: Convert, by: Sequence[str], names: Sequence[str]) -> list[str]:
    """Operations whose sizes depend on captures, for each of the groups that are there."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for group in filter(None, map(convert.group, names)):
        operations = tuple(operation.resolve(group.captures) for operation in convert.operations)
        found.setdefault(code(operations, "t"), {})[tuple(group.captures[name] for name in by)] = None
    if not found:
        hint = "pass the checkpoint, whose keys say which groups there are"
        raise MappingError("sizes differ from group to group", facts=[repr(convert)], hint=hint)
    cases = [f"        **dict.fromkeys({list(keys)}, lambda t: {text})," for text, keys in found.items()]
    return ["    {", *cases, "    },", f"    {list(by)},"]


def _listed(items: Sequence[str]) -> list[str]:
    line = f"    [{', '.join(items)}],"
    return [line] if len(line) <= _WIDTH else ["    [", *(f"        {item}," for item in items), "    ],"]


def _parts(convert: Convert, pattern: KeyPattern) -> list[Token]:
    if any(getattr(capture, "shift", 0) for capture in pattern.captures.values()):
        raise MappingError("a shifted index in a conversion is not written as code", facts=[repr(convert)])
    scope = [] if convert.scope is None else [*tokens(convert.scope, "above"), "."]
    return [*scope, *tokens(pattern, "front")]


def _source(convert: Convert, pattern: KeyPattern) -> list[str]:
    """Regular expressions; one for each way to take choices that only the sources have."""
    lone = {name: limit for name, limit in convert._lone.items() if name in pattern.captures}
    choices = {name: limit.options for name, limit in lone.items() if isinstance(limit, Choice)}
    if choices and len(choices) < len(lone) and list(lone)[: len(choices)] != list(choices):
        raise MappingError("a choice that runs within an index is not written as code", facts=[repr(convert)])
    made = []
    for options in product(*choices.values()):
        chosen = dict(zip(choices, options, strict=True))
        parts = [
            chosen.get(part.name, Hole(f"each_{part.name}" if part.name in lone else part.name, part.regex))
            if isinstance(part, Hole)
            else part
            for part in _parts(convert, pattern)
        ]
        text = "".join(f"(?P<{p.name}>{p.regex})" if isinstance(p, Hole) else escaped(p) for p in parts)
        made.append(f"^{text}{'$' if pattern.at_end else _REST}")
    return made


def _target(convert: Convert, pattern: KeyPattern) -> str:
    """A template of names; several where captures that only the targets have run."""
    lone = [name for name in pattern.captures if name in convert._lone]
    text = "".join(
        f"{{{part.name}}}" if isinstance(part, Hole) else part.replace("{", "{{").replace("}", "}}")
        for part in _parts(convert, pattern)
    )
    text += "" if pattern.at_end else "{rest}"
    if not lone:
        return f'"{text}"'
    loops = " ".join(f"for {name} in {_range(convert, name)}" for name in lone)
    # the captures that run are filled by the loop, the others when the names of a group are known
    inner = re.sub(r"\{(\w+)\}", lambda hit: hit[0] if hit[1] in lone else f"{{{hit[0]}}}", text)
    return f'*(f"{inner}" {loops})'


def _range(convert: Convert, name: str) -> str:
    limit = convert._lone[name]
    if isinstance(limit, Choice):
        return repr(limit.options)
    return f"range({limit.low}, {(limit.high or 0) + 1})"
