"""One matrix that is made of an attention's q, k and v and of what runs beside that attention."""

from __future__ import annotations

import pytest
from aligning import aligned
from cases import read_cases

from treealign import suggest

WIDTH, MLP = 16, 40
BLOCKS = [  # the fused matrix, what q, k and v stand in, and what stands beside that
    ("linear1", "attn.to_{}", ["proj_mlp"]),
    ("in_proj", "attention.{}_proj", ["ff_in"]),
    ("fused", "self_attn.w{}", ["gate_proj", "up_proj"]),
]


def parallel_blocks(whole, inside, beside):
    rows = {**{inside.format(part): WIDTH for part in "qkv"}, **dict.fromkeys(beside, MLP)}
    fused = {whole: (sum(rows.values()), WIDTH), "norm": (WIDTH,)}
    apart = {**{name: (count, WIDTH) for name, count in rows.items()}, "norm": (WIDTH,)}
    return tuple(
        {f"{layers}.{i}.{name}.weight": shape for i in range(2) for name, shape in side.items()}
        for layers, side in (("blocks", fused), ("layers", apart))
    )


@pytest.mark.parametrize(("whole", "inside", "beside"), BLOCKS, ids=[whole for whole, *_ in BLOCKS])
@pytest.mark.parametrize("joined", [False, True])
def test_the_parts_of_a_parallel_layer_are_asked_of_together_though_they_stand_at_two_levels(
    whole, inside, beside, joined
):
    fused, apart = parallel_blocks(whole, inside, beside)
    found = aligned(apart, fused) if joined else aligned(fused, apart)
    orders = [option.text for question in found.questions if question.about == "order" for option in question.options]
    parts = [inside.format(part).rpartition(".")[2] for part in "qkv"]
    assert ", ".join([*parts, *beside]) in orders
    assert ", ".join([*beside, *parts]) in orders
    while found.questions:
        found = found.answer(found.questions[0], found.questions[0].options[0])
    assert found.ok


@pytest.mark.parametrize("name", ["single/Chroma", "single/HunyuanVideo"])
def test_the_single_blocks_of_diffusion_transformers_are_known(name):
    assert suggest(*next(read_cases("single_files", name)).trees()).ok
