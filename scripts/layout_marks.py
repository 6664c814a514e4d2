"""On which trees of the corpora each entry of the table of layouts fires, by the library that a case names.

    python scripts/layout_marks.py [--every N] [CORPUS ...]

A case is called after what stands on its sides (`bert_hf__keras`), or its source names the two; a single file stands
beside diffusers. An entry must fire on trees of its own library alone; `OWN` says which words name that. Prints what
each entry fires on, those on which it should not with a `!`, and exits 1 where there are any.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

from cases import Case, read_cases

from treealign.align.knowledge.recognising import recognised
from treealign.align.patterns import build_patterns

CORPORA = ("pairs", "originals", "real_text", "real_vision", "transformers", "synthetic", "single_files", "converters")
CORPORA += ("scale",)
FOREIGN = (
    r"gguf|^tl$|keras|flax|mcore|megatron|titan|^fms|litgpt|curated|fairseq2|diffusers|_ldm|torchaudio|timm$|openai"
)
OWN = {  # names of entries to what may stand on a side that they fire on; the first that fits counts
    r"^llama\.cpp": r"^gguf_",
    r"^fms": r"^fms",
    r"^torchtune": r"^torchtune",
    r"^fairseq2": r"fairseq2",
    r"^Keras|^KerasHub": r"^keras$",
    r"^Kernels": r"_flax$|^keras$",
    r"Flax": r"_flax$",
    r"^TransformerLens": r"^tl$",
    r"^curated": r"^curated$",
    r"^Megatron": r"mcore|megatron",
    r"^vLLM's OPT|^metaseq": r"vllm_opt|metaseq",
    r"^vLLM's fused rows|^Phi-3|gate and up in one": r"^hf|_hf$|vllm|gemma_pytorch|^[A-Z]\w+$",
    r"^vLLM": r"^vllm_",
    r"^torchtitan": r"titan",
    r"^litgpt": r"^litgpt",
    r"^MLX": r"^mlx",
    r"^Meta's Llama": r"meta",
    r"^(Qwen of|ChatGLM|EXAONE|Baichuan|Phi of)": r"_remote$|_microsoft$",
    r"^OLMo": r"^olmo",
    r"^OpenAI's Whisper": r"^whisper_openai$",
    r"^OpenAI's CLIP|^open_clip": r"clip",
    r"^EnCodec": r"^encodec|^mimi_moshi$",
    r"^(Wan|diffusers, Wan)": r"^wan|^diffusers$|^diffsynth$",
    r"Flux|FLUX": r"^flux|^diffusers$",
    r"^diffusers|of its authors$": r"sd3_diffusers|convnext|^diffusers$",
    r"^Stable Diffusion": r"_ldm$",
    r"^torchvision ResNet": r"resnet|resnext|torchvision|^timm$|detr|^mmpretrain$|^Det|^Def|^wrap_",
    r"^timm BEiT": r"^beit|^timm1$",
    r"^timm|^ViT|^Swin|^SAM|^MAE": r"timm|facebook|microsoft|videomae|yuangong|salesforce|liheyoung|intel|unilm"
    "|dandelin|hustvl|vitdet|sam_|swin|hiera|grounding_dino|qwen2vl|^DeepseekOcr|^UnlimitedOcr",
    r"^DETR": r"^detr_facebook$",
    r"^fairseq's": r"fairseq|unilm",
    r"^transformers, BART": r"^(?!.*(gguf|^tl$|keras|flax|^fms))",
    r"^transformers": rf"^(?!.*({FOREIGN}))",
}


def fired(case: Case) -> Iterator[tuple[str, str, set[str]]]:
    """Each side of a case: the case, what stands there, and the entries that hold for a leaf of it."""
    for tree, text in zip(case.trees(False), sides(case), strict=True):
        found = recognised(build_patterns(tree), tree.modules)
        yield case.name, text, {known.name for p in found for known in p.library}


def sides(case: Case) -> tuple[str, str]:
    """What stands on either side."""
    corpus, _, name = case.name.rpartition("/")
    if corpus == "single":
        return f"{name} of its authors", "diffusers"
    left, found, right = name.partition("__")
    return (left, right) if found else (name, name)


def is_own(entry: str, side: str) -> bool:
    """Whether an entry may fire on what stands on a side; one that nothing is said of fires on anything."""
    model, _, authors = entry.partition(" of ")
    if authors and _plain(model) in _plain(side):
        return True
    own = next((own for name, own in OWN.items() if re.search(name, entry)), "")
    return re.search(own, side) is not None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def main() -> int:
    """Count, and print a line for each entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", default=CORPORA)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    found, strange = defaultdict(Counter), defaultdict(Counter)
    for corpus in given.corpora:
        for case in list(read_cases(corpus))[:: given.every]:
            for _, text, names in fired(case):
                for name in names:
                    (found if is_own(name, text) else strange)[name][text] += 1
    for name in sorted({*found, *strange}):
        print(f"{name}: {', '.join(sorted(found[name]))}{''.join(f', ! {text}' for text in sorted(strange[name]))}")
    return bool(strange)


if __name__ == "__main__":
    sys.exit(main())
