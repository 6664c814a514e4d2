"""A compatibility shim: Python source that gives a model its old attribute paths back, with a warning.

It keeps to attributes: state dicts, parameters and modules of the model stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from treealign.changes.translation import Translation, modules_of
from treealign.errors import TreealignError

SHOWN = 20
_INDEX = re.compile(r"(?<=\.)[0-9]+(?=\.|$)")


class Alias(NamedTuple):
    """The attribute `name` of the module at `owner`, both names of the new tree, leads to `target`.

    An empty target is a level that holds aliases only; an owner that begins with ``@`` is such a level.
    """

    owner: str
    name: str
    target: str


_HEAD = '''"""Old attribute paths of {model}, with a warning; `install(model)` once a model is made.

Written by treealign audit.
"""

import re
import types
import warnings

from torch import nn

# (module, attribute that it had, where that is): a star stands for the same index on both sides; a module that begins
# with @ is a level that is gone and holds such attributes only
ALIASES = [
'''
_CODE = ''']


class _Level(nn.Module):
    """A level that is gone: what stood below it can be reached through it."""


def install(model):
    """Give `model`, the whole of it, its old attributes back; its parameters and state dict stay as they are."""
    modules = dict(model.named_modules(remove_duplicate=False))
    levels = {owner: _Level() for owner, _, _ in ALIASES if owner.startswith("@")}
    for owner, name, target in ALIASES:
        for path, there in _places(owner, target, modules, levels):
            _add(modules[path] if path in modules else levels[path], name, there, model, levels)
    return model


def _places(owner, target, modules, levels):
    if "*" not in owner:
        return [(owner, target)] if owner in modules or owner in levels else []
    pattern = re.compile(re.escape(owner).replace(r"\\*", r"(\\d+)"))
    found = (pattern.fullmatch(path) for path in modules)
    return [(match.string, _filled(target, match.groups())) for match in found if match]


def _filled(target, indices):
    for index in indices:
        target = target.replace("*", index, 1)
    return target


def _add(owner, name, target, model, levels):
    advice = "what stood below it has moved" if target in levels else f"use `{target}`"

    def old(self):
        warnings.warn(f"`{name}` is gone: {advice}", DeprecationWarning, stacklevel=2)
        return levels[target] if target in levels else _at(model, target)

    kind = type(owner)
    if "_treealign_old" not in vars(kind):
        # a class of its own, under the name that it had: a property of the shared class would be one of every model
        kind = types.new_class(kind.__name__, (kind,), exec_body=lambda body: body.update(_treealign_old=True))
        kind.__module__, kind.__qualname__ = type(owner).__module__, type(owner).__qualname__
        owner.__class__ = kind
    setattr(kind, name, property(old))


def _at(model, path):
    for name in path.split(".") if path else []:
        model = getattr(model, name)
    return model
'''


def shim_source(translation: Translation) -> str:
    """The source of the shim, which needs nothing but torch and the model; empty where no attribute is gone.

    Raises
    ------
    TreealignError
        Some of the new names are guessed.
    """
    if translation.guessed:
        facts = [f"{key} -> {', '.join(translation.pairs[key])}" for key in sorted(translation.guessed)[:SHOWN]]
        way_out = "answer what `treealign suggest OLD NEW` asks, by --hint, or take the guesses by --accept-guesses"
        raise TreealignError("new names are guessed; no shim was written", facts=facts, hint=way_out)
    rows = [f"    {tuple(alias)!r}," for alias in aliases(translation)]
    model = translation.source.modules.get("", "the model")
    return "\n".join([_HEAD.format(model=model) + "\n".join(rows), _CODE.lstrip("\n")]) if rows else ""


def aliases(translation: Translation) -> list[Alias]:
    """The attributes that are gone, those of repeats folded where the index stays the same."""
    found = {_starred(alias): None for alias in _below("", "", _children(translation), translation)}
    return list(found)


def _children(translation: Translation) -> dict[str, list[str]]:
    """The names that the old tree has right below each of its modules, leaves included."""
    found: dict[str, list[str]] = {}
    for name in [*sorted(modules_of(translation.source)), *translation.source.keys]:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def _below(module: str, place: str, children: dict[str, list[str]], translation: Translation) -> Iterator[Alias]:
    """What is gone below an old module whose attributes are looked up at `place`."""
    for child in children.get(module, ()):
        name = child.rpartition(".")[2]
        there = translation.of(child)
        natural = f"{place}.{name}" if place else name
        if len(there) == 1 and (child not in translation.pairs or len(translation.back[there[0]]) == 1):
            if there[0] != natural and not name.isdigit() and not _exists(natural, translation):
                yield Alias(place, name, there[0])
            yield from _below(child, there[0], children, translation)
        elif child in children:
            yield from _level(child, place, natural, children, translation)


def _level(
    child: str, place: str, natural: str, children: dict[str, list[str]], translation: Translation
) -> Iterator[Alias]:
    """A module that was taken apart: where nothing bears its name, a level for what stood below it."""
    if _exists(natural, translation):
        yield from _below(child, natural, children, translation)
        return
    level = f"@{child}"
    inner = list(_below(child, level, children, translation))
    if inner:
        yield Alias(place, child.rpartition(".")[2], level)
        yield from inner


def _exists(name: str, translation: Translation) -> bool:
    return name in translation.target_modules or name in translation.target


def _starred(alias: Alias) -> Alias:
    indices = _INDEX.findall(alias.owner)
    if alias.owner.startswith("@") or not indices or _INDEX.findall(alias.target) != indices or alias.name.isdigit():
        return alias
    return Alias(_INDEX.sub("*", alias.owner), alias.name, _INDEX.sub("*", alias.target))
