"""A module that a model uses in several places, written out once for each of them in the checkpoint."""

from __future__ import annotations

import pytest
from aligning import certain_pairs, tree

from treealign import suggest

HEAD = {"0.weight": (16, 16), "0.bias": (16,), "1.weight": (4, 16), "1.bias": (4,)}
LAYER = {"q.weight": (16, 16), "q.bias": (16,), "k.weight": (16, 16), "k.bias": (16,), "norm.weight": (16,)}
LAYERS = 3


def detector(above, *heads):
    """Decoder layers below a level, and the leaves of a head that each layer has, under each of these names."""
    layers = {f"{above}decoder.layers.{i}.attn.{key}": shape for i in range(LAYERS) for key, shape in LAYER.items()}
    return layers | {
        f"{head}.{i}.layers.{key}": shape for head in heads for i in range(LAYERS) for key, shape in HEAD.items()
    }


@pytest.mark.parametrize("above", ["transformer.", "model.", "", "detector.model."])
def test_what_is_tied_in_the_model_and_written_out_in_the_checkpoint_fills_no_other_place(above):
    model = detector("model.", "model.decoder.box", "box")
    checkpoint = detector(above, f"{above}decoder.box", "box")
    first = {key: f"model.decoder.box.0.layers.{key}" for key in HEAD}
    tied = {key: first[key.partition(".layers.")[2]] for key in model if "box." in key and key not in first.values()}
    found = suggest(tree(checkpoint), tree(model, ordered=True, tied=tied))
    assert not found.missing_keys
    assert not found.questions
    assert certain_pairs(found)[f"{above}decoder.box.0.layers.1.bias"] == first["1.bias"]


def test_a_name_of_another_shape_is_no_second_name():
    model = {"model.decoder.box.0.weight": (4, 8), "model.decoder.box.1.weight": (4, 8), "model.out.weight": (4, 6)}
    checkpoint = {"net.decoder.box.0.weight": (4, 8), "net.decoder.box.1.weight": (4, 6)}
    tied = {"model.decoder.box.1.weight": "model.decoder.box.0.weight"}
    found = suggest(tree(checkpoint), tree(model, ordered=True, tied=tied))
    assert [m.model for m in found.matches if m.checkpoint == ("net.decoder.box.1.weight",)] == [("model.out.weight",)]
