"""Patches for faults that `lint` finds in transformers 5.24: what each claims fails there, and holds with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from real_models import tiny
from real_renames import VISION
from releases import need_entry

PATCHES = sorted((Path(__file__).parent.parent / "data" / "upstream").glob("*.patch"))


def renamed(rules, key):
    from transformers.core_model_loading import rename_source_key

    return rename_source_key(key, rules, [])[0]


def a_dot_is_a_dot(registry):
    """A layer scale is no layer: nothing but `layer.` gets the level."""
    (rule,) = registry.get_checkpoint_conversion_mapping("dinov3_vit")
    key = "model.layer.0.layer_scale1.lambda1"
    return rule.rename_source_key(key)[0] == key and rule.rename_source_key("layer.0.w")[0] == "model.layer.0.w"


def every_rule_has_keys(registry):
    """Of the correction bias no rule has to speak: one that takes all of its module goes before."""
    rules = [
        rule for rule in registry.get_checkpoint_conversion_mapping("minimax_m2") if not hasattr(rule, "operations")
    ]
    renamed(rules, "model.layers.0.block_sparse_moe.e_score_correction_bias")
    return all(rule.was_used() for rule in rules if "e_score" in str(rule.source_patterns))


def heads_stay(registry):
    """The heads stand beside the body, and keep their names."""
    rules = registry.get_checkpoint_conversion_mapping("RfDetrForObjectDetection")
    own, body = "class_embed.bias", "query_feat.weight"
    return renamed(rules, own) == own and renamed(rules, body) == f"model.{body}"


def old_checkpoints_load(registry):
    """As those of the other CLIPs: under the names from when the vision model stood one level down."""
    model = tiny("XCLIPVisionModel", **VISION)()
    rules = registry.get_model_conversion_mapping(model, add_legacy=False)
    return {renamed(rules, f"vision_model.{key}") for key in model.state_dict()} == set(model.state_dict())


CLAIMS = {
    "dinov3-vit-escaped-dot": ("dinov3_vit", a_dot_is_a_dot),
    "minimax-m2-shadowed-rule": ("minimax_m2", every_rule_has_keys),
    "rf-detr-heads-stay": ("RfDetrForObjectDetection", heads_stay),
    "xclip-class-names": ("xCLIPVisionModel", old_checkpoints_load),
}


@pytest.fixture
def patched(tmp_path, monkeypatch):
    """The registry of transformers as a patch makes it."""

    def make(patch):
        import transformers.conversion_mapping as installed

        place = tmp_path / "src" / "transformers" / "conversion_mapping.py"
        place.parent.mkdir(parents=True)
        shutil.copy(installed.__file__, place)
        subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
        module = ModuleType(installed.__name__)
        module.__package__ = "transformers"
        monkeypatch.setitem(sys.modules, installed.__name__, module)
        exec(compile(place.read_text(encoding="utf-8"), str(place), "exec"), vars(module))
        return module

    return make


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_mends_what_it_says(patch, patched):
    import transformers.conversion_mapping as installed

    entry, holds = CLAIMS[patch.stem]
    need_entry(entry)
    assert (holds(installed), holds(patched(patch))) == (False, True)
