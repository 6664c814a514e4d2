"""Several processes that work together, as on several machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def together(folder: Path, task: str, *arguments: str | Path, world: int = 2) -> None:
    """Run a function of `distributed_worker` in `world` processes, which find each other through a file."""
    store = folder / f"store-{task}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    worker = [sys.executable, str(ROOT / "tests" / "distributed_worker.py")]
    commands = [[*worker, str(rank), str(world), str(store), task, *map(str, arguments)] for rank in range(world)]
    running = [subprocess.Popen(one, env=environment, stderr=subprocess.PIPE, text=True) for one in commands]
    try:
        said = [process.communicate(timeout=120)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * world, "\n".join(said)
