"""A wheel and an sdist, each in an environment with nothing else of ours, give a working `treealign` with its data."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "treealign"
LLAVA = ROOT / "data" / "llava-1.5-7b"
OLD, NEW = LLAVA / "transformers-4.52.json", LLAVA / "transformers-5.24.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The wheel and the sdist, of a copy, so that nothing is left beside the sources."""
    base = tmp_path_factory.mktemp("built")
    copy = base / "clone"
    names = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z"], text=True).split("\0")
    for name in filter(None, names):
        if name.startswith(("treealign/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        base / "out",
        copy,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = ((base / "out").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    return {"wheel": wheel, "sdist": sdist}


def data_files() -> set[str]:
    """What the package needs beside its modules."""
    kinds = (".json", ".txt", ".css", ".js", ".html", ".typed")
    found = (path for path in PACKAGE.rglob("*") if path.suffix in kinds or path.name == "py.typed")
    return {str(path.relative_to(ROOT)) for path in found}


def test_both_hold_every_data_file(built):
    with zipfile.ZipFile(built["wheel"]) as wheel, tarfile.open(built["sdist"]) as sdist:
        held = {"wheel": set(wheel.namelist()), "sdist": {name.partition("/")[2] for name in sdist.getnames()}}
    assert {kind: sorted(data_files() - names) for kind, names in held.items()} == {"wheel": [], "sdist": []}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_each_gives_a_working_program(built, kind, tmp_path):
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    # what treealign asks for is taken from here, treealign itself is not
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([home / "bin/python", "-c", ask], text=True).strip())
    (site / "rest.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install = [sys.executable, "-m", "pip", "--python", home / "bin/python", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-build-isolation", "--ignore-installed", built[kind]], check=True, cwd=tmp_path)
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [home / "bin/treealign", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)

    where = subprocess.check_output([home / "bin/python", "-c", "import treealign; print(treealign.__file__)"],
                                    cwd=tmp_path, env=own, text=True)  # fmt: skip
    assert where.startswith(str(home))
    assert run("--version").stdout.startswith("treealign ")
    found = run("audit", OLD, NEW, "--html", "page.html", "-o", "mapping.json")
    assert (found.returncode, found.stderr.count("Traceback")) == (1, 0), found.stderr
    assert "<title>" in (tmp_path / "page.html").read_text()
