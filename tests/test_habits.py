"""What names suggest that shapes cannot show: guessed with its reason, and never certain."""

from __future__ import annotations

import pytest
from aligning import aligned, certain_pairs, guessed_pairs
from cases import read_cases

from treealign import KeyTree, suggest
from treealign.align.doubting.habits import Habits
from treealign.align.doubting.rotary import _is_relative, learned_positions
from treealign.align.links import Link
from treealign.align.patterns import build_patterns
from treealign.mapping.operations import Deinterleave, Interleave, Permute, RotaryPermute, RotaryUnpermute, Split

META = ("attention.{}", "feed_forward.w1", ("wq", "wk", "wv", "wo"))
TORCHTUNE = ("attn.{}", "mlp.w1", ("q_proj", "k_proj", "v_proj", "output_proj"))
GGUF = ("attn_{}", "ffn_gate", ("q", "k", "v", "output"))
TRANSFORMERS = ("self_attn.{}", "mlp.gate_proj", ("q_proj", "k_proj", "v_proj", "o_proj"))
ROWS = (256, 128, 128, 256)


def decoder(spelling, prefix="layers.{}", extra=None):
    """Two layers of a small Llama: four heads of 64 rows, two of keys and values."""
    attention, gate, names = spelling
    leaves = {}
    for layer in map(str, range(2)):
        at = prefix.format(layer)
        for name, rows in zip(names, ROWS, strict=True):
            leaves[f"{at}.{attention.format(name)}.weight"] = (rows, 256)
        leaves[f"{at}.{gate}.weight"] = (300, 256)
        for name, shape in (extra or {}).items():
            leaves[f"{at}.{name}"] = shape
    return leaves


def operations_of(suggestion, part):
    return {m.operations for m in suggestion.matches if any(part in k for k in m.checkpoint)}


def uncertain(suggestion, part):
    return [m for m in suggestion.matches if any(part in k for k in m.checkpoint) and not m.certain]


@pytest.mark.parametrize(
    ("checkpoint", "model", "name", "operation"),
    [
        (decoder(META), decoder(TRANSFORMERS, "model.layers.{}"), "wk", RotaryPermute(1, 128)),
        (decoder(GGUF, "blk.{}"), decoder(TRANSFORMERS, "model.layers.{}"), "attn_q", RotaryPermute(2, 128)),
        (
            decoder(TRANSFORMERS, "model.layers.{}"),
            decoder(TORCHTUNE, extra={"sa_norm.scale": (256,)}),
            "q_proj",
            RotaryUnpermute(2, 128),
        ),
    ],
)
def test_two_libraries_known_for_other_rotary_orders_suggest_the_permutation(checkpoint, model, name, operation):
    suggestion = aligned(checkpoint, model)
    assert operations_of(suggestion, name) == {(operation,)}
    assert len(uncertain(suggestion, name)) == 2


def test_the_question_says_that_the_size_of_a_head_is_a_guess():
    suggestion = aligned(decoder(META), decoder(TRANSFORMERS, "model.layers.{}"))
    assert any("heads of 128 rows are a guess" in question.settled_by for question in suggestion.ambiguous)


def test_rotary_frequencies_tell_the_size_of_a_head():
    suggestion = aligned(decoder(META) | {"rope.freqs": (32,)}, decoder(TRANSFORMERS, "model.layers.{}"))
    assert operations_of(suggestion, "wq") == {(RotaryPermute(4, 64),)}


def test_a_norm_of_the_heads_tells_the_size_of_a_head():
    norms = {"attention.q_norm.weight": (32,)}, {"self_attn.q_norm.weight": (32,)}
    suggestion = aligned(decoder(META, extra=norms[0]), decoder(TRANSFORMERS, "model.layers.{}", norms[1]))
    assert operations_of(suggestion, "wq") == {(RotaryPermute(8, 32),)}


def test_two_libraries_of_one_rotary_order_suggest_no_permutation():
    suggestion = aligned(decoder(META), decoder(GGUF, "blk.{}"))
    assert operations_of(suggestion, "wq") == {()}


