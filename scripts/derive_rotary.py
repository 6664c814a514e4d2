"""Check, by transformers' source, that whatever turns rows by position has a module that says so.

    python scripts/derive_rotary.py [MODELS]

`align/doubting/rotary.py` takes a tower of the model without such a module (a class or a name with `rotary` or `rope`
in it) for one that turns nothing, where it has a table of positions. MODELS is a folder of `modeling_*.py`, by default
that of the transformers installed. Of each attention class its methods are read: one turns rows where it calls, or
hands on to a function of its file that calls, what is named after rotary embeddings or rotates. Prints the classes
that turn rows in files without any such module, and exits 1 where the table (``turning without a module``) lacks one.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from treealign.align.knowledge.entries import table
from treealign.align.words import split_words


def is_rotary(name: str) -> bool:
    """Whether a class or a module is named after rotary embeddings, as `align/doubting/rotary.py` reads names."""
    return any(word.startswith(("rotar", "rope")) for word in split_words(name))


def turns(name: str) -> bool:
    """Whether a function is named after what it turns."""
    return (is_rotary(name) or "rotate" in name) and not {"index", "compute", "parameters"} & set(name.split("_"))


def called(node: ast.AST) -> Iterator[str]:
    """The names of what is called anywhere below a node."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            function = part.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def turning(tree: ast.Module) -> list[str]:
    """The classes of a file whose methods turn rows themselves, or by a function of the file that does."""
    functions = {node.name: set(called(node)) for node in tree.body if isinstance(node, ast.FunctionDef)}
    direct = {name for name, calls in functions.items() if any(map(turns, calls))} | set(filter(turns, functions))
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(turns(name) or name in direct for name in called(node)):
            found.append(node.name)
    return found


def has_module(tree: ast.Module) -> bool:
    """Whether any class makes a module, be it on a condition, whose class or name says that it turns rows."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = [target.attr for target in targets if isinstance(target, ast.Attribute)]
        made = [name for name in called(node.value) if name[:1].isupper() or ("_" not in name and name[1:2].isupper())]
        if named and made and any(map(is_rotary, [*named, *made])):
            return True
    return False


def main() -> int:
    """Read all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="?", type=Path)
    models = parser.parse_args().models
    if models is None:
        spec = importlib.util.find_spec("transformers")
        assert spec is not None
        models = Path(str(spec.origin)).parent / "models"
    found: set[str] = set()
    files = sorted(models.rglob("modeling_*.py"))
    for path in files:
        if path.stem.startswith(("modeling_flax", "modeling_tf")):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        alone = turning(tree) if not has_module(tree) else []
        found.update(alone)
        if alone:
            print(f"{path.stem}: {' '.join(alone)}")
    print(f"{len(files)} files, {len(found)} classes that turn rows without a module of that name")
    return not found <= set(table()["turning without a module"]["classes"])


if __name__ == "__main__":
    sys.exit(main())
