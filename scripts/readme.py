"""Run the commands that the README shows, so that what it shows is what they print.

python scripts/readme.py            says whether the README is true
python scripts/readme.py --write    puts the present output in place
python scripts/readme.py --figures  runs the benchmarks as well (the blocks marked `text`) and puts theirs in place
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
QUICK, SLOW = "console", "text"
BLOCK = re.compile(r"```(?P<kind>console|text)\n\$ (?P<command>.+)\n(?P<output>(?:(?!```).*\n)*)```")


def output_of(command: str) -> str:
    """What a command of the README prints on stdout, on a terminal of 80 columns."""
    runnable = re.sub(r"\btreealign (?=[a-z])", f"{sys.executable} -m treealign.cli ", command)
    runnable = re.sub(r"^python\b", sys.executable, runnable)
    environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(runnable, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(f"{command} failed:\n{done.stderr}")
    return done.stdout


def with_real_output(text: str, kinds: tuple[str, ...] = (QUICK,)) -> str:
    """The text, each block of these kinds with the output that its command has now."""

    def real(block: re.Match[str]) -> str:
        if block["kind"] not in kinds:
            return block[0]
        return f"```{block['kind']}\n$ {block['command']}\n{output_of(block['command'])}```"

    return BLOCK.sub(real, text)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    figures = "--figures" in sys.argv[1:]
    real = with_real_output(text, (QUICK, SLOW) if figures else (QUICK,))
    if figures or "--write" in sys.argv[1:]:
        README.write_text(real, encoding="utf-8")
    elif real != text:
        sys.exit("the README shows other output than its commands print: python scripts/readme.py --write")


if __name__ == "__main__":
    main()
