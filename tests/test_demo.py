"""The README's first command: what scripts/demo runs once everything is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_demonstration_loads_real_tensors_and_saves_them_back_as_they_came():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "demo.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "89 tensors, the same names and bytes" in done.stdout
    assert "saved/model.safetensors: identical files" in done.stdout
    assert "What to try next" in done.stdout