def test_gguf_with_biases_is_no_llama_and_suggests_no_permutation():
    biases = {"attn_q.bias": (256,)}, {"self_attn.q_proj.bias": (256,)}
    suggestion = aligned(decoder(GGUF, "blk.{}", biases[0]), decoder(TRANSFORMERS, "model.layers.{}", biases[1]))
    assert operations_of(suggestion, "attn_q.weight") == {()}
    assert uncertain(suggestion, "attn_q.weight")


def fused(name, rows=384):
    return {f"layers.{n}.{name}.weight": (rows, 128) for n in range(2)}


def test_rows_that_stand_head_by_head_are_guessed_into_runs():
    suggestion = aligned(fused("attention.query_key_value"), fused("attn.qkv"))
    assert operations_of(suggestion, "query_key_value") == {(Deinterleave(0, (64, 64, 64)),)}
    assert not certain_pairs(suggestion)


def test_a_turned_matrix_of_rows_by_head_is_guessed_and_asked_of_with_its_bias():
    (case,) = read_cases("originals", "gpt2_megatron__hf")
    (question,) = suggest(*case.trees()).questions
    assert {key.rpartition(".")[2] for key in question.model} == {"weight", "bias"}
    assert "rows by head of 8 in the checkpoint" in [option.text for option in question.options]


def test_runs_are_guessed_into_rows_that_stand_head_by_head():
    suggestion = aligned(fused("attn.qkv"), fused("attention.query_key_value"))
    assert operations_of(suggestion, "qkv") == {(Interleave(0, (64, 64, 64)),)}


def test_a_fused_tensor_of_groups_of_query_heads_is_split_by_group():
    parts = {
        f"layers.{n}.self_attn.{name}_proj.weight": (rows, 512)
        for n in range(2)
        for name, rows in (("q", 512), ("k", 128), ("v", 128))
    }
    suggestion = aligned({f"layers.{n}.self_attn.linear_qkv.weight": (768, 512) for n in range(2)}, parts)
    (operations,) = operations_of(suggestion, "linear_qkv")
    assert operations[:2] == (Deinterleave(0, (256, 64, 64)), Split(0, (512, 128, 128)))


def test_rows_of_w13_are_guessed_to_take_turns():
    suggestion = aligned({"mlp.w13_weight": (4, 64, 16)}, {"mlp.gate_up_proj": (4, 64, 16)})
    assert operations_of(suggestion, "w13") == {(Deinterleave(1, (1, 1)),)}
    assert not certain_pairs(suggestion)


def test_what_a_habit_suggests_stays_a_question_beside_the_order_of_the_parts():
    parts = {f"layers.{i}.mlp.{n}_proj.weight": (64, 16) for i in range(2) for n in ("gate", "up")}
    suggestion = aligned({f"layers.{i}.mlp.w13.weight": (128, 16) for i in range(2)}, parts)
    assert any(isinstance(o, Deinterleave) for o in suggestion.matches[0].operations)
    assert [question.about for question in suggestion.questions] == ["order", "rows"]


def test_a_lone_matrix_of_a_steady_block_is_not_turned_by_its_name():
    """`W_down` of a bottleneck is the first of its two matrices, whatever `fc1` is called elsewhere."""
    spelled = {f"layers.{n}.proj_{name}.weight": (48, 64) for n in range(2) for name in ("alpha", "beta")}
    old = {f"layers.{n}.gate.{k}.weight": s for n in range(2) for k, s in (("W_down", (8, 64)), ("W_up", (64, 8)))}
    new = {f"layers.{n}.gate.{k}.weight": s for n in range(2) for k, s in (("fc1", (8, 64)), ("fc2", (64, 8)))}
    suggestion = aligned(spelled | old, spelled | new)
    assert guessed_pairs(suggestion)["layers.0.gate.W_down.weight"] == "layers.0.gate.fc1.weight"
    assert not any(isinstance(o, Permute) for m in suggestion.matches for o in m.operations)
    (question,) = suggestion.ambiguous
    assert {"layers.0.gate.fc1.weight", "layers.0.gate.fc2.weight"} <= set(question.model)


def levels(name, channels):
    """Levels of a decoder, each of two convolutions with as many channels as it says."""
    return {
        f"decoder.{name}.{at}.conv_{part}.weight": (size, size, 3, 3)
        for at, size in enumerate(channels)
        for part in ("a", "b")
    }


