"""Names in Python source: literals, parts of f-strings, patterns, chains of attributes, each with who reads it.

The source is parsed, never run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Set
from dataclasses import replace

from treealign.changes.references.items import in_setting
from treealign.changes.references.mentions import HOLE, Mention, Strength, with_holes
from treealign.changes.references.positions import Positions
from treealign.changes.references.python_syntax import (
    GETTERS,
    LOOPED,
    METHODS,
    NAMES,
    PATTERNS,
    TEXT,
    Use,
    chain,
    compared,
    index_text,
    is_listed,
    is_number,
    value_use,
)
from treealign.changes.references.readers import READERS
from treealign.changes.references.settings import setting_of

_WORDS = re.compile(r"[A-Za-z_]\w*")


def python_mentions(source: str, words: Set[str]) -> list[Mention]:
    """Everything in a Python file that may name a part of a tree with these words for segments.

    Raises
    ------
    SyntaxError, ValueError, RecursionError, MemoryError
        As `ast.parse` does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    extractor = _Extractor(source, words)
    extractor.visit(tree, TEXT)
    return extractor.mentions()


class _Extractor:
    def __init__(self, source: str, words: Set[str]) -> None:
        self._words = words
        self._positions = Positions(source)
        self._found: list[Mention] = []
        self._looped: set[str] = set()
        self._asked: set[str] = set()  # names that some hasattr asks for
        self._handlers: dict[type, Callable[..., None]] = {
            ast.Constant: self._constant,
            ast.JoinedStr: self._joined,
            ast.Attribute: self._attribute,
            ast.Call: self._call,
            ast.Compare: self._compare,
            ast.Assign: self._assign,
            ast.AnnAssign: self._assign,
            ast.Dict: self._dict,
            ast.List: self._several,
            ast.Tuple: self._several,
            ast.Set: self._several,
            ast.Subscript: self._subscript,
            ast.For: self._loop,
            ast.comprehension: self._loop,
            ast.Module: self._body,
            ast.ClassDef: self._body,
            ast.FunctionDef: self._body,
            ast.AsyncFunctionDef: self._body,
            ast.IfExp: self._either,
            ast.BoolOp: self._either,
            ast.BinOp: self._formatted,
            ast.Import: self._nothing,
            ast.ImportFrom: self._nothing,
            ast.GeneratorExp: self._comprehension,
            ast.ListComp: self._comprehension,
            ast.SetComp: self._comprehension,
            ast.DictComp: self._comprehension,
        }

    def mentions(self) -> list[Mention]:
        """What was found; what some code asks for before it is used is excused."""
        if not self._asked:
            return self._found
        return [self._excused(mention) for mention in self._found]

    def _excused(self, mention: Mention) -> Mention:
        asked = self._asked.intersection(mention.text.split("."))
        return replace(mention, excused=True) if asked else mention

    def visit(self, node: ast.AST, use: Use) -> None:
        handler = self._handlers.get(type(node))
        if handler is not None:
            handler(node, use)
        else:
            self._children(node)

    def _children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child, TEXT)

    def _nothing(self, node: ast.AST, use: Use) -> None:
        pass

    # -- literals

    def _constant(self, node: ast.Constant, use: Use) -> None:
        if isinstance(node.value, str) and use.reader:
            for part in node.value.split(",") if use.split and "," in node.value else [node.value]:
                self._add(node, part.strip() if use.split else part, use)

    def _joined(self, node: ast.JoinedStr, use: Use) -> None:
        pieces = [part.value if isinstance(part, ast.Constant) else HOLE for part in node.values]
        if use.reader:
            self._add(node, "".join(map(str, pieces)), use)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value, TEXT)

    def _formatted(self, node: ast.BinOp, use: Use) -> None:
        """``"layers.%d" % i`` and the sum of two texts."""
        if isinstance(node.op, ast.Add) and isinstance(node.left, ast.Constant | ast.JoinedStr):
            self._sum(node, use)
        else:
            self.visit(node.left, use)
            self.visit(node.right, use if isinstance(node.op, ast.Add | ast.BitOr) else TEXT)

    def _sum(self, node: ast.BinOp, use: Use) -> None:
        left = node.left.value if isinstance(node.left, ast.Constant) else None
        if isinstance(left, str) and left.endswith(".") and use.reader == "run":
            self._add(node.left, left + HOLE, use)
        elif isinstance(left, str) and left.endswith(".") and use.reader == "exact":
            self._add(node.left, left, Use("startswith", use.strength))
        else:
            self.visit(node.left, use)
        self.visit(node.right, use if not isinstance(node.right, ast.Constant) else TEXT)

    def _add(self, node: ast.expr, text: str, use: Use) -> None:
        told = use.strength == "consumer" or not self._words.isdisjoint(_WORDS.findall(text))
        if len(text) <= 2000 and "\n" not in text and told:
            text = text if READERS[use.reader].is_regex else with_holes(text)
            self._found.append(self._mention(node, text, use.reader, use.strength))

    def _mention(self, node: ast.expr, text: str, reader: str, strength: Strength) -> Mention:
        line, column, span = self._positions.of(node)
        return Mention(text, reader, strength, line, column, span)

    # -- attributes

    def _attribute(self, node: ast.Attribute | ast.Subscript, use: Use) -> None:
        segments, rest = chain(node)
        for part in rest:
            self.visit(part, TEXT)
        if len(segments) > 1 and not self._words.isdisjoint(segments):
            self._found.append(self._mention(node, ".".join(segments), "chain", "chain"))

    def _subscript(self, node: ast.Subscript, use: Use) -> None:
        index = node.slice
        if isinstance(index, ast.Constant | ast.JoinedStr) and not is_number(index):
            self.visit(node.value, TEXT)
            self.visit(index, Use("exact", "text"))
        else:
            self._attribute(node, use)

    # -- who reads it

    def _call(self, node: ast.Call, use: Use) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        own = self._use_of_call(node, name)
        if name == "format" and isinstance(node.func, ast.Attribute):
            self.visit(node.func.value, use)
        elif name in ("hasattr", "getattr") and len(node.args) >= 2:
            self._asked_attribute(node, name)
        else:
            self.visit(node.func, TEXT)
        for argument in node.args:
            self.visit(argument, own)
        for keyword in node.keywords:
            self._set(keyword.arg or "", keyword.value)

    def _use_of_call(self, node: ast.Call, name: str) -> Use:
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in GETTERS:
            return Use("exact", "consumer")
        if isinstance(receiver, ast.Name) and receiver.id in ("re", "regex") and name in PATTERNS:
            return Use(PATTERNS[name], self._strength(node.args[1]) if len(node.args) > 1 else "text")
        if receiver is not None and name in METHODS:
            return Use(METHODS[name], self._strength(receiver))
        if name in ("fnmatch", "fnmatchcase") and node.args:
            return Use("glob", self._strength(node.args[0]))
        return TEXT

    def _asked_attribute(self, node: ast.Call, name: str) -> None:
        """`getattr(model.tower, "part")` is a chain; with a third argument, or as `hasattr`, it only asks."""
        attribute = node.args[1]
        if isinstance(attribute, ast.Constant) and isinstance(attribute.value, str):
            if name == "hasattr" or len(node.args) > 2:
                self._asked.update(attribute.value.split("."))
            segments, _ = chain(node.args[0])
            text = ".".join([*segments, attribute.value])
            self._found.append(self._mention(attribute, text, "chain", "chain"))

    def _strength(self, node: ast.expr) -> Strength:
        """What an expression is that a literal is compared with: the names of a model, or anything."""
        while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
            node = node.func if isinstance(node, ast.Call) else node.value
        if not isinstance(node, ast.Name):
            return "text"
        return "loop" if node.id in self._looped else "maybe" if node.id in NAMES else "text"

    def _compare(self, node: ast.Compare, use: Use) -> None:
        operator, other = node.ops[0], node.comparators[0]
        if isinstance(operator, ast.In | ast.NotIn):
            strength = self._strength(other)
            reader = "exact" if strength == "text" else "contains"
            self.visit(node.left, Use(reader, strength))
            self.visit(other, Use("exact", self._strength(node.left)))
        else:
            self.visit(node.left, Use("exact", self._strength(other)))
            self.visit(other, Use("exact", self._strength(node.left)))
        for more in node.comparators[1:]:
            self.visit(more, TEXT)

    def _assign(self, node: ast.Assign | ast.AnnAssign, use: Use) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            self.visit(target, TEXT)
        last = targets[-1]
        name = last.attr if isinstance(last, ast.Attribute) else getattr(last, "id", index_text(last))
        if node.value is not None:
            self._set(name, node.value)

    def _set(self, name: str, value: ast.expr) -> None:
        """A value given to a setting, variable or argument of that name."""
        setting, first = setting_of(name), len(self._found)
        if setting is not None and isinstance(value, ast.Dict):
            self._pairs(value, Use(setting.keys, setting.strength))
        else:
            self.visit(value, value_use(value, setting) if setting else TEXT)
        self._found[first:] = in_setting(self._found[first:], f"{name}:{value.lineno}" if setting else "")

    def _dict(self, node: ast.Dict, use: Use) -> None:
        self._pairs(node, use)

    def _pairs(self, node: ast.Dict, use: Use) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.visit(key, use)
            self._set(key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else "", value)

    def _several(self, node: ast.List | ast.Tuple | ast.Set, use: Use) -> None:
        for item in node.elts:
            self.visit(item, use)

    def _either(self, node: ast.IfExp | ast.BoolOp, use: Use) -> None:
        if isinstance(node, ast.IfExp):
            self.visit(node.test, TEXT)
        for part in node.values if isinstance(node, ast.BoolOp) else (node.body, node.orelse):
            self.visit(part, use)

    # -- loops and bodies

    def _loop(self, node: ast.For | ast.comprehension, use: Use) -> None:
        if any(isinstance(n, ast.Attribute) and n.attr in LOOPED for n in ast.walk(node.iter)):
            self._looped.update(n.id for n in ast.walk(node.target) if isinstance(n, ast.Name))
        place = compared(node) if isinstance(node, ast.For) and is_listed(node.iter) else None
        self.visit(node.iter, self._use_of_compared(place) if place else use)
        for part in (*node.body, *node.orelse) if isinstance(node, ast.For) else node.ifs:
            self.visit(part, TEXT)

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp, use: Use) -> None:
        """``any(part in name for part in ["vision_model", …])``: what is listed is looked for in the name."""
        for generator in node.generators:
            place = compared(node) if is_listed(generator.iter) else None
            self.visit(generator, self._use_of_compared(place) if place else TEXT)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self.visit(part, TEXT if isinstance(node, ast.DictComp) else use)

    def _use_of_compared(self, node: ast.AST) -> Use:
        if isinstance(node, ast.Compare):
            return Use("contains", self._strength(node.comparators[0]))
        assert isinstance(node, ast.Call)
        return self._use_of_call(node, node.func.attr if isinstance(node.func, ast.Attribute) else "")

    def _body(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, use: Use) -> None:
        first = node.body[0] if node.body else None
        docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first
        for child in ast.iter_child_nodes(node):
            if child is not docstring:
                self.visit(child, TEXT)
