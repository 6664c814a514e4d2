"""Derive how the authors of a diffusion model and diffusers lay it out, by running diffusers' own converters.

    python scripts/derive_single_files.py [--only TEXT] [--write] [--pairs FILE]

A converter is given tensors no two elements of which are equal; where each element ends up is what it does: a name for
a name, parts of a whole and their order, halves swapped. A converter that takes what it wants is given whatever it asks
for; one that renames what it finds is asked backwards: the replacements that stand in its source are undone on each key
of a small model of diffusers, and what it does not turn into that key again is dropped. No text of it is kept.
`--write` puts two entries into the table of layouts, one a side; `--pairs` writes the two trees of each as a corpus,
with the correspondence that was run.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import lzma
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import single_file_utils as converters

from treealign.align.knowledge import entries

TABLE = Path(entries.__file__).parent / "layouts.json"
SOURCE = "diffusers 0.42.1 loaders/single_file_utils.py, {} run on numbered elements"
LISTS = frozenset(
    {"blocks", "layers", "joint_blocks", "double_blocks", "single_blocks", "double_layers", "single_layers"}
)
LISTS |= {"transformer_blocks", "single_transformer_blocks", "joint_transformer_blocks", "refiner_blocks"}
LISTS |= {"noise_refiner", "context_refiner"}
STEP = 10**7  # more than any tensor has rows
Pieces = list[tuple[str, int, int]]  # keys of the checkpoint, each with the rows taken of it, in order


@dataclass(frozen=True)
class Source:
    """One model: its converter, diffusers' class and what is small in it, marks of both sides.

    `lacks` are marks of another model that has all of these too. `rows` are those of tensors whose keys contain a text,
    where a converter counts on their number; `undo` turns what stands in diffusers' keys into what the checkpoint has,
    where no replacement in the source says so: after a `=` nothing more is undone.
    """

    name: str
    convert: str
    model: str
    marks: tuple[str, ...]
    theirs: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    undo: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    lacks: tuple[str, ...] = ()


class Asked(dict[str, torch.Tensor]):
    """A checkpoint that has whatever is asked of it, numbered row by row."""

    def __init__(self, keys: Iterable[str], rows: Mapping[str, int]) -> None:
        super().__init__()
        self.rows, self.names = rows, []
        for key in keys:
            self[key] = self.numbered(key)

    def numbered(self, key: str) -> torch.Tensor:
        """A tensor for a key: its number, then that of the row."""
        self.names.append(key)
        size = next((n for text, n in self.rows.items() if text in key), 720)
        return STEP * (len(self.names) - 1) + torch.arange(size, dtype=torch.float64)[:, None, None, None, None]

    def __missing__(self, key: str) -> torch.Tensor:
        return self.numbered(key)

    def pop(self, key: str, *default: Any) -> torch.Tensor:  # type: ignore[override]
        """The tensor, made where it is not there."""
        return super().pop(key) if key in self else self.numbered(key)


def traced(made: Mapping[str, Any], names: Sequence[str]) -> dict[str, Pieces]:
    """Of which rows of which keys each tensor that came out is made."""
    found = {}
    for key, tensor in made.items():
        if isinstance(tensor, torch.Tensor):
            found[key] = _pieces([int(x) for x in tensor.flatten().tolist()], names)
    return found


def _pieces(numbers: Sequence[int], names: Sequence[str]) -> Pieces:
    pieces: Pieces = []
    for number in numbers:
        key, row = names[number // STEP], number % STEP
        if pieces and pieces[-1][0] == key and pieces[-1][2] == row:
            pieces[-1] = (key, pieces[-1][1], row + 1)
        else:
            pieces.append((key, row, row + 1))
    return pieces


def replacements(convert: Callable[..., Any]) -> list[tuple[str, str]]:
    """Pairs of texts that stand in tables of the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(convert)))
    pairs = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and value.value:
                    pairs.append((str(key.value), str(value.value)))
    return pairs


def undone(source: Source, convert: Callable[..., Any], targets: Sequence[str]) -> dict[str, Pieces]:
    """The keys that a converter turns into those of diffusers, and what becomes of their rows."""
    pairs, asked = replacements(convert), []
    for target in targets:
        key = target
        for new, old in source.undo:
            key = re.sub(new, old, key)
        for old, new in reversed(pairs) if key[0] != "=" else ():
            key = key.replace(new, old)
        asked.append(source.prefix + key.lstrip("="))
    found: dict[str, Pieces] = {}
    checkpoint = Asked(dict.fromkeys(asked), source.rows)
    names = checkpoint.names
    found = traced(convert(dict(checkpoint)), names)
    return {target: found[target] for target in targets if target in found}


