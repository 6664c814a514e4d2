"""Numbers in names are places in lists: they settle only what something besides the numbers confirms."""

from __future__ import annotations

from aligning import aligned, certain_pairs, guessed_pairs, tree

from treealign import KeyTree, suggest
from treealign.align.words import tokens


def roles(path):
    return {t.text for t in tokens(tuple(path.split("."))) if t.text[0] == "@"}


def fusion(name, first=0):
    return {f"head.{name}{n}.{part}.weight": (8, 8) for n in range(first, first + 4) for part in ("alpha", "gamma_x")}


def test_two_lists_of_unrelated_names_are_not_certain_to_run_the_same_way():
    """Depth heads number their fusion levels from the inside or from the outside."""
    suggestion = aligned(fusion("refine", 1), fusion("fusion."))
    assert not certain_pairs(suggestion)
    assert suggestion.ambiguous


def test_two_lists_of_names_for_layers_run_the_same_way():
    suggestion = aligned(fusion("layer", 1), fusion("blocks."))
    assert certain_pairs(suggestion)["head.layer1.alpha.weight"] == "head.blocks.0.alpha.weight"


def test_shapes_along_unrelated_lists_tell_which_way_they_run():
    def pyramid(name):
        return {f"{name}{n}.delta.weight": (8 + n, 8) for n in range(4)}

    suggestion = aligned(fusion("refine", 1) | pyramid("head.refine"), fusion("fusion.") | pyramid("head.fusion."))
    assert not {k for m in suggestion.matches if not m.certain for k in m.model if k.endswith("3.alpha.weight")}


def two_kinds(name, long):
    """Blocks of one width; those of these numbers have a layer more."""
    found = {}
    for n in range(7):
        between = [(32, 32, 3, 3)] * (2 if n in long else 1)
        for k, shape in enumerate([(32, 8, 1, 1), *between, (8, 32, 1, 1)]):
            found |= {f"{name}.{n}.{k}.0.weight": shape, f"{name}.{n}.{k}.1.weight": shape[:1]}
    return found


def test_a_list_of_which_some_numbers_fall_does_not_rise_with_the_others():
    """The long blocks 0, 1 and 6 are 6, 5 and 0 on the other side: it counts from the end, with all blocks."""
    pairs = certain_pairs(aligned(two_kinds("trunk", (0, 1, 6)), two_kinds("pile", (6, 5, 0))))
    assert pairs.get("trunk.2.0.0.weight", "pile.4.0.0.weight") == "pile.4.0.0.weight"


def test_a_list_that_spills_into_names_beside_it_is_not_matched_by_number():
    """SAM's MLPs: layers 0, 1, 2 are proj_in, layers.0 and proj_out of another library."""
    old = {f"mlp.layers.{n}.weight": (16, 16) for n in range(3)}
    new = {f"mlp.{name}.weight": (16, 16) for name in ("proj_in", "layers.0", "proj_out")}
    assert not certain_pairs(aligned(old, new))


def test_a_longer_list_alone_is_matched_by_number():
    old = {f"mlp.layers.{n}.weight": (16, 16) for n in range(3)}
    pairs = certain_pairs(aligned(old, {f"mlp.layers.{n}.weight": (16, 16) for n in range(2)}))
    assert pairs == {f"mlp.layers.{n}.weight": f"mlp.layers.{n}.weight" for n in range(2)}


def test_w1_and_w2_without_w3_do_not_tell_which_is_the_gate():
    """Qwen 1 calls its gate w2 and its up-projection w1."""
    old = {
        f"h.{n}.mlp.{k}.weight": s for n in range(2) for k, s in (("w1", (9, 4)), ("w2", (9, 4)), ("c_proj", (4, 9)))
    }
    names = (("gate_proj", (9, 4)), ("up_proj", (9, 4)), ("down_proj", (4, 9)))
    suggestion = aligned(old, {f"h.{n}.mlp.{k}.weight": s for n in range(2) for k, s in names})
    assert not {"h.0.mlp.w1.weight", "h.0.mlp.w2.weight"} & set(certain_pairs(suggestion))


def test_w1_and_w2_beside_w3_are_gate_and_down():
    old = {f"h.{n}.mlp.{k}.weight": (9, 9) for n in range(2) for k in ("w1", "w2", "w3")}
    new = {f"h.{n}.mlp.{k}.weight": (9, 9) for n in range(2) for k in ("gate_proj", "up_proj", "down_proj")}
    assert guessed_pairs(aligned(old, new))["h.1.mlp.w2.weight"] == "h.1.mlp.down_proj.weight"


def test_whole_numbers_never_match_real_ones_of_the_same_shape():
    checkpoint = tree([("attn.index", (4, 4), "int64"), ("attn.scale.weight", (4,), "float32")])
    model = tree([("attn.proj.weight", (4, 4), "float32"), ("attn.scale.weight", (4,), "float32")], ordered=True)
    suggestion = suggest(checkpoint, model)
    assert suggestion.unexpected_keys == ("attn.index",)
    assert suggestion.missing_keys == ("attn.proj.weight",)


