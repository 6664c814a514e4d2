"""A leaf beside a fused one, or beside a container, is certain only where something says it is no part of these."""

from __future__ import annotations

from aligning import aligned, certain_pairs, layers

SQUARE = (8, 8)
MLP = {"mlp.fc1.weight": (32, 8), "mlp.fc2.weight": (8, 32), "norm.weight": (8,)}  # shows which way matrices stand


def attention(**leaves):
    return layers({f"attn.{name}.weight": shape for name, shape in leaves.items()} | MLP)


def of(suggestion, part):
    return {key for key in certain_pairs(suggestion) if part in key}


def test_what_is_fused_of_squares_does_not_tell_its_parts_from_the_square_beside_it():
    old = attention(alpha=SQUARE, beta=SQUARE, gamma_a=SQUARE, delta=SQUARE)
    new = layers({"delta.abc.weight": (24, 8), "delta.out_proj.weight": SQUARE, **MLP})
    assert not of(aligned(old, new), "delta")


def test_the_output_of_an_attention_is_no_part_of_its_fused_projections():
    old = attention(q_proj=SQUARE, k_proj=SQUARE, v_proj=SQUARE, out_proj=SQUARE)
    new = attention(qkv=(24, 8), proj=SQUARE)
    assert of(aligned(old, new), "out_proj")


def test_what_completes_a_fused_leaf_that_is_left_over_is_not_certain_by_its_containers_name():
    """`eta` of the checkpoint may be the third part of `eta.y`: with two that are left over it has the size of that."""
    old = layers({"b.inner.wq.weight": SQUARE, "b.to_k.weight": SQUARE, "b.eta.weight": SQUARE, **MLP})
    new = layers({"eta.y.weight": (24, 8), "eta.proj.weight": SQUARE, **MLP})
    assert not of(aligned(old, new), "eta")


def test_a_role_of_its_own_tells_a_leaf_from_the_parts_of_what_is_left_over():
    old = attention(foo=(12, 8), out_proj=SQUARE)
    new = attention(bar=(20, 8), o_proj=SQUARE)
    assert of(aligned(old, new), "out_proj")


def test_leaves_of_norms_are_judged_whatever_their_parameters_are_called():
    """`zeta` means one norm here and the other there, be their weights called `scale` as in Flax."""
    old = layers({"x.scale": (8,), "x.bias": (8,), "zeta.scale": (8,), "zeta.bias": (8,), "fc1.weight": (32, 8)})
    new = layers(
        {"zeta.weight": (8,), "zeta.bias": (8,), "norm2.weight": (8,), "norm2.bias": (8,), "fc1.weight": (32, 8)}
    )
    assert not of(aligned(old, new), "zeta")


def test_a_tower_that_goes_elsewhere_takes_its_last_norm_with_it():
    """All of `encoder` is the model's root, so that its last norm may be the root's, whatever path is on both sides."""
    block = {"norm1.weight": (4,), "fc.weight": (16, 4)}
    old = layers(block, "encoder.blocks") | {"encoder.last.weight": (4,)}
    old |= layers({"norm1.weight": (4,), "fc.weight": (12, 4)}, "decoder.blocks") | {"decoder.last.weight": (4,)}
    new = layers(block, "blocks") | {"last.weight": (4,)}
    new |= layers({"norm1.weight": (4,), "fc.weight": (12, 4)}, "encoder.blocks") | {"encoder.last.weight": (4,)}
    assert not of(aligned(old, new), "encoder.last")


def test_what_would_leave_its_block_for_its_size_alone_is_not_certain():
    old = {"c.zeta.weight": (12, 12), "c.blocks.0.kernel.weight": (12, 1, 12), "c.blocks.0.norm.weight": (12,)}
    new = {"embed.weight": (12, 12), "c.blocks.0.zeta.weight": (12, 12, 1), "c.blocks.0.norm.weight": (12,)}
    assert not of(aligned(old, new), "zeta")


def test_modules_beside_one_another_do_not_go_to_two_blocks():
    old = {"layer.a_0.mlp.fc1.bias": (8,), "layer.a_0.mlp.fc2.bias": (8,), "layer.a_0.out.weight": (5, 8)}
    new = layers({"mlp.lin2.bias": (8,), "mlp.w12.bias": (16,), "out.weight": (5, 8)}, "layer")
    assert not of(aligned(old, new), "fc")


def test_no_number_of_other_leaves_makes_either_doubt_go():
    """Pairs are compared up to a bound, and beyond it all are open; what is left over is counted by its size."""
    more = {f"t{n}.mid.last.weight": (4,) for n in range(30)}
    block = {"norm1.weight": (4,), "fc.weight": (16, 4)}
    other = {"norm1.weight": (4,), "fc.weight": (12, 4)}
    old = layers(block, "encoder.blocks") | layers(other, "decoder.blocks")
    new = layers(block, "blocks") | layers(other, "encoder.blocks")
    old |= {"encoder.last.weight": (4,), "decoder.last.weight": (4,)} | more
    new |= {"last.weight": (4,), "encoder.last.weight": (4,)} | more
    assert not of(aligned(old, new), "coder.last")
    spare = {f"b.z{n}.weight": (5 + n, 3) for n in range(20)}
    parts = {"b.inner.wq.weight": SQUARE, "b.to_k.weight": SQUARE, "b.eta.weight": SQUARE}
    whole = {"eta.y.weight": (24, 8), "eta.proj.weight": SQUARE}
    assert not of(aligned(layers(parts | spare | MLP), layers(whole | MLP)), "eta")


def test_one_biased_matrix_of_each_side_settles_no_square():
    """The two may be no counterparts, and the squares of another kind."""
    squares = {f"attn.w{part}.weight": (16, 16) for part in "qkvo"}
    named = {f"self_attn.{part}_proj.weight": (16, 16) for part in "qkvo"}
    old = layers({**squares, "lin.weight": (64, 16), "lin.bias": (64,)})
    new = layers({**named, "gate.weight": (48, 16), "gate.bias": (48,)})
    assert not of(aligned(old, new), "attn")


def test_an_auxiliary_head_is_no_classifier():
    body = {"backbone.fc.weight": (16, 8)}
    old, new = (
        {**body, "aux_head.weight": (5, 16)},
        {**body, "classifier.weight": (5, 16), "final.proj.weight": (5, 16)},
    )
    assert not of(aligned(old, new), "aux")