def correspondence(source: Source, targets: Sequence[str]) -> dict[str, Pieces]:
    """What the converter makes each key of the model of."""
    convert = getattr(converters, source.convert)
    if not source.seed:
        return undone(source, convert, targets)
    asked = Asked(source.seed, source.rows)
    found = traced(convert(asked, config=source.config), asked.names)
    return {target: found[target] for target in targets if target in found}


def model_of(source: Source) -> dict[str, tuple[int, ...]]:
    """Shapes of diffusers' model, made without numbers."""
    import diffusers

    with torch.device("meta"):
        model = getattr(diffusers, source.model)(**source.config)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


SD3_BLOCK = ("joint_blocks.{}.x_block.attn.qkv.weight", "joint_blocks.{}.context_block.attn.qkv.weight")
SOURCES = (
    Source(
        "SD 3",
        "convert_sd3_transformer_checkpoint_to_diffusers",
        "SD3Transformer2DModel",
        ("x_embedder.proj.weight", "t_embedder.mlp.0.weight", "y_embedder.mlp.0.weight", *SD3_BLOCK),
        ("pos_embed.proj.weight", "transformer_blocks.{}.attn.add_q_proj.weight", "transformer_blocks.{}.ff_context"),
        {"num_layers": 3, "qk_norm": "rms_norm"},
        ("joint_blocks.2.x_block.attn.ln_q.weight", "context_embedder.weight"),
    ),
    Source(
        "AuraFlow",
        "convert_auraflow_transformer_checkpoint_to_diffusers",
        "AuraFlowTransformer2DModel",
        ("cond_seq_linear.weight", "double_layers.{}.attn.w1q.weight", "single_layers.{}.modCX.1.weight"),
        ("joint_transformer_blocks.{}.attn.add_q_proj.weight", "joint_transformer_blocks.{}.ff_context.linear_1"),
        {"num_mmdit_layers": 2, "num_single_dit_layers": 2},
        ("double_layers.0.attn.w1q.weight", "double_layers.1.a", "single_layers.0.a", "single_layers.1.a"),
    ),
    Source(
        "Sana",
        "convert_sana_transformer_to_diffusers",
        "SanaTransformer2DModel",
        ("y_embedder.y_proj.fc1.weight", "blocks.{}.attn.qkv.weight", "blocks.{}.mlp.inverted_conv.conv.weight"),
        ("patch_embed.proj.weight", "transformer_blocks.{}.ff.conv_inverted.weight", "caption_norm.weight"),
        {"num_layers": 2},
        ("blocks.1.attn.qkv.weight",),
    ),
    Source(
        "Mochi",
        "convert_mochi_transformer_checkpoint_to_diffusers",
        "MochiTransformer3DModel",
        ("t5_y_embedder.to_kv.weight", "blocks.{}.mod_x.weight", "blocks.{}.attn.qkv_x.weight"),
        ("time_embed.pooler.to_kv.weight", "transformer_blocks.{}.attn1.add_q_proj.weight"),
        {"num_layers": 48},
        ("blocks.0.mod_x.weight",),
    ),
    Source(
        "Chroma",
        "convert_chroma_transformer_checkpoint_to_diffusers",
        "ChromaTransformer2DModel",
        ("distilled_guidance_layer.in_proj.weight", "double_blocks.{}.img_attn.qkv.weight"),
        ("distilled_guidance_layer.in_proj.weight", "transformer_blocks.{}.attn.add_q_proj.weight"),
        {"num_layers": 2, "num_single_layers": 2},
        ("double_blocks.1.a", "single_blocks.1.linear1.weight", "distilled_guidance_layer.layers.4.a"),
        {"linear1": 21504},
    ),
    Source(
        "HunyuanVideo",
        "convert_hunyuan_video_transformer_to_diffusers",
        "HunyuanVideoTransformer3DModel",
        ("img_in.proj.weight", "txt_in.individual_token_refiner", "double_blocks.{}.img_attn_qkv.weight"),
        ("x_embedder.proj.weight", "context_embedder.token_refiner", "transformer_blocks.{}.attn.add_q_proj.weight"),
        {"num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 2},
        rows={"linear1": 21504},
        undo=(
            (r"^context_embedder", "=txt_in"),
            (r"token_refiner\.refiner_blocks", "individual_token_refiner.blocks"),
            (r"^(=txt_in.*)attn\.to_[qkv]\.", r"\1self_attn_qkv."),
            (r"^(=txt_in.*)attn\.to_out\.0", r"\1self_attn_proj"),
            (r"^(=txt_in.*)norm_out\.linear", r"\1adaLN_modulation.1"),
            (r"^(=txt_in.*)ff\.net\.0\.proj", r"\1mlp.fc1"),
            (r"^(=txt_in.*)ff\.net\.2", r"\1mlp.fc2"),
            (r"^(=txt_in.*)timestep_embedder\.linear_1", r"\1t_embedder.mlp.0"),
            (r"^(=txt_in.*)timestep_embedder\.linear_2", r"\1t_embedder.mlp.2"),
            (r"^(=txt_in.*)text_embedder", r"\1c_embedder"),
            (r"^(=txt_in.*)time_text_embed\.", r"\1"),
            (r"^(=txt_in.*)proj_in", r"\1input_embedder"),
            (r"^single_transformer_blocks\.(\d+)\.(attn\.to_[qkv]|proj_mlp)\.", r"=single_blocks.\1.linear1."),
            (r"^single_transformer_blocks\.(\d+)\.proj_out\.", r"=single_blocks.\1.linear2."),
            (r"^single_transformer_blocks\.(\d+)\.attn\.norm_([qk])", r"=single_blocks.\1.\2_norm"),
            (r"^single_transformer_blocks\.(\d+)\.norm\.linear", r"=single_blocks.\1.modulation.linear"),
            (r"(?<!txt_)attn\.to_[qkv]\.", "img_attn_qkv."),
            (r"attn\.add_[qkv]_proj\.", "txt_attn_qkv."),
            (r"^(transformer_blocks.*)attn\.to_out\.0", r"\1img_attn_proj"),
            (r"^norm_out\.linear", "=final_layer.adaLN_modulation.1"),
        ),
    ),
    Source(
        "LTX Video",
        "convert_ltx_transformer_checkpoint_to_diffusers",
        "LTXVideoTransformer3DModel",
        ("patchify_proj.weight", "adaln_single.emb.timestep_embedder.linear_1.weight", "caption_projection.linear_1"),
        ("proj_in.weight", "time_embed.emb.timestep_embedder.linear_1.weight", "transformer_blocks.{}.attn1.norm_q"),
        {"num_layers": 2},
    ),
    Source(
        "Lumina 2",
        "convert_lumina2_to_diffusers",
        "Lumina2Transformer2DModel",
        ("cap_embedder.0.weight", "layers.{}.attention.qkv.weight", "noise_refiner.{}.attention.qkv.weight"),
        ("time_caption_embed.caption_embedder.0.weight", "layers.{}.attn.to_q.weight", "noise_refiner.{}.attn.to_q"),
        {"num_layers": 2},
        rows={"qkv": 3840},
        undo=(
            (r"attn\.to_[qkv]\.", "attention.qkv."),
            (r"^(context_refiner.*\.)norm2", r"=\1attention_norm2"),
            (r"^(.*\.ffn_norm2\..*)$", r"=\1"),
            (r"^time_caption_embed\.timestep_embedder\.linear_1", "=t_embedder.mlp.0"),
            (r"^time_caption_embed\.timestep_embedder\.linear_2", "=t_embedder.mlp.2"),
        ),
        lacks=("x_pad_token",),
    ),
    Source(
        "Cosmos",
        "convert_cosmos_transformer_checkpoint_to_diffusers",
        "CosmosTransformer3DModel",
        ("net.blocks.{}.self_attn.q_proj.weight", "net.blocks.{}.adaln_modulation_self_attn.1.weight"),
        ("transformer_blocks.{}.norm1.linear_1.weight", "transformer_blocks.{}.attn2.norm_q", "time_embed.t_embedder"),
        {"num_layers": 2, "extra_pos_embed_type": None},
        undo=(
            (r"patch_embed\.proj", "=x_embedder.proj.1"),
            (r"^transformer_blocks\.(\d+)\.attn1\.to_([qkv])", r"=blocks.\1.self_attn.\2_proj"),
            (r"^transformer_blocks\.(\d+)\.attn2\.to_([qkv])", r"=blocks.\1.cross_attn.\2_proj"),
            (r"^transformer_blocks\.(\d+)\.attn1\.to_out\.0", r"=blocks.\1.self_attn.output_proj"),
            (r"^transformer_blocks\.(\d+)\.attn2\.to_out\.0", r"=blocks.\1.cross_attn.output_proj"),
        ),
        prefix="net.",
    ),
    Source(
        "FLUX.2",
        "convert_flux2_transformer_checkpoint_to_diffusers",
        "Flux2Transformer2DModel",
        ("double_stream_modulation_img.lin.weight", "double_blocks.{}.img_attn.qkv.weight"),
        ("double_stream_modulation_img.linear.weight", "transformer_blocks.{}.attn.add_q_proj.weight"),
        {"num_layers": 2, "num_single_layers": 2},
        undo=(
            (r"^norm_out\.linear", "=final_layer.adaLN_modulation.1"),
            (r"^single_transformer_blocks", "=single_blocks"),
            (r"^transformer_blocks", "=double_blocks"),
            (r"attn\.to_qkv_mlp_proj", "linear1"),
            (r"^(=single.*)attn\.to_out", r"\1linear2"),
            (r"^(=single.*)attn\.norm_q\.weight", r"\1norm.query_norm.scale"),
            (r"^(=single.*)attn\.norm_k\.weight", r"\1norm.key_norm.scale"),
            (r"attn\.norm_q\.weight", "img_attn.norm.query_norm.scale"),
            (r"attn\.norm_k\.weight", "img_attn.norm.key_norm.scale"),
            (r"attn\.norm_added_q\.weight", "txt_attn.norm.query_norm.scale"),
            (r"attn\.norm_added_k\.weight", "txt_attn.norm.key_norm.scale"),
            (r"attn\.to_out\.0", "img_attn.proj"),
            (r"attn\.to_add_out", "txt_attn.proj"),
            (r"attn\.to_[qkv]\.", "img_attn.qkv."),
            (r"attn\.add_[qkv]_proj\.", "txt_attn.qkv."),
            (r"\.ff\.linear_in", ".img_mlp.0"),
            (r"\.ff\.linear_out", ".img_mlp.2"),
            (r"\.ff_context\.linear_in", ".txt_mlp.0"),
            (r"\.ff_context\.linear_out", ".txt_mlp.2"),
        ),
    ),
    Source(
        "Z-Image",
        "convert_z_image_transformer_checkpoint_to_diffusers",
        "ZImageTransformer2DModel",
        ("cap_embedder.0.weight", "layers.{}.attention.qkv.weight", "x_pad_token"),
        ("all_x_embedder", "layers.{}.attention.to_q.weight", "x_pad_token"),
        {"n_layers": 2, "n_refiner_layers": 2},
        undo=((r"attention\.to_[qkv]\.", "attention.qkv."),),
    ),
)


def sides(source: Source) -> tuple[dict[str, Pieces], dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """What each key of the model is made of, and the shapes of both sides."""
    shapes = model_of(source)
    found = correspondence(source, list(shapes))
    whole: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for target, pieces in found.items():
        for key, start, _ in pieces[:1]:
            whole[key].append((start, target))
    made = {}
    for key, parts in whole.items():
        first = shapes[parts[0][1]]
        made[key] = (sum(shapes[target][0] for _, target in parts), *first[1:]) if len(parts) > 1 else first
    return found, made, {target: shapes[target] for target in found}


def case_of(source: Source) -> dict[str, Any]:
    """The two trees as a case of a corpus, with the correspondence."""
    found, made, shapes = sides(source)
    gold = []
    for key, parts in _groups(found).items():
        whole = "halves swapped" if len(found[parts[0]]) > 1 else "copy"
        gold.append([[key], parts, "split" if len(parts) > 1 else whole])
    return {
        "id": f"single/{source.name}",
        "source": SOURCE.format(source.convert),
        "checkpoint": [[key, shape, "float32"] for key, shape in made.items()],
        "model": [[key, shape, "float32", "parameter"] for key, shape in shapes.items()],
        "modules": {},
        "tied": {},
        "gold": gold,
        "unused_checkpoint": [],
    }


def entries_of(source: Source) -> list[dict[str, Any]]:
    """The entries of the two sides; what is one thing in one repeat and another in the next is in neither."""
    found, *_ = sides(source)
    names: dict[str, set[str]] = defaultdict(set)
    rows: tuple[dict[str, set[str]], dict[str, set[str]]] = (defaultdict(set), defaultdict(set))
    for key, parts in _groups(found).items():
        mine, targets = _module(key), [_module(target) for target in parts]
        if len(parts) == 1:
            swapped = len(found[parts[0]]) == 2
            names[mine].add(targets[0])
            if swapped or "mod" in mine.lower():
                rows[0][mine].add("shift scale by part" if swapped else ALIKE)
                rows[1][targets[0]].add("scale shift by part" if swapped else ALIKE)
        elif (told := _fused(targets)) is not None:
            rows[0][mine].add(f"{told[0]} by part")
            names[mine] |= {told[1]} - {""}
    spelled = {mine: theirs for mine, theirs in _single(names).items() if mine != theirs}
    convert = SOURCE.format(source.convert)
    ours: dict[str, Any] = {"name": f"{source.name} of its authors", "has": list(source.marks)}
    ours |= {"lacks": list(source.lacks), "rows": _single(rows[0])}
    there = {"name": f"diffusers, {source.name}", "has": list(source.theirs), "rows": _single(rows[1])}
    ends = (
        {"rotary": "diffusers", "names": spelled, "source": convert, "checked": "run"},
        {
            "rotary": "diffusers",
            "source": convert,
            "checked": "run",
        },
    )
    return [{k: v for k, v in {**ours, **ends[0]}.items() if v}, {k: v for k, v in {**there, **ends[1]}.items() if v}]


def _groups(found: Mapping[str, Pieces]) -> dict[str, list[str]]:
    """The keys of the model that are made of each of the checkpoint's, in the order of their rows."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for target, pieces in found.items():
        groups[pieces[0][0]].append((pieces[0][1], target))
    return {key: [target for _, target in sorted(parts)] for key, parts in groups.items()}


def _single(said: Mapping[str, set[str]]) -> dict[str, str]:
    return {run: next(iter(texts)) for run, texts in said.items() if len(texts) == 1}


ALIKE = "all by part"  # one tensor for one, its rows as they are


def _module(key: str) -> str:
    """The module of a leaf, indices folded; a bare parameter is its own."""
    path = key.rpartition(".")[0] if key.endswith((".weight", ".bias", ".scale")) else key
    segments = path.split(".")
    pairs = zip(["", *segments], segments, strict=False)
    return ".".join("{}" if s.isdigit() and above in LISTS else s for above, s in pairs)


def _fused(targets: Sequence[str]) -> tuple[str, str] | None:
    """The roles of parts, and the name of the whole that they make beside others: none where it is an MLP's as well."""
    ends = [re.search(r"(?:to_|add_)([qkv])(?:_proj)?$|proj_(mlp)$", target) for target in targets]
    parts = [end[1] or end[2] for end in ends if end]
    if len(parts) < len(targets):
        return None
    name = re.sub(r"(to_|add_)[qkv](_proj)?$", rf"\g<1>{''.join(parts)}\2", targets[0])
    return " ".join(parts), "" if "mlp" in parts else name


def main() -> None:
    """Print what each converter was found to do, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--pairs", type=Path)
    given = parser.parse_args()
    sources = [source for source in SOURCES if given.only in source.name]
    if given.pairs:
        lines = "".join(json.dumps(case_of(source)) + "\n" for source in sources)
        with lzma.open(given.pairs, "wt", encoding="utf-8") as file:
            file.write(lines)
    rows = [entry for source in sources for entry in entries_of(source)]
    if given.write:
        write(rows)
    else:
        print("\n".join(json.dumps(row) for row in rows))


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the entries into the table, in the place of those of the same names."""
    lines = TABLE.read_text("utf-8").splitlines()
    head, tail = lines.index('  "layouts": [') + 1, lines.index("  ],")
    held = {json.loads(line.rstrip(","))["name"]: line.rstrip(",") for line in lines[head:tail]}
    held |= {row["name"]: f"    {json.dumps(row)}" for row in rows}
    TABLE.write_text("\n".join([*lines[:head], ",\n".join(held.values()), *lines[tail:]]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
