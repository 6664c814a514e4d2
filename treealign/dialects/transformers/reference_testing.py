"""The part of an emitted pytest file that keeps the proof: transformers loads what a recorded run of the original had.

The file of `treealign.record` holds random weights, and what the original gave with them. The test writes these under
the checkpoint's names, lets `from_pretrained` load them by the entry alone, and compares the outputs: neither treealign
nor the original has to be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from treealign.errors import TreealignError

PROOF = "test_the_model_computes_what_the_original_computed"
_BODY = '''

# beside this file: random weights, inputs, and what the original gave, by `treealign record`
REFERENCE = Path(__file__).with_name("{file}")
MODEL_CONFIG = r"""
{config}
"""


def test_the_model_computes_what_the_original_computed():
    recorded = torch.load(REFERENCE, weights_only=True)
    weights = {{key: value.clone().contiguous() for key, value in recorded["drawn"]["values"].items()}}
    with TemporaryDirectory() as folder:
        save_file(weights, Path(folder, "model.safetensors"), metadata={{"format": "pt"}})
        Path(folder, "config.json").write_text(MODEL_CONFIG)
        model, loaded = {name}.from_pretrained(folder, dtype=torch.float64, output_loading_info=True)
    assert not loaded["missing_keys"]
    args, kwargs = recorded["inputs"]
    with torch.no_grad():
        result = model.eval()(*args, **kwargs)
    found = next((result[name] for name in ("logits", "last_hidden_state") if name in result), None)
    found = result[0] if found is None else found
    wanted = recorded["drawn"]["outputs"][0]
    # the code rounds to float32 on its way; under another mapping the difference is about 1
    assert found.shape == wanted.shape
    assert (found - wanted).square().mean().sqrt() < 1e-4 * wanted.std()
'''
_OWN_IMPORTS = ("from pathlib import Path", "from tempfile import TemporaryDirectory")


class ProofTest(NamedTuple):
    """A test, and what the file has to import for it."""

    body: str
    their_imports: tuple[str, ...]
    own_imports: tuple[str, ...] = _OWN_IMPORTS


def proof_test(model: Any, reference: Any) -> ProofTest:
    """The test for a model, and the file of a recorded run.

    Raises
    ------
    TreealignError
        The file holds no run with random weights and its inputs, or the model is none of transformers' own.
    """
    from treealign.run.replay import read_recording

    recording = read_recording(reference)
    if not recording.values or recording.inputs is None:
        raise TreealignError(
            "the file holds no run with random weights and its inputs",
            where=str(reference),
            hint="`treealign record` writes one where the original runs",
        )
    name, config = type(model).__name__, getattr(model, "config", None)
    if config is None or not type(model).__module__.startswith("transformers."):
        raise TreealignError(
            f"{name} is no model of transformers, which alone the test can build",
            hint="name it: --model transformers:<model type or config folder>[:Class]",
        )
    body = _BODY.format(file=Path(reference).name, config=config.to_json_string(use_diff=True).strip(), name=name)
    return ProofTest(body, ("from safetensors.torch import save_file", f"from transformers import {name}"))