def test_levels_that_shapes_place_in_opposite_order_turn_the_whole_list_round():
    suggestion = aligned(levels("up", (32, 64, 128, 128)), levels("up_blocks", (128, 128, 64, 32)))
    pairs = certain_pairs(suggestion)
    assert pairs["decoder.up.2.conv_a.weight"] == "decoder.up_blocks.1.conv_a.weight"
    assert pairs["decoder.up.3.conv_b.weight"] == "decoder.up_blocks.0.conv_b.weight"


def test_one_level_out_of_place_turns_no_list_round():
    suggestion = aligned(levels("up", (32, 128, 128, 128)), levels("up_blocks", (128, 128, 128, 32)))
    assert not any(k.startswith("decoder.up.1") for k in certain_pairs(suggestion))


def test_a_leaf_of_another_model_in_the_same_file_does_not_take_the_place_of_the_right_one():
    vae = {f"encoder.mid.{n}.weight": (16, 16, 3, 3) for n in ("conv_a", "conv_b", "conv_c")}
    old = {f"first_stage.{k}": s for k, s in vae.items()} | {"first_stage.encoder.mid.attn.proj_out.bias": (16,)}
    other = {f"unet.blocks.{n}.to_out.0.bias": (16,) for n in range(2)}
    suggestion = aligned(old | other, vae | {"encoder.mid.attn.to_out.0.bias": (16,)})
    assert guessed_pairs(suggestion)["first_stage.encoder.mid.attn.proj_out.bias"] == "encoder.mid.attn.to_out.0.bias"


def test_a_rotary_order_is_guessed_even_where_the_projections_have_the_same_names():
    old = {
        k.replace("attn.", "self_attn.").replace("mlp.w1", "ffn.inner_proj"): s for k, s in decoder(TORCHTUNE).items()
    }
    suggestion = aligned(old, decoder(TRANSFORMERS, "model.layers.{}"))
    assert operations_of(suggestion, "q_proj") == {(RotaryPermute(2, 128),)}
    assert len(uncertain(suggestion, "q_proj")) == 2


def test_a_hint_about_names_does_not_settle_how_rows_stand():
    suggestion = aligned(decoder(META), decoder(TRANSFORMERS, "model.layers.{}"), hints={"wk": "k_proj"})
    assert operations_of(suggestion, "wk") == {(RotaryPermute(1, 128),)}
    assert len(uncertain(suggestion, "wk")) == 2


def test_a_question_about_rows_proposes_no_hint_about_names():
    suggestion = aligned(decoder(META), decoder(TRANSFORMERS, "model.layers.{}"))
    rows = [q for q in suggestion.questions if q.about == "rows"]
    assert rows and all(": rows " in option.hint for q in rows for option in q.options)


def tower_with_table(attention, table, classes=None):
    """A tower with learned positions whose attention is spelled otherwise in the checkpoint."""
    checkpoint, model = {"pos.table": (50, 16)}, {f"vision.{table}": (50, 16)}
    for layer in range(2):
        for old, new in (("wq", "q_proj"), ("wk", "k_proj"), ("wv", "v_proj"), ("wo", "o_proj")):
            checkpoint[f"tower.blocks.{layer}.{attention}.{old}.weight"] = (16, 16)
            model[f"vision.layers.{layer}.self_attn.{new}.weight"] = (16, 16)
    return aligned(checkpoint, model, modules=classes)


def test_a_table_of_positions_is_no_proof_that_no_rows_are_turned():
    asked = tower_with_table("attention", "embeddings.position_embedding.weight").questions
    assert any(q.about == "rows" and any("q_proj" in k for k in q.model) for q in asked)


def test_a_table_in_a_tower_none_of_whose_classes_turns_anything_is_one():
    classes = {"vision": "VisionTower", "vision.layers": "ModuleList", "vision.layers.0.self_attn": "Attention"}
    asked = tower_with_table("attention", "embeddings.position_embedding.weight", classes).questions
    assert not any(q.about == "rows" for q in asked)


def test_a_rotary_embedding_beside_the_layers_speaks_for_all_of_them():
    classes = {"vision": "VisionTower", "vision.rotary_emb": "VisionRotaryEmbedding"}
    asked = tower_with_table("attention", "embeddings.position_embedding.weight", classes).questions
    assert any(q.about == "rows" for q in asked)


