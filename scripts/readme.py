"""Run the commands that the README shows, so that what it shows is what they print.

python scripts/readme.py --write   puts the present output in place; without it, says whether the README is true
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>.+)\n(?P<output>(?:(?!```).*\n)*)```")


def output_of(command: str) -> str:
    """What a command of the README prints on stdout, on a terminal of 80 columns."""
    runnable = re.sub(r"\btreealign (?=[a-z])", f"{sys.executable} -m treealign.cli ", command)
    environment = {**os.environ, "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(runnable, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode in (0, 1) else f"{done.stdout}{done.stderr}"


def with_real_output(text: str) -> str:
    """The text, each console block with the output that its command has now."""
    return BLOCK.sub(lambda m: f"```console\n$ {m['command']}\n{output_of(m['command'])}```", text)


def main() -> None:
    text = README.read_text(encoding="utf-8")
    real = with_real_output(text)
    if "--write" in sys.argv[1:]:
        README.write_text(real, encoding="utf-8")
    elif real != text:
        sys.exit("the README shows other output than its commands print: python scripts/readme.py --write")


if __name__ == "__main__":
    main()
