"""Say how much a torch would download, before pip does, where it may be gigabytes; on a terminal, ask.

    python scripts/torch_size.py REQUIREMENT [PIP OPTION ...]

Run by scripts/setup.sh with the pip of the new environment, before anything is installed. On Linux the plain torch
brings libraries for NVIDIA's GPUs; a build for CPUs alone calls itself `+cpu`, and has a tenth of the size.
"""

from __future__ import annotations

import re
import subprocess
import sys

# torch 2.13.0 for Linux on x86_64 with all it requires, as pip downloads and unpacks it
DOWNLOAD, UNPACKED = "3 GB", "5 GB"
SMALL = """\
hint: TREEALIGN_TORCH_INDEX=URL takes torch from an index of yours instead (or a folder of wheels): one of builds for
  CPUs, as pytorch.org/get-started names it, brings about 0.2 GB. A torch that your Python has already is used."""


def builds(requirement: str, options: list[str]) -> list[str]:
    """The versions on offer, newest first, as pip sees them with its own configuration and these options."""
    name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions", name, *options]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    offered = re.search(r"Available versions: (.*)", said)
    return offered[1].split(", ") if offered else []


def chosen(requirement: str, offered: list[str]) -> str:
    """The version that pip will take; "" where that cannot be told."""
    from pip._vendor.packaging.requirements import Requirement

    wanted = Requirement(requirement).specifier
    return next((version for version in offered if wanted.contains(version)), "")


def is_small(version: str) -> bool:
    return version.endswith("+cpu") or not sys.platform.startswith("linux")


def main() -> int:
    requirement, options = sys.argv[1], sys.argv[2:]
    version = chosen(requirement, builds(requirement, options))
    if is_small(version):
        return 0
    print(f"torch {version or 'of an unknown version'} with its libraries for GPUs: about {DOWNLOAD} to download, "
          f"{UNPACKED} on the disk\n\n{SMALL}\n", file=sys.stderr)  # fmt: skip
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return 0
    print("go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return 0 if sys.stdin.readline().strip().lower() in ("y", "yes") else 1


if __name__ == "__main__":
    sys.exit(main())
