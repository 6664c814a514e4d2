"""The story this library began with: modules of models came to stand elsewhere, and their checkpoints did not.

Each chapter is a model and a checkpoint from before: what happens when it is loaded, saved, saved by the plain
`save_pretrained` of transformers, when the mapping is emitted for it, and when the two versions are audited.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from real_conversions import BY_HAND
from real_models import build, old_altclip, renamed, tiny
from real_renames import LEVELS_GONE, SAM, TEXT, VISION
from real_timm import TimmWrapper
from safetensors.torch import load_file
from torch import nn
from weights import keys, saved_keys, state, write

from treealign import TreealignError, audit, emit, load, read_tree, save, suggest
from treealign.changes.repairing import repairs, write_repairs
from treealign.dialects.reading import read_mapping

ROOT = Path(__file__).parent.parent
CLIP = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 8}


def old_llava(key):
    """As transformers 4.51 had it: whole models in the model, each with levels of its own."""
    key = re.sub(r"^model\.vision_tower\.", "vision_tower.vision_model.", key)
    key = re.sub(r"^model\.language_model\.", "language_model.model.", key)
    return re.sub(r"^lm_head\.", "language_model.lm_head.", key).removeprefix("model.")


class Chapter(NamedTuple):
    """A model, how its keys were called before, and a module of it before and now."""

    name: str
    make: object
    before: object
    old: str
    new: str


LLAVA = next(one for one in LEVELS_GONE if one.name == "llava").make
CHAPTERS = [
    Chapter("llava", LLAVA, old_llava, "vision_tower.vision_model.encoder", "model.vision_tower.encoder"),
    Chapter("clip", tiny("CLIPVisionModel", **VISION), "vision_model.{}".format, "vision_model.encoder", "encoder"),
    Chapter(
        "chinese clip",
        tiny("ChineseCLIPVisionModel", **VISION),
        "vision_model.{}".format,
        "vision_model.embeddings",
        "embeddings",
    ),
    Chapter(
        "altclip",
        tiny("AltCLIPModel", **{**CLIP, "text_config": {**TEXT, "project_dim": 8}}),
        old_altclip,
        "vision_model.vision_model.encoder",
        "vision_model.encoder",
    ),
    Chapter(
        "sam",
        tiny("SamVisionModel", **SAM),
        lambda key: key.removeprefix("vision_encoder."),
        "patch_embed",
        "vision_encoder.patch_embed",
    ),
    Chapter("timm wrapper", TimmWrapper, lambda key: key.removeprefix("timm_model."), "blocks", "timm_model.blocks"),
    Chapter("base model in a head", tiny("BertForMaskedLM", **TEXT), None, "encoder", "bert.encoder"),
    Chapter("head around a base model", tiny("BertModel", **TEXT), "bert.{}".format, "bert.encoder", "encoder"),
]


class Told(NamedTuple):
    chapter: Chapter
    folder: Path
    model: nn.Module
    original: nn.Module
    result: object


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda chapter: chapter.name)
def told(request, tmp_path_factory):
    """A chapter whose checkpoint was loaded."""
    chapter, folder = request.param, tmp_path_factory.mktemp("before")
    original, model = build(chapter.make, 0), build(chapter.make, 1)
    whole = chapter.before is not None
    renamed(chapter.before or str, original if whole else original.base_model, folder)
    return Told(chapter, folder, model, original, load(model, folder, strict=whole))


def test_it_loads_whole(told):
    """Of a head around a base model, all that the checkpoint of the base model holds."""
    got, head = told.model.state_dict(), "cls." if told.chapter.before is None else "no head"
    assert not told.result.unexpected_keys
    assert [key for key in told.result.missing_keys if not key.startswith(head)] == []
    wanted = {key: tensor for key, tensor in told.original.state_dict().items() if not key.startswith(head)}
    assert [key for key in wanted if not torch.equal(got[key], wanted[key])] == []


def test_it_is_saved_as_it_came(told, tmp_path):
    """Byte for byte; beside what the checkpoint never had."""
    save(told.model, tmp_path)
    got, given = tmp_path / "model.safetensors", told.folder / "model.safetensors"
    if told.chapter.before is not None:
        assert got.read_bytes() == given.read_bytes()
    saved = load_file(got)
    assert [key for key, tensor in load_file(given).items() if not torch.equal(tensor, saved[key])] == []


def test_plain_save_pretrained_writes_the_names_it_came_with(told, tmp_path):
    """The wrapper here stands for that of transformers, and is saved by `save` alone."""
    (save if isinstance(told.model, TimmWrapper) else type(told.model).save_pretrained)(told.model, tmp_path)
    assert keys(told.folder / "model.safetensors") <= saved_keys(tmp_path)


def test_what_is_emitted_names_the_modules_as_transformers_does(told):
    """`emit` has loaded and saved by it: the names of one module stand for all."""
    rules = emit(told.result.mapping, live=True, checkpoint=told.folder, model=told.model)
    name = next(key for key in keys(told.folder / "model.safetensors") if key.startswith(told.chapter.old))
    made = name
    for rule in rules:
        made = rule.rename_source_key(made)[0]
    assert made == told.chapter.new + name.removeprefix(told.chapter.old)
    for rule in reversed(rules):
        made = rule.reverse_transform().rename_source_key(made)[0]
    assert made == name


def test_an_audit_says_that_old_checkpoints_load_and_old_paths_are_gone(told):
    found = audit(read_tree(told.folder / "model.safetensors"), told.model)
    assert found.rename(told.chapter.old) == told.chapter.new
    assert {change.severity.loads for change in found.changes if change.severity.resolves == "no"} == {"mapped"}


# -- what asks, what is mixed, what is new -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rf_detr(tmp_path_factory):
    """Its published checkpoint, written by transformers, and the mapping by hand."""
    one = next(one for one in BY_HAND if "rf detr" in one.name)
    folder = tmp_path_factory.mktemp("rf_detr")
    original, model = build(one.make, 0), build(one.make, 1)
    one.write(original, folder)
    return folder, original, model, one.mapping(folder, model)


def test_rf_detr_is_refused_with_what_its_names_do_not_say(rf_detr):
    """Numbered norms, convolutions that hold the same, and how the rows of q, k and v lie in one parameter."""
    folder, _, model, _ = rf_detr
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(TreealignError, match="nothing was loaded"):
        load(model, folder)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert {question.about for question in suggest(folder, model).questions} == {"names", "belongs", "order", "rows"}


def test_rf_detr_loads_and_comes_back_by_a_mapping(rf_detr, tmp_path):
    folder, original, model, mapping = rf_detr
    load(model, folder, mapping)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), original.state_dict().values(), strict=True)
    )
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "plain")
    given = keys(folder / "model.safetensors")
    assert saved_keys(tmp_path / "ours") == given == saved_keys(tmp_path / "plain")


def clip_vision(seed):
    return build(tiny("CLIPVisionModel", **VISION), seed)


def test_a_checkpoint_of_both_namings_goes_back_as_it_came(tmp_path):
    """Half of the modules moved already: each key keeps the name under which it came."""
    mixed = state(clip_vision(0), lambda key: key if "layers.1" in key else f"vision_model.{key}")
    path, model = write(tmp_path / "model.safetensors", mixed), clip_vision(1)
    load(model, path)
    save(model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_fresh_model_is_saved_under_its_own_names(tmp_path):
    """By its plain `save_pretrained`, too: no checkpoint says otherwise."""
    model = clip_vision(0)
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "plain")
    assert saved_keys(tmp_path / "ours") == saved_keys(tmp_path / "plain") == set(model.state_dict())


@pytest.mark.parametrize(
    ("entry", "keys", "wanted"),
    [
        ("CLIPVisionModel", ["vision_model.encoder.w", "encoder.w"], ["encoder.w", "encoder.w"]),
        ("timm_wrapper", ["blocks.0.w", "timm_model.blocks.0.w"], ["timm_model.blocks.0.w", "timm_model.blocks.0.w"]),
        (
            "sam3_tracker",
            ["tracker_model.mask_decoder.w", "tracker_neck.w"],
            ["mask_decoder.w", "vision_encoder.neck.w"],
        ),
    ],
)
def test_patterns_for_all_that_follows_are_read_and_run(entry, keys, wanted):
    r"""``(.+)`` and ``\\1`` say a level that comes or goes: `read_mapping` reads it, or says why not and runs it."""
    read = read_mapping(entry)
    assert list(read.run(keys).values()) == wanted
    assert len(read.mapping) + len(read.unread) == len(read.rules)


def test_a_test_of_a_trainer_that_spells_old_names_is_repaired(tmp_path):
    """Parameters that training leaves alone were passed over by names that nothing has any more."""
    shutil.copy(ROOT / "data" / "stale-names" / "check_training.py", tmp_path)
    old, new = (ROOT / "data" / "llava-1.5-7b" / f"transformers-{release}.json" for release in ("4.52", "5.24"))
    found = audit(old, new).scan([tmp_path])
    assert {one.status for one in found.references} >= {"matches nothing"}
    assert write_repairs(repairs(found.translation, found.references)) == ()
    text = (tmp_path / "check_training.py").read_text()
    assert '"model.vision_tower.encoder.layers.1" in name' in text
    assert "model.vision_tower.embeddings.patch_embedding.weight" in text
