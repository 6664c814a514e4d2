"""The house: floors import downward only, modules and functions stay small, the public names are these."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import treealign

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "treealign"
FLOORS = (
    *("errors", "shown", "formats", "tree", "mapping", "align", "synthesize", "checkpoint", "values", "run"),
    *("suggestion", "loading", "proof", "changes", "dialects", "cli"),
)
MODULES = sorted(PACKAGE.rglob("*.py"))
SECONDS = ("torch", "transformers", "scipy")  # what takes seconds to import
HEAVY = (*SECONDS, "numpy", "rapidfuzz", "networkx", "safetensors", "rich")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int | None:
    parts = module.split(".")
    return FLOORS.index(parts[1]) if len(parts) > 1 and parts[0] == "treealign" and parts[1] in FLOORS else None


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions and under TYPE_CHECKING too."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and is_module(node.value):
            yield node.lineno, node.value  # what is imported by its name at run time


def is_module(value: object) -> bool:
    """Whether a constant names a module; formats of files have such names, too."""
    named = isinstance(value, str) and re.fullmatch(r"treealign(\.\w+)+", value)
    return bool(named) and (ROOT / value.replace(".", "/")).with_suffix(".py").is_file()


def upward(path: Path) -> list[str]:
    here = floor_of(module_name(path))
    found = ((line, name, floor_of(name)) for line, name in imports(path, ast.parse(path.read_text())))
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name, floor in found
        if here is not None and floor is not None and floor > here
    ]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines without the docstring) of every function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            lines = node.end_lineno - node.lineno + 1
            yield node.name, lines - (docstring.end_lineno - docstring.lineno + 1 if docstring else 0)


def test_every_module_stands_on_a_floor():
    assert [p.name for p in MODULES if p.parent == PACKAGE and p.stem not in (*FLOORS, "__init__", "__main__")] == []
    assert [p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name not in (*FLOORS, "__pycache__")] == []


def test_no_module_imports_from_a_higher_floor():
    assert [finding for path in MODULES for finding in upward(path)] == []


def picture() -> list[str]:
    """A line for each floor: a dot for each floor below that it imports from, in the order of the lines."""
    below = {floor: set[int]() for floor in FLOORS}
    for path in MODULES:
        here = floor_of(module_name(path))
        if here is not None:
            found = {floor_of(name) for _, name in imports(path, ast.parse(path.read_text()))}
            below[FLOORS[here]] |= found - {None, here}
    rows = ("".join("●" if at in below[floor] else "·" for at in range(n)) for n, floor in enumerate(FLOORS))
    return [f"    {floor:<12}{' '.join(row)}".rstrip() for floor, row in zip(FLOORS, rows, strict=True)]


def test_every_file_that_a_page_names_is_there():
    """By its path from the root, by a link, or as what to run."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md")]
    pages += [page for room in ("treealign", "data", "scripts", "tests") for page in (ROOT / room).rglob("*.md")]
    missing = []
    for page in pages:
        text = page.read_text()
        named = re.findall(r"`((?:treealign|tests|scripts|data)/[\w./-]+)`", text)
        named += re.findall(r"(?:python|pytest) ((?:scripts|tests)/[\w./]+)", text)
        places = [ROOT / place for place in named]
        places += [page.parent / place for place in re.findall(r"\]\(([\w./-]+)\)", text)]
        missing += [f"{page.relative_to(ROOT)}: {place.name}" for place in places if not place.exists()]
    assert missing == []


def test_the_picture_of_imports_is_true():
    assert "\n".join(picture()) in (PACKAGE / "README.md").read_text()


def test_an_upward_import_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    low = tmp_path / "treealign" / "tree" / "low.py"
    low.parent.mkdir(parents=True)
    (tmp_path / "treealign" / "suggestion.py").touch()
    low.write_text(
        "def f():\n    from ..align import match\n    import treealign.errors\n    from treealign import cli\n"
        "    import_module('treealign.suggestion')\n"
    )
    assert upward(low) == [
        "treealign/tree/low.py:2 imports treealign.align.match",
        "treealign/tree/low.py:4 imports treealign.cli",
        "treealign/tree/low.py:5 imports treealign.suggestion",
    ]


def test_slow_imports_are_inside_functions_below_the_checkpoint_floor():
    found = []
    for path in MODULES:
        top = ast.Module(
            [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)], []
        )
        found += [
            f"{path.relative_to(ROOT)}:{at} {name}" for at, name in imports(path, top) if name.split(".")[0] in SECONDS
        ]
    assert [line for line in found if not re.search("/(checkpoint|values|run|execution)/", line)] == []