def test_no_model_of_transformers_with_the_marks_of_learned_positions_turns_rows():
    known = 0
    for case in read_cases("transformers"):
        model = case.trees(False)[1]
        patterns = build_patterns(model)
        links = [Link((p,), (p,)) for p in patterns]
        unknown = KeyTree.from_leaves([(x.key, x.shape, x.dtype) for x in model.leaves], ordered=True)
        by_marks = learned_positions(links, Habits(patterns, patterns), unknown)
        by_marks = {
            tower
            for tower in by_marks
            if not any(_is_relative(p) for p in patterns if p.segments[: len(tower)] == tower)
        }
        known += len(by_marks)
        assert by_marks <= learned_positions(links, Habits(patterns, patterns), model), case.name
    assert known > 10


def asked_rows(checkpoint, model):
    """The keys of the model whose rows are asked about."""
    return {k for q in aligned(checkpoint, model).questions if q.about == "rows" for k in q.model}


@pytest.mark.parametrize(
    ("old", "new"), [("query_feat", "queries"), ("query_embed", "query_pos"), ("key_table", "keys")]
)
def test_a_table_that_is_called_query_is_no_attention(old, new):
    tables = ({f"{name}.weight": (10, 16), "body.fc.weight": (30, 16)} for name in (old, f"model.{new}"))
    assert asked_rows(*tables) == set()


def test_attention_over_pixels_by_convolutions_turns_no_rows():
    checkpoint, model = {}, {}
    for old, new in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        checkpoint |= {f"mid.attn_1.{old}.weight": (16, 16, 1, 1), f"mid.attn_1.{old}.bias": (16,)}
        model |= {f"mid_block.attentions.0.{new}.weight": (16, 16), f"mid_block.attentions.0.{new}.bias": (16,)}
    assert asked_rows(checkpoint, model) == set()


def test_an_adapter_of_q_alone_is_one_of_an_attention_all_the_same():
    checkpoint = {f"layers.0.attn.q_proj.lora_{x}.weight": s for x, s in (("a", (4, 64)), ("b", (64, 4)))}
    model = {f"model.layers.0.self_attn.q_proj.lora_{x}.weight": s for x, s in (("A", (4, 64)), ("B", (64, 4)))}
    assert any("lora_B" in key for key in asked_rows(checkpoint, model))


def test_a_norm_that_a_fused_linear_keeps_takes_no_turns():
    checkpoint, model = {}, {}
    for n in range(2):
        p, q = f"model.layers.{n}.", f"decoder.layers.{n}.self_attention."
        checkpoint |= {f"{p}self_attn.{x}_proj.weight": (48, 48) for x in "qkv"} | {f"{p}input_layernorm.weight": (48,)}
        model |= {f"{q}linear_qkv.weight": (144, 48), f"{q}linear_qkv.layer_norm_weight": (48,)}
    match = next(m for m in aligned(checkpoint, model).matches if m.model[0].endswith("layer_norm_weight"))
    assert match.operations == ()


@pytest.mark.parametrize("name", ["queries.linear", "q.proj", "query.dense"])
def test_projections_with_modules_of_their_own_stand_in_an_attention_all_the_same(name):
    other = name.replace("queries", "keys").replace("query", "key").replace("q.", "k.")
    checkpoint = {f"layers.0.mixer.{x}.weight": (16, 16) for x in ("wq", "wk")}
    model = {f"blocks.0.mix.{x}.weight": (16, 16) for x in (name, other)}
    assert f"blocks.0.mix.{name}.weight" in asked_rows(checkpoint, model)


def test_the_first_of_two_streams_is_asked_about_and_latents_are_not():
    def both(parts):
        names = [(f"{x}_{s}", f"to_{x}_{s}") for x in parts for s in "ab"]
        sides = zip(*((f"l.0.attn.{a}.weight", f"b.0.attn1.{b}.weight") for a, b in names), strict=True)
        return asked_rows(*(dict.fromkeys(side, (16, 16)) for side in sides))

    assert "b.0.attn1.to_q_a.weight" in both("qkv")
    assert "b.0.attn1.to_q_a.weight" not in both("q")
