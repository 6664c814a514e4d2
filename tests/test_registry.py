"""Every kind of transform in transformers' registry has a real model among those that are loaded and compared."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
from real_conversions import CONVERSIONS
from real_models import quiet_transformers
from real_renames import RENAMES
from releases import leave_out
from torch import device

FUSED = """
import copy, sys
from pathlib import Path
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration as Model
from real_conversions import ROPE
from real_models import build, noise, outputs
from real_renames import DECODER
from treealign import load, save

folder = Path(sys.argv[1])
config = Qwen3VLConfig(
    text_config={**DECODER, "head_dim": 8, "rope_parameters": ROPE},
    vision_config=dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, patch_size=4, out_hidden_size=16,
                       num_position_embeddings=16, deepstack_visual_indexes=[0]),
)
source = build(lambda: Model(config), seed=0)
source.save_pretrained(folder / "given")
theirs = Model.from_pretrained(folder / "given", fusion_config={"patch_embeddings": True}).eval()
ours = copy.deepcopy(theirs)
for tensor in ours.state_dict().values():
    tensor.zero_()
result = load(ours, folder / "given", hints={"proj": "linear_proj"})
assert [o for step in result.record.steps for o in step.operations], "nothing was reshaped"
state = theirs.state_dict()
assert all(torch.equal(t, state[k]) for k, t in ours.state_dict().items())
inputs = lambda: {"hidden_states": noise(4, 96), "grid_thw": torch.tensor([[1, 2, 2]])}
assert all(map(torch.equal, outputs(ours.model.visual, inputs), outputs(theirs.model.visual, inputs)))
save(ours, folder / "saved")
name = "model.safetensors"
assert (folder / "saved" / name).read_bytes() == (folder / "given" / name).read_bytes()
"""


def kind(transform):
    """The classes of a converter's operations in their order, or that of a renaming."""
    return tuple(type(o).__name__ for o in getattr(transform, "operations", None) or (transform,))


@pytest.fixture(scope="module")
def registered():
    """Kinds to the models that have them."""
    quiet_transformers()
    from transformers.conversion_mapping import _build_checkpoint_conversion_mapping

    found = defaultdict(set)
    for name, transforms in _build_checkpoint_conversion_mapping().items():
        for transform in transforms:
            found[kind(transform)].add(name)
    return found


@pytest.fixture(scope="module")
def loaded():
    """Kinds that some architecture of the functional tests has, read by transformers itself."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    found = set()
    for architecture in [a for a in RENAMES + CONVERSIONS if a.read]:
        with device("meta"):
            model = architecture.make()
        found |= {kind(transform) for transform in get_model_conversion_mapping(model, add_legacy=False)}
    return found


def test_every_kind_and_every_composition_has_a_real_model(registered, loaded):
    assert {kinds: sorted(models) for kinds, models in registered.items() if kinds not in loaded} == {}


def test_every_operation_of_transformers_is_in_a_composition_or_known_to_be_out_of_use(registered):
    from transformers import core_model_loading

    operations = vars(core_model_loading)["ConversionOps"].__subclasses__()
    own = {c.__name__ for c in operations if c.__module__ == core_model_loading.__name__}
    used = {name for kinds in registered for name in kinds}
    reverses = {"SplitModulelist", "LinearToConv3d", "ErnieSplitAndDecoupleTextVisionExperts", "_IdentityOp"}
    deprecated = {"VisionFuseAndPermuteForRope", "VisionUnfuseAndPermuteForRope"}
    fusions = {"Conv3dToLinear"}  # registered on request: see the test below
    out_of_use = own - used - reverses - deprecated
    if "PermuteForRope" in out_of_use:
        leave_out("entry with PermuteForRope")
    assert out_of_use == fusions


def test_a_convolution_that_transformers_fuses_into_a_linear_layer_is_loaded_alike(tmp_path):
    run = [sys.executable, "-W", "ignore", "-c", FUSED, str(tmp_path)]  # fusing patches classes of the whole process
    done = subprocess.run(run, capture_output=True, text=True, env=_paths(), check=False)
    if "No module named 'torchvision'" in done.stderr:
        leave_out("way to fuse without torchvision")
    assert done.returncode == 0, done.stderr[-2000:]


def _paths():
    import os
    from pathlib import Path

    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent, here.parent / "scripts")))}
