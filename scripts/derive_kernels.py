"""Check what Flax and Keras say of kernels by definition: their layers beside those of torch, with the same numbers.

    python scripts/derive_kernels.py

Dense, convolutions over one and two dimensions, and the attention of several heads of either library are given random
numbers; the layer of torch gets them turned as the entries `Kernels of Flax and Keras`, `Flax
MultiHeadDotProductAttention` and `Keras MultiHeadAttention` say, and must compute the same. Exits 1 where it does not;
what is not installed is named and left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv1d, conv2d, linear

HEADS, ROWS = 3, 4
WIDTH = HEADS * ROWS  # also that of inputs, so that no shape tells one dimension from another
Layer = tuple[Mapping[str, Any], Any]  # its tensors by name, what it makes of the inputs
Library = Callable[[str, np.ndarray], Layer]


def flax_layer(kind: str, inputs: np.ndarray) -> Layer:
    """A layer of Flax."""
    import jax
    from flax import linen

    made = {
        "dense": lambda: linen.Dense(WIDTH),
        "conv1d": lambda: linen.Conv(WIDTH, (3,), padding="VALID"),
        "conv2d": lambda: linen.Conv(WIDTH, (3, 3), padding="VALID"),
        "attention": lambda: linen.MultiHeadDotProductAttention(HEADS),
    }[kind]()
    held = made.init(jax.random.PRNGKey(0), inputs)
    return _flat(held["params"]), np.array(made.apply(held, inputs))


def keras_layer(kind: str, inputs: np.ndarray) -> Layer:
    """A layer of Keras."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras import layers

    made = {
        "dense": lambda: layers.Dense(WIDTH),
        "conv1d": lambda: layers.Conv1D(WIDTH, 3),
        "conv2d": lambda: layers.Conv2D(WIDTH, 3),
        "attention": lambda: layers.MultiHeadAttention(HEADS, ROWS),
    }[kind]()
    x = torch.tensor(inputs)
    out = made(x, x) if kind == "attention" else made(x)
    names = {weight.path.split("/", 1)[1].replace("/", "."): weight.numpy() for weight in made.weights}
    return names, out.detach().numpy()


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: np.array(value)}
    return found


def by_torch(kind: str, held: Mapping[str, Any], inputs: torch.Tensor) -> torch.Tensor:
    """What torch makes of the inputs with these tensors, turned as the entries say."""
    t = {name: torch.tensor(np.array(value)) for name, value in held.items()}
    if kind == "dense":
        return linear(inputs, t["kernel"].permute(1, 0), t["bias"])
    if kind == "conv1d":
        return conv1d(inputs.permute(0, 2, 1), t["kernel"].permute(2, 1, 0), t["bias"]).permute(0, 2, 1)
    if kind == "conv2d":
        made = conv2d(inputs.permute(0, 3, 1, 2), t["kernel"].permute(3, 2, 0, 1), t["bias"])
        return made.permute(0, 2, 3, 1)
    attention, out = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), _out(t)
    with torch.no_grad():
        parts = ("query", "key", "value")
        attention.in_proj_weight.copy_(torch.cat([t[f"{p}.kernel"].reshape(WIDTH, WIDTH).T for p in parts]))
        attention.in_proj_bias.copy_(torch.cat([t[f"{p}.bias"].reshape(WIDTH) for p in parts]))
        attention.out_proj.weight.copy_(t[f"{out}.kernel"].reshape(WIDTH, WIDTH).T)
        attention.out_proj.bias.copy_(t[f"{out}.bias"])
    return attention(inputs, inputs, inputs)[0]


def _out(held: Mapping[str, Any]) -> str:
    return "out" if "out.kernel" in held else "attention_output"


SHAPES = {"dense": (2, 5, WIDTH), "conv1d": (2, 9, WIDTH), "conv2d": (2, 9, 7, WIDTH), "attention": (2, 5, WIDTH)}
LIBRARIES: Mapping[str, Library] = {"Flax": flax_layer, "Keras": keras_layer}


def main() -> int:
    """Run all layers of what is installed."""
    failed, random = 0, np.random.default_rng(0)
    for name, library in LIBRARIES.items():
        for kind, shape in SHAPES.items():
            inputs = random.random(shape, dtype=np.float32)
            try:
                held, made = library(kind, inputs)
            except ImportError as error:
                print(f"{name:6} {kind:10} left out: {error}")
                continue
            same = torch.allclose(by_torch(kind, held, torch.tensor(inputs)), torch.tensor(made), atol=1e-5)
            failed += not same
            print(f"{name:6} {kind:10} {'as the table says' if same else 'WRONG'}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
