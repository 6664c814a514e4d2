"""What an expression of Python is to whoever looks for names in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from treealign.changes.references.mentions import HOLE, Strength
from treealign.changes.references.settings import Setting

LOOPED = ("named_parameters", "named_modules", "named_children", "named_buffers", "state_dict", "keys")
NAMES = ("name", "n", "key", "k", "param_name", "module_name", "full_name", "parameter_name", "pname", "layer_name")
METHODS = {
    "startswith": "startswith",
    "endswith": "endswith",
    "removeprefix": "startswith",
    "removesuffix": "endswith",
}
METHODS |= {"replace": "contains", "count": "contains", "find": "contains"}
PATTERNS = {"match": "match", "fullmatch": "fullmatch", "search": "search", "compile": "search", "sub": "search"}
PATTERNS |= {"findall": "search", "finditer": "search"}
GETTERS = (
    *("get_submodule", "get_parameter", "get_buffer", "set_submodule", "set_module_tensor_to_device"),
    *("get_module_by_name", "rgetattr", "attrgetter", "get_nested_attr"),
)


class Use(NamedTuple):
    """Who reads the literals of an expression; `split` as in `Setting`."""

    reader: str
    strength: Strength
    split: bool = False


TEXT = Use("run", "text")


def value_use(value: ast.expr, setting: Setting) -> Use:
    """Who reads a value that is given to a setting."""
    single = isinstance(value, ast.Constant | ast.JoinedStr)
    return Use(setting.text if single else setting.items, setting.strength, setting.split)


def is_number(node: ast.AST) -> bool:
    """Whether a subscript is a plain number."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def index_text(node: ast.AST) -> str:
    """The key of ``config["target_modules"] = …``."""
    index = node.slice if isinstance(node, ast.Subscript) else None
    return index.value if isinstance(index, ast.Constant) and isinstance(index.value, str) else ""


def is_listed(node: ast.expr) -> bool:
    """Whether a loop runs over what is written out."""
    return isinstance(node, ast.List | ast.Tuple | ast.Set)


def compared(loop: ast.AST) -> ast.AST | None:
    """What the variable of a loop over literals is used in: ``part in name``, ``name.startswith(part)``."""
    targets = loop.target if isinstance(loop, ast.For) else loop.generators[-1].target  # type: ignore[attr-defined]
    name = getattr(targets, "id", None)
    for node in ast.walk(loop):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn) and _is(node.left, name):
            return node
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in METHODS and _any_is(node.args, name):
            return node
    return None


def _is(node: ast.AST, name: str | None) -> bool:
    return name is not None and isinstance(node, ast.Name) and node.id == name


def _any_is(nodes: Iterable[ast.AST], name: str | None) -> bool:
    return any(_is(node, name) for node in nodes)


def chain(node: ast.expr) -> tuple[list[str], list[ast.expr]]:
    """The segments of ``model.layers[0].mlp``, a hole for an index that is not known; and what is left to look at."""
    segments: list[str] = []
    rest: list[ast.expr] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            segments.append(node.attr)
        else:
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                break  # an entry of a dict, not of a list of modules
            known = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
            segments.append(str(node.slice.value) if known else HOLE)  # type: ignore[attr-defined]
            rest += [] if known else [node.slice]
        node = node.value
    if isinstance(node, ast.Name):
        segments.append(node.id)
    else:
        rest.append(node)
    return segments[::-1], rest
