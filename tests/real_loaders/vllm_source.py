"""vLLM's own `WeightsMapper`, and those of its models, out of the sources of an unpacked release.

Importing vLLM whole takes compiled kernels and a hundred packages. So its class is compiled from its own source file,
and of each module of a model only what the mappers are made of: assignments, classes, and what they import of each
other. What a mapper needs beyond that (a configuration, at run time) cannot be had, and is counted.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(os.environ.get("TREEALIGN_VLLM", "/nonexistent"))
ATTRIBUTE = "hf_to_vllm_mapper"
BUILTINS = {"dict": dict, "range": range, "str": str}
_UTILS = "vllm.model_executor.models.utils"


class NotHereError(Exception):
    """Something that needs more of vLLM than its sources say."""


@cache
def weights_mapper() -> type:
    """The real class."""
    tree = _tree(_UTILS)
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "WeightsMapper")
    future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    module = ast.fix_missing_locations(ast.Module([future, node], []))
    scope = {"dataclass": dataclass, "field": field, "replace": replace, "Mapping": Mapping, "re": _regex()}
    exec(compile(module, str(ROOT / "utils.py"), "exec"), scope)
    return scope["WeightsMapper"]


def _regex() -> Any:
    try:
        import regex
    except ImportError:
        return re
    return regex


class Found(NamedTuple):
    """The mapper of a class, or the reason why it is not known without running vLLM."""

    module: str
    name: str
    mapper: Any
    reason: str


def mappers() -> Iterator[Found]:
    """Each class whose body sets the attribute to a mapper."""
    for path in sorted((ROOT / "vllm").rglob("*.py")):
        if ATTRIBUTE not in path.read_text():
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.ClassDef) and (value := _assigned(node.body, ATTRIBUTE)) is not None:
                try:
                    mapper = Module(module).value(value)
                except NotHereError as error:
                    yield Found(module, node.name, None, str(error))
                    continue
                if mapper is not None:
                    yield Found(module, node.name, mapper, "")


def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        raise NotHereError(f"{module} is not part of vLLM's sources")
    return _parsed(file)


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and getattr(target, "id", "") == name:
            return node.value
    return None


class Module(dict):
    """The names of a module, each made when it is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def value(self, expression: ast.expr) -> Any:
        code, known = compile(ast.Expression(expression), self.name, "eval"), {"re": _regex()}
        try:
            return eval(code, {"__builtins__": BUILTINS, **known}, self)
        except (TypeError, AttributeError, KeyError, NameError) as error:
            raise NotHereError(f"{type(error).__name__}: {error}") from error

    def __missing__(self, name: str) -> Any:
        if name in ("re", "regex", "WeightsMapper"):
            return weights_mapper() if name == "WeightsMapper" else _regex()
        if name in BUILTINS:
            raise KeyError(name)
        body = _tree(self.name).body
        value = _assigned(body, name)
        if value is not None:
            return self.value(value)
        for node in ast.walk(_tree(self.name)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Class(self, node)
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self._imported(node, alias.name)
        raise NotHereError(f"{name} is made at run time")

    def _imported(self, node: ast.ImportFrom, name: str) -> Any:
        package = self.name.split(".")[: -node.level] if node.level else []
        module = ".".join([*package, *([node.module] if node.module else [])])
        if module.split(".")[0] in ("transformers", "dataclasses"):
            return getattr(__import__(module, fromlist=[name]), name)
        return Module(module)[name]


class Class:
    """A class of which only attributes are asked for, its own or those of its bases."""

    def __init__(self, module: Module, node: ast.ClassDef) -> None:
        self._module, self._node = module, node

    def __getattr__(self, name: str) -> Any:
        value = _assigned(self._node.body, name)
        if value is not None:
            return self._module.value(value)
        for base in self._node.bases:
            try:
                return getattr(self._module.value(base), name)
            except (NotHereError, AttributeError):
                continue
        raise NotHereError(f"{self._node.name}.{name} is made at run time")
