"""Run the commands that the READMEs show, so that what they show is what they print.

python scripts/readme.py            says whether they are true
python scripts/readme.py --write    puts the present output in place
python scripts/readme.py --figures  runs the benchmarks as well (the blocks marked `text`) and puts theirs in place

Every command is run in an empty folder that has the project's `data` and `scripts`; blocks of one page share theirs. A
`python` block with a `text` block below it is run too, and what it prints is that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted(ROOT.glob("treealign/**/README.md")), ROOT / "tests/README.md", ROOT / "scripts/README.md",
         ROOT / ".github/CONTRIBUTING.md", ROOT / "data/measured.md")  # fmt: skip
BLOCK = re.compile(r"```(?P<kind>console|text)\n\$ (?P<command>.+)\n(?P<output>(?:(?!```).*\n)*)```")
PYTHON = re.compile(r"```python\n(?P<source>(?:(?!```).*\n)*)```\n\n```text\n(?P<output>(?:(?!```|\$ ).*\n)*)```")


def run(command: str, folder: Path) -> str:
    """What a command prints on stdout, on a terminal of 80 columns."""
    runnable = re.sub(r"\btreealign (?=[a-z])", f"{sys.executable} -m treealign ", command)
    runnable = re.sub(r"^python\b", sys.executable, runnable)
    environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        runnable, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(f"{command} failed:\n{done.stderr}")
    return done.stdout


def with_real_output(text: str, figures: bool = False) -> str:
    """The text, each block with the output that its command has now."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("data", "scripts"):
            (folder / name).symlink_to(ROOT / name)

        def console(block: re.Match[str]) -> str:
            if block["kind"] == "text" and not figures:
                return block[0]
            where = ROOT if block["kind"] == "text" else folder
            return f"```{block['kind']}\n$ {block['command']}\n{run(block['command'], where)}```"

        def python(block: re.Match[str]) -> str:
            (folder / "example.py").write_text(block["source"], encoding="utf-8")
            return f"```python\n{block['source']}```\n\n```text\n{run('python example.py', folder)}```"

        return PYTHON.sub(python, BLOCK.sub(console, text))


def main() -> None:
    figures, untrue = "--figures" in sys.argv[1:], []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        real = with_real_output(text, figures)
        if figures or "--write" in sys.argv[1:]:
            page.write_text(real, encoding="utf-8")
        elif real != text:
            untrue.append(str(page.relative_to(ROOT)))
    if untrue:
        sys.exit(f"other output than shown: {', '.join(untrue)}: python scripts/readme.py --write")


if __name__ == "__main__":
    main()