def test_what_one_script_takes_from_another_is_there():
    """The scripts that need a disk of their own, a network or hours are run by no test."""
    missing = []
    for path in sorted((ROOT / "scripts").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            source = path.with_name(f"{node.module}.py") if isinstance(node, ast.ImportFrom) else path
            if source != path and source.exists():
                names = {word for line in defining(source) for word in re.findall(r"\w+", line)}
                missing += [f"{path.name}: {name.name}" for name in node.names if name.name not in names]
    assert missing == []


def defining(path: Path) -> list[str]:
    """The lines of a file that define its names: of functions, classes and values."""
    return re.findall(r"^(?:def \w+|class \w+|[A-Za-z_][\w, ]*(?=[:=]| =))", path.read_text(), re.M)


def test_importing_treealign_imports_nothing_heavy():
    code = f"import sys, treealign; print(*(m for m in {HEAVY} if m in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


def test_nothing_that_is_computed_once_holds_a_lock_meanwhile():
    """See `treealign.formats.cached`."""
    held = "from functools import cached_property", "functools.cached_property(", "@functools.cached_property"
    assert [p.name for p in MODULES if any(text in p.read_text() for text in held)] == []


def test_no_module_is_longer_than_300_lines():
    assert [p.name for p in MODULES if len(p.read_text().splitlines()) > 300] == []


def test_functions_are_small():
    sizes = sorted((lines, f"{p.name}:{name}") for p in MODULES for name, lines in functions(p))
    assert [at for at in sizes if at[0] > 60] == []
    assert sizes[len(sizes) * 9 // 10][0] < 30
    assert sizes[len(sizes) // 2][0] <= 8


def test_nothing_of_the_aligner_is_keyed_by_where_it_lies_in_memory():
    """Patterns and links have numbers, so that equal work is done in every process."""
    found = [
        f"{path.name}:{node.lineno}"
        for room in ("align", "synthesize")
        for path in (PACKAGE / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "id"
    ]
    assert found == []


def test_one_module_alone_makes_a_match_open_or_certain():
    """Nowhere else is `certain` given to a link, or to a copy of one, by name or by place."""
    found = []
    for path in (path for path in MODULES if path.name != "verdict.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("replace", "Link"):
                given = [*(keyword.arg for keyword in node.keywords), *(["certain"] if len(node.args) > 4 else [])]
                found += [f"{path.name}:{node.lineno}"] if "certain" in given else []
    assert found == []


def test_strings_are_compared_by_one_library():
    """`rapidfuzz` says how alike two names are; what else compares texts writes the difference of two files."""
    found = [path.name for path in MODULES if re.search("get_close_matches|SequenceMatcher", path.read_text())]
    assert found == []


def test_no_module_bears_the_name_of_a_public_function():
    names = set(treealign.__all__) - {"operations"}
    assert [p.stem for p in MODULES if p.stem in names] == []


def test_the_public_names_are_these():
    assert treealign.__all__ == [
        *("Ambiguity", "Attachment", "Audit", "Change", "ConversionMapping", "ConversionResult", "Convert", "KeyTree"),
        *(
            "LoadResult",
            "Match",
            "Mismatch",
            "OpenQuestionsWarning",
            "Option",
            "PrefixChange",
            "Proof",
            "Question",
            "Reference",
            "Rename",
            "SaveResult",
            "Suggestion",
        ),
        *("TreealignError", "attach", "audit", "convert_checkpoint", "emit", "load", "operations", "prove"),
        *("read_tree", "record", "save", "suggest", "verify"),
    ]


@pytest.mark.parametrize("name", treealign.__all__)
def test_each_public_name_can_be_imported(name):
    assert getattr(treealign, name) is not None


def test_type_checkers_see_each_public_name_where_it_is_imported_from():
    """The block under TYPE_CHECKING and the table of the lazy import say the same."""
    module = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("treealign.")
        for alias in node.names
    }
    assert seen == treealign._HOME
    assert sorted(seen) == treealign.__all__


def test_each_verb_and_each_option_is_documented():
    from treealign.cli.verbs import app

    readme, options = (ROOT / "README.md").read_text(), (PACKAGE / "cli" / "README.md").read_text()
    verbs = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert [verb for verb in verbs if f"`treealign {verb} " not in readme] == []
    written = {word for verb in verbs for word in re.findall(r"--[a-z-]+", help_of(verb))} - {"--help"}
    assert [option for option in sorted(written) if option not in options] == []


def help_of(verb: str) -> str:
    return subprocess.check_output([sys.executable, "-m", "treealign.cli", verb, "--help"], text=True)


def test_no_committed_file_names_a_registry_host_or_a_machine_path():
    texts = {p: p.read_text() for p in committed() if p.suffix in (".py", ".md", ".toml", ".json", ".sh", "")}
    hosts = re.compile(r"pypi\.org|pythonhosted|download\.pytorch|anaconda\.org|/work/|/root/|/opt/venv")
    here = Path(__file__)
    assert [p.name for p, text in texts.items() if p != here and hosts.search(text)] == []


def committed() -> list[Path]:
    names = subprocess.check_output(["git", "-C", ROOT, "ls-files"], text=True).splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]
