"""Twelve pairs through recorded files: the original runs in an environment of its own, the model in this one.

`python scripts/recorded_pairs.py record FOLDER` where the originals are, with another release of transformers or timm;
`python scripts/recorded_pairs.py compare FOLDER` here writes the table. The first needs nothing of treealign but the
one file that records.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pairs_text  # noqa: F401  # enters its pairs
import torch
from code_pairs import OUTSIDE, PAIRS, TIMM

NAMES = (
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "swin_tiny_patch4_window7_224",
    "convnext_tiny", "convnextv2_tiny", "resnet18", "mobilevitv2_050", "tf_efficientnet_b0", "gpt2_bigcode",
    "t5_gated_llama", "transformers Llama - Phi3",
)  # fmt: skip
HEAD = (
    "| pair | recorded with | keys | certain before | after | questions after | outputs differ by | runs |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|"
)
EVERY = {**PAIRS, **TIMM, **OUTSIDE}


def record(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "treealign" / "run"))
    from recorder import recording

    folder.mkdir(exist_ok=True)
    for name in NAMES:
        torch.manual_seed(0)
        original, _, run = EVERY[name]()
        weights = {key: value.clone() for key, value in original.state_dict().items()}
        package = "timm" if name in TIMM else "transformers"
        said = f"{package} {importlib.metadata.version(package)}"
        torch.save({"weights": weights, "said": said}, folder / f"{name}.weights")
        torch.save(recording(original, run[0] if isinstance(run, tuple) else run), folder / f"{name}.pt")
        print(name, said, file=sys.stderr)


def compare(folder: Path) -> None:
    import treealign

    print(HEAD)
    for name in NAMES:
        held = torch.load(folder / f"{name}.weights", weights_only=True)
        _, model, run = EVERY[name]()
        runs = run if isinstance(run, tuple) else (run, run)
        before = treealign.suggest(held["weights"], model)
        found = treealign.suggest(held["weights"], model, original=folder / f"{name}.pt", run=runs[1])
        sure = [sum(match.certain for match in one.matches) for one in (before, found)]
        ran = found.ran
        differ = f"{ran.difference:.0e}" if ran.proved else "rejected"
        cells = (name, held["said"], len(found.matches), *sure, len(found.questions), differ, ran.runs)
        print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    {"record": record, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
