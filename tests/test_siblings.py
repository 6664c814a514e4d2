"""What stands beside a match speaks of it: modules stay whole, pairs are sure together, layouts hold for files."""

from __future__ import annotations

from aligning import aligned, certain_pairs, guessed_pairs, layers

from treealign.mapping.operations import Permute


def operations_of(suggestion, part):
    return {m.operations for m in suggestion.matches if any(part in k for k in m.checkpoint)}


GATED = {"mlp.gate_proj.weight": (12, 8), "mlp.up_proj.weight": (12, 8), "mlp.down_proj.weight": (8, 12)}


def test_which_of_two_is_the_gate_is_not_certain_where_one_name_does_not_say():
    """TensorRT-LLM calls the gate `fc` and the up-projection `gate`."""
    old = layers({"mlp.fc.weight": (12, 8), "mlp.gate.weight": (12, 8), "mlp.proj.weight": (8, 12)})
    assert not [k for k in certain_pairs(aligned(old, layers(GATED))) if ".fc." in k or ".gate." in k]


def test_gate_and_up_are_certain_where_both_names_say_so():
    old = layers({"ffn.gate.weight": (12, 8), "ffn.up.weight": (12, 8), "ffn.down.weight": (8, 12)})
    assert certain_pairs(aligned(old, layers(GATED)))["layers.1.ffn.up.weight"] == "layers.1.mlp.up_proj.weight"


def test_weight_and_bias_of_one_module_that_went_to_two_are_doubted():
    old = {"m.alpha_beta.weight": (8, 4), "m.alpha_beta.bias": (8,)}
    new = {"m.alpha.weight": (8, 4), "m.alpha.bias": (3,), "m.beta.weight": (7, 6), "m.beta.bias": (8,)}
    suggestion = aligned(old, new)
    assert set(guessed_pairs(suggestion)) == set(old)
    assert not certain_pairs(suggestion)


def test_a_square_kernel_is_guessed_to_be_the_transpose_of_a_weight():
    old = layers({"attention.query.kernel": (8, 8), "attention.query.bias": (8,)})
    new = layers({"attention.query.weight": (8, 8), "attention.query.bias": (8,)})
    suggestion = aligned(old, new)
    assert operations_of(suggestion, "kernel") == {(Permute((1, 0)),)}
    assert not [k for k in certain_pairs(suggestion) if "kernel" in k]


ENCODER = {"fc1.{}": (8, 32), "fc2.{}": (32, 8), "dense.{}": (8, 8)}


def kernels_and_weights(turned):
    """A block as Flax and as PyTorch have it, its oblong matrices transposed or (`turned` False) not all of them."""
    old = layers({name.format("kernel"): shape for name, shape in ENCODER.items()})
    new = layers({name.format("weight"): shape[::-1] for name, shape in ENCODER.items()})
    if not turned:
        new |= {f"layers.{n}.fc2.weight": (32, 8) for n in range(2)}
    return aligned(old, new)


def test_a_square_kernel_among_kernels_that_are_transposed_is_certainly_transposed():
    suggestion = kernels_and_weights(turned=True)
    assert operations_of(suggestion, "dense.kernel") == {(Permute((1, 0)),)}
    assert certain_pairs(suggestion)["layers.1.dense.kernel"] == "layers.1.dense.weight"


def test_a_square_kernel_is_not_certain_where_another_kernel_of_its_block_is_as_it_was():
    assert not [k for k in certain_pairs(kernels_and_weights(turned=False)) if "dense" in k]


def test_a_square_parameter_of_its_own_against_that_of_a_layer_is_not_certain():
    """OpenAI's CLIP multiplies by `text_projection` from the right."""
    rest = {"token_embedding.weight": (50, 8)}
    assert "text_projection" not in certain_pairs(
        aligned({"text_projection": (8, 8)} | rest, {"text_projection.weight": (8, 8)} | rest)
    )


def test_square_matrices_of_a_file_follow_those_that_show_their_layout():
    old = {"proj.weight": (8, 8)} | layers({"mlp.alpha.weight": (8, 32), "mlp.beta.weight": (32, 8)})
    new = {"proj.weight": (8, 8)} | layers({"mlp.alpha.weight": (32, 8), "mlp.beta.weight": (8, 32)})
    assert operations_of(aligned(old, new), "proj.weight") == {(Permute((1, 0)),)}


def test_a_table_of_embeddings_follows_nothing():
    old = {"position_embd.weight": (8, 8)} | layers({"mlp.alpha.weight": (8, 32), "mlp.beta.weight": (32, 8)})
    new = {"position_embedding.weight": (8, 8)} | layers({"mlp.alpha.weight": (32, 8), "mlp.beta.weight": (8, 32)})
    assert operations_of(aligned(old, new), "position_embd") == {()}


def test_a_fused_bias_is_split_and_not_copied_to_one_of_its_parts_elsewhere():
    old = {"small.attn.kv.bias": (8,), "large.attn.kv.bias": (16,)}
    new = {f"{tower}.attn.{k}_proj.bias": (n,) for tower, n in (("small", 4), ("large", 8)) for k in "kv"}
    suggestion = aligned(old, new)
    assert {m.checkpoint: set(m.model) for m in suggestion.matches}["small.attn.kv.bias",] == {
        "small.attn.k_proj.bias",
        "small.attn.v_proj.bias",
    }
    assert not guessed_pairs(suggestion)


def test_biases_tell_two_matrices_from_each_others_transposes():
    """torchvision's `mlp.0` and `mlp.3`: no name says which is first, but a bias is as long as its layer's outputs."""
    first, second = {"weight": (32, 8), "bias": (32,)}, {"weight": (8, 32), "bias": (8,)}

    def numbered(*leaves):
        found = {f"layers.{n}.mixer.{leaf}": (8, 9) for n in range(2) for leaf in ("weight",)}
        for n in range(2):
            for at, layer in ((0, first), (3, second)):
                found |= {f"layers.{n}.mlp.{at}.{leaf}": layer[leaf] for leaf in leaves}
        return found

    def named(*leaves):
        rename = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
        return {
            key.replace(old, new): s
            for key, s in numbered(*leaves).items()
            for old, new in rename.items()
            if old in key
        }

    wanted = "layers.0.mlp.0.weight", "layers.0.mlp.fc1.weight"
    assert wanted in certain_pairs(aligned(numbered("weight", "bias"), named("weight", "bias"))).items()
    assert wanted not in certain_pairs(aligned(numbered("weight"), named("weight"))).items()
