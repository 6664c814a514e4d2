"""The main job on the published layouts in data/: suggest, load, run, save back, compare.

Run by scripts/demo, which installs what it needs first. Every command is shown before its output.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEXT = """
What to try next, from this folder:

  source {venv}/bin/activate
  treealign show YOUR_MODEL.safetensors                  # what is in a file, at a glance
  treealign suggest YOUR_CHECKPOINT YOUR_MODEL           # MODEL: a file, transformers:llama, package.module:factory
  treealign suggest data/two-norms/checkpoint.json data/two-norms/model.json    # how a question is asked
  treealign audit data/llava-1.5-7b/transformers-4.52.json data/llava-1.5-7b/transformers-5.24.json \\
      --scan data/stale-names --html report.html         # what an update breaks, as a page
  treealign --help

README.md is a page; where to read on stands at its end."""
LLAVA, CLIP, TINY = "data/llava-1.5-7b", "data/clip-vit-large-patch14", "data/llava-tiny"


def say(text: str) -> None:
    print(text, flush=True)


def run(*arguments: str, expected: int = 0) -> None:
    """Run `treealign` as a user would; any other exit code than the expected one ends the demonstration."""
    say(f"\n$ treealign {' '.join(arguments)}")
    done = subprocess.run([sys.executable, "-m", "treealign.cli", *arguments], check=False, stderr=subprocess.STDOUT)
    if done.returncode != expected:
        sys.exit(f"treealign {arguments[0]} ended with {done.returncode}, expected {expected}")


def names() -> None:
    say("# 1. A published LLaVA-1.5 checkpoint against the module tree of today's transformers: names and shapes only")
    run("suggest", f"{LLAVA}/checkpoint.json", f"transformers:{LLAVA}")
    say("\n# 2. A published CLIP checkpoint into its vision tower alone: what has no place there is a finding (exit 1)")
    run("suggest", f"{CLIP}/checkpoint.json", f"transformers:{CLIP}:CLIPVisionModel", expected=1)


def tensors() -> None:
    """Load a small checkpoint under published names into a current model, run it, save it, compare the bytes."""
    import torch
    import transformers

    import treealign

    transformers.logging.set_verbosity_error()
    say("\n# 3. Real tensors: load under the published names, run the model, save, compare")
    config = transformers.AutoConfig.from_pretrained(TINY, local_files_only=True)
    model = transformers.LlavaForConditionalGeneration(config).eval()
    say(f"\n>>> result = treealign.load(model, {TINY!r})")
    result = treealign.load(model, TINY)
    for transform in result.mapping:
        say(f"    {transform}")
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits
    say(f"    logits of four tokens: shape {tuple(logits.shape)}, all finite: {bool(logits.isfinite().all())}")
    with tempfile.TemporaryDirectory() as folder:
        say(">>> treealign.save(model, directory)")
        treealign.save(model, folder)
        compare(Path(TINY, "model.safetensors"), Path(folder, "model.safetensors"))


def compare(original: Path, saved: Path) -> None:
    """Say whether names, tensors and bytes came back."""
    from safetensors.numpy import load_file

    before, after = load_file(original), load_file(saved)
    if before.keys() != after.keys() or any(before[key].tobytes() != after[key].tobytes() for key in before):
        sys.exit("the saved tensors differ from the original ones")
    say(f"    {len(after)} tensors, the same names and bytes as in {original}")
    same = filecmp.cmp(original, saved, shallow=False)
    say(f"    cmp {original} saved/model.safetensors: {'identical files' if same else 'the files differ'}")


if __name__ == "__main__":
    os.chdir(ROOT)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    names()
    tensors()
    say("\nDone: the names were found, the weights ran, and they went back as they came.")
    say(NEXT.format(venv=Path(sys.prefix)))