def test_hidden_units_are_no_layers():
    assert roles("layers.{}.mlp.dense_h_to_4h.weight") == {"@up", "@mlp"}
    assert roles("layers.{}.mlp.dense_4h_to_h.weight") == {"@down", "@mlp"}


def test_a_second_norm_of_one_name_has_the_roles_of_the_first():
    assert roles("blk.{}.attn_norm_2.weight") == roles("blk.{}.attn_norm.weight")


def test_an_index_that_was_not_folded_is_an_index_all_the_same():
    assert roles("blocks.1.layernorm_before.weight") == roles("blocks.{}.layernorm_before.weight")


def test_layers_counted_from_one_are_split_into_layers_counted_from_nought():
    old = {f"layers.{n}.mixer.Wqkv.weight": (12, 6) for n in range(1, 4)}
    new = {f"model.layers.{n}.self_attn.{k}_proj.weight": (4, 6) for n in range(3) for k in "qkv"}
    match = next(m for m in aligned(old, new).matches if m.checkpoint == ("layers.1.mixer.Wqkv.weight",))
    assert {k.split(".")[2] for k in match.model} == {"0"}


def test_levels_that_shapes_move_alike_move_the_whole_list():
    """MobileNet's stem is the first member of the list in one library and stands beside it in another."""
    sizes = (8, 16, 24, 24, 24, 32, 40)
    old = {f"features.{n + 1}.conv.weight": (size, size, 3, 3) for n, size in enumerate(sizes)}
    new = {f"layer.{n}.conv.weight": (size, size, 3, 3) for n, size in enumerate(sizes)}
    pairs = guessed_pairs(
        aligned({"features.0.conv.weight": (3, 3, 3, 3)} | old, {"stem.conv.weight": (3, 3, 3, 3)} | new)
    )
    assert pairs["features.4.conv.weight"] == "layer.3.conv.weight"


def test_a_sequential_of_convolutions_and_norms_is_no_repeat():
    old = {f"stem.{n}.weight": s for n, s in enumerate(((8, 3, 3, 3), (8,), (8, 8, 3, 3), (8,)))}
    new = {"a.weight": (8, 3, 3, 3), "n.weight": (8,), "b.weight": (8, 8, 3, 3), "m.weight": (8,)}
    assert guessed_pairs(aligned(old, new))["stem.2.weight"] == "b.weight"


def test_a_list_is_unfolded_along_the_index_whose_members_differ():
    """Three layers of three sublayers: the norms of one sublayer in all layers belong together."""
    inner = {"0": "SelfAttention.q", "1": "EncDecAttention.q", "2": "DenseReluDense.wi"}
    checkpoint = [
        (f"decoder.block.{n}.layer.{m}.{name}.weight", shape, "float32")
        for n in range(3)
        for m, function in inner.items()
        for name, shape in ((function, (8, 16)), ("layer_norm", (16,)))
    ]
    names = {"attn_q": (8, 16), "cross_attn_q": (8, 16), "ffn_up": (8, 16)}
    names |= {"attn_norm": (16,), "cross_attn_norm": (16,), "ffn_norm": (16,)}
    model = [(f"dec.blk.{n}.{name}.weight", shape, "float32") for n in range(3) for name, shape in names.items()]
    suggestion = suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    found = {m.checkpoint[0]: m.model[0] for m in suggestion.matches}
    assert found["decoder.block.2.layer.0.layer_norm.weight"] == "dec.blk.2.attn_norm.weight"
    assert found["decoder.block.0.layer.1.layer_norm.weight"] == "dec.blk.0.cross_attn_norm.weight"
    assert found["decoder.block.1.layer.2.layer_norm.weight"] == "dec.blk.1.ffn_norm.weight"


def residual(path, norms):
    return [(f"{path.format(n)}.{name}", shape, "float32") for n in range(3) for name, shape in norms(n).items()]


def test_numbered_norms_are_matched_for_themselves_where_a_block_lacks_one():
    """The first block has no expansion, so that its first norm is that of the depthwise convolution."""
    first, second = (16, 32, 64), (8, 16, 16)
    checkpoint = residual(
        "blocks.{}",
        lambda n: {f"bn{k + 1}.weight": (s,) for k, s in enumerate(([first[n]] if n else []) + [first[n], second[n]])},
    )
    model = residual(
        "blocks.{}",
        lambda n: (
            ({"expand.bn.weight": (first[n],)} if n else {})
            | {"depthwise.bn.weight": (first[n],), "project.bn.weight": (second[n],)}
        ),
    )
    suggestion = suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    wrong = ("blocks.1.bn1.weight", "blocks.1.depthwise.bn.weight")
    assert wrong not in [(m.checkpoint[0], m.model[0]) for m in suggestion.matches if m.certain]


def test_two_indices_that_may_trade_places_are_not_certain():
    checkpoint = [(f"layer1.{i}.conv{n}.weight", (8, 8, 3, 3), "float32") for i in range(2) for n in (1, 2)]
    model = [(f"layers.{i}.layer.{n}.convolution.weight", (8, 8, 3, 3), "float32") for i in range(2) for n in range(2)]
    suggestion = suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    found = {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.certain}
    assert (
        found.get("layer1.0.conv2.weight", "layers.0.layer.1.convolution.weight")
        == "layers.0.layer.1.convolution.weight"
    )
