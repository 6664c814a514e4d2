"""A list whose members are built in several ways: its blocks, by themselves, are a list of their own."""

from __future__ import annotations

from aligning import aligned, certain_pairs

from treealign.align.words import tokens

BLOCKS = 3
NAMES = {"norm.weight": (8,), "norm.bias": (8,), "up.weight": (32, 8), "up.bias": (32,), "down.weight": (8, 32)}


def pipeline(name="sequential", first=2):
    """Embedding, nothing, blocks, a norm and a head in one Sequential, as GPT-NeoX was trained."""
    blocks = {f"{name}.{first + n}.{leaf}": shape for n in range(BLOCKS) for leaf, shape in NAMES.items()}
    ends = {f"{name}.0.word_embeddings.weight": (50, 8), f"{name}.{first + BLOCKS + 1}.norm.weight": (8,)}
    return blocks | ends


def model():
    blocks = {f"model.layers.{n}.{leaf}": shape for n in range(BLOCKS) for leaf, shape in NAMES.items()}
    return blocks | {"model.word_embeddings.weight": (50, 8), "model.final_norm.weight": (8,)}


def test_the_blocks_of_a_sequential_are_counted_among_themselves():
    pairs = certain_pairs(aligned(pipeline(), model()))
    assert {pairs[f"sequential.{2 + n}.{leaf}"] for n in range(BLOCKS) for leaf in NAMES} == {
        f"model.layers.{n}.{leaf}" for n in range(BLOCKS) for leaf in NAMES
    }


def test_a_list_of_another_name_is_not_known_to_run_the_same_way():
    suggestion = aligned(pipeline("pyramid"), model())
    assert not [m for m in suggestion.matches if m.certain and ".up." in m.checkpoint[0]]


def test_blocks_that_differ_by_a_shortcut_are_of_one_kind():
    shortcut = {"sequential.3.shortcut.weight": (8, 8)}
    pairs = certain_pairs(aligned(pipeline() | shortcut, model() | {"model.layers.1.shortcut.weight": (8, 8)}))
    assert pairs["sequential.4.up.weight"] == "model.layers.2.up.weight"


def stages(name, numbers, scale, widths=(8, 16, 24)):
    return {
        f"{name}.{number}.{block}.{scale}_{k}": (width,)
        for number, width in zip(numbers, widths, strict=True)
        for block in range(3)
        for k in (1, 2)
    }


def test_a_list_inside_a_list_runs_as_the_outer_one_of_which_shapes_tell():
    """PoolFormer's stages are 0, 2, 4 of a list that holds the embeddings between them."""
    between = {f"network.{n}.proj.weight": (width, 3, 2, 2) for n, width in ((1, 16), (3, 24))}
    checkpoint = stages("network", (0, 2, 4), "layer_scale") | between
    there = {f"encoder.embeds.{n}.proj.weight": (width, 3, 2, 2) for n, width in ((0, 16), (1, 24))}
    pairs = certain_pairs(aligned(checkpoint, stages("encoder.block", (0, 1, 2), "layer_scale") | there))
    assert pairs["network.4.1.layer_scale_2"] == "encoder.block.2.1.layer_scale_2"


def test_a_number_in_a_name_that_both_sides_spell_trades_places_with_no_index():
    pairs = certain_pairs(aligned(stages("stages", (0, 1, 2), "scale"), stages("blocks", (0, 1, 2), "scale")))
    assert pairs["stages.2.0.scale_1"] == "blocks.2.0.scale_1"


def test_a_fused_leaf_left_over_in_a_block_that_is_known_is_no_chance():
    """Phi 1.5 counts its embedding as layer 0, so that its fused projections fold otherwise than those of the model."""
    here = {f"layers.{n + 1}.mixer.Wqkv.weight": (48, 8) for n in range(2)}
    there = {f"model.layers.{n}.attn.{part}_proj.weight": (16, 8) for n in range(2) for part in "qkv"}
    around = {"mlp.fc1.weight": (32, 8), "mlp.fc1.bias": (32,), "ln.weight": (8,), "ln.bias": (8,)}
    checkpoint = here | {f"layers.{n + 1}.{leaf}": shape for n in range(2) for leaf, shape in around.items()}
    checkpoint |= {"layers.0.wte.weight": (50, 8), "layers.3.ln.weight": (8,), "layers.3.ln.bias": (8,)}
    target = there | {f"model.layers.{n}.{leaf}": shape for n in range(2) for leaf, shape in around.items()}
    target |= {"model.wte.weight": (50, 8), "model.ln_f.weight": (8,), "model.ln_f.bias": (8,)}
    (question,) = (q for q in aligned(checkpoint, target).questions if set(here) & set(q.checkpoint))
    assert question.about == "rows"


def test_a_mean_and_a_variance_are_no_parts_of_anything():
    old = {"a.bn.running_mean": (4,), "a.bn.running_var": (4,), "a.bn.weight": (4,), "x.weight": (4, 4)}
    new = {"b.norm.running_mean": (8,), "b.norm.weight": (4,), "x.weight": (4, 4)}
    assert not [m for m in aligned(old, new).matches if m.operations]


def test_what_holds_an_attention_is_read_beside_what_is_a_part_of_it():
    found = {t.text for t in tokens(("decoder", "blocks", "0", "cross_attn", "query", "weight"))}
    assert {"@cross attn", "@q"} <= found


def test_leaves_of_a_module_follow_what_is_certain_of_it():
    """Of a batch norm alone its running mean may tell whose it is."""
    norm = {"weight": (8,), "bias": (8,), "running_mean": (8,), "running_var": (8,)}
    old = {f"bn1.{leaf}": shape for leaf, shape in norm.items()} | {"se.expand.bias": (8,), "se.expand.weight": (8, 2)}
    new = {f"depthwise_norm.{leaf}": shape for leaf, shape in norm.items()}
    new |= {"se.expand.bias": (8,), "se.expand.weight": (8, 2)}
    pairs = certain_pairs(aligned(old, new))
    assert {pairs.get(f"bn1.{leaf}") for leaf in norm} in ({f"depthwise_norm.{leaf}" for leaf in norm}, {None})


def test_a_list_of_which_a_member_of_the_same_kind_goes_beside_it_may_be_shifted():
    """Four linears of one kind, the first of them beside the list of the other side: which three are in it?"""
    old = {f"head.layers.{n}.weight": (16, 16) for n in range(4)} | {"head.layers.4.norm.scale": (16,)}
    new = {f"head.layers.{n}.weight": (16, 16) for n in range(3)}
    new |= {"head.proj_in.weight": (16, 16), "head.out_norm.scale": (16,)}
    assert not [key for key in certain_pairs(aligned(old, new)) if key.endswith("weight")]
