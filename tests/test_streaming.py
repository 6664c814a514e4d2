"""Loading and saving stream: above the model itself, memory is that of the tensors of a few transforms, not of all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory of a process")
LAYERS, SIZE = 24, 512  # q, k and v of a layer are 3 MiB, all of them 72 MiB
PROGRAM = """
import json, sys, threading
import torch
from torch import nn
from safetensors.torch import save_file
from treealign import ConversionMapping, Convert, load, save
from treealign.mapping.operations import Split

folder, layers, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def anonymous():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon"))

def peak_of(work):
    stop, peaks = threading.Event(), [0]
    base = anonymous()
    def watch():
        while not stop.is_set():
            peaks[0] = max(peaks[0], anonymous() - base)
    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    stop.set()
    watcher.join()
    return peaks[0]

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(size, size, bias=False))

def model():
    made = nn.Module()
    made.layers = nn.ModuleList(Layer() for _ in range(layers))
    return made

first, second = model(), model()
state = {f"layers.{i}.qkv.weight": torch.full((3 * size, size), float(i)) for i in range(layers)}
save_file(state, folder + "/model.safetensors")
del state
mapping = ConversionMapping([Convert(
    "layers.{i}.qkv.weight", [f"layers.{{i}}.{n}_proj.weight" for n in "qkv"], Split(0, (size, size, size)))])
load(first, folder, mapping)  # what is imported and cached on first use is not what is measured
save(first, folder + "/warm")
loading = peak_of(lambda: load(second, folder, mapping))
saving = peak_of(lambda: save(second, folder + "/saved"))
assert float(second.layers[layers - 1].v_proj.weight[0, 0]) == layers - 1
whole = peak_of(lambda: {k: v.clone() for k, v in second.state_dict().items()})
print(json.dumps({"loading": loading, "saving": saving, "whole": whole}))
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Bytes above what the process had before: of a load, of a save, and of a copy of all weights for comparison."""
    folder = tmp_path_factory.mktemp("streaming")
    run = [sys.executable, "-c", PROGRAM, str(folder), str(LAYERS), str(SIZE)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    # a fixed threshold: else glibc keeps what is freed, and what is allocated next is not seen as growth
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_measurement_sees_a_copy_of_all_weights(peaks):
    assert peaks["whole"] > 0.8 * LAYERS * 3 * SIZE * SIZE * 4


@pytest.mark.parametrize("work", ["loading", "saving"])
def test_memory_above_the_model_is_that_of_a_few_transforms(peaks, work):
    one = 3 * SIZE * SIZE * 4
    assert peaks[work] < 3 * one
