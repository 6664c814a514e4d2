"""The shortest list of transforms for given matches: what a person would write, realised exactly, proved short."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest
from aligning import tree
from hypothesis import given
from hypothesis import strategies as st
from strategies import renamed_trees

from treealign import Convert, PrefixChange, Rename
from treealign.mapping.operations import Concat, Stack
from treealign.synthesize import Conversion, synthesis, synthesize
from treealign.synthesize.program import Program, minimum
from treealign.synthesize.relations import Rows, columns_of, related, relation_of

BLOCK = ("attn.q.weight", "attn.k.weight", "norm.weight")
LAYERS = [f"layers.{i}.{leaf}" for i in range(3) for leaf in BLOCK]


def made(pairs, conversions=(), checkpoint_only=(), model_only=()):
    """The synthesis for these matches; every shape is the same, since synthesis looks at names."""
    left = [a for a, _ in pairs] + [k for c in conversions for k in c.checkpoint] + list(checkpoint_only)
    right = [b for _, b in pairs] + [k for c in conversions for k in c.model] + list(model_only)
    trees = (tree(dict.fromkeys(dict.fromkeys(side), (4,))) for side in (left, right))
    return synthesize(list(pairs), list(conversions), *trees)


def realised(found, pairs):
    """The three laws that names can show."""
    forward = found.mapping.map_keys([a for a, _ in pairs])
    backward = found.mapping.reverse.map_keys([b for _, b in pairs])
    return forward == {a: (b,) for a, b in pairs} and backward == {b: (a,) for a, b in pairs}


def test_equal_names_need_nothing():
    found = made([(key, key) for key in LAYERS])
    assert (len(found.mapping), found.optimal) == (0, True)


def test_a_prefix_below_which_everything_stands_is_removed_as_one_level():
    assert list(made([(f"module.{k}", k) for k in LAYERS]).mapping) == [PrefixChange(remove="module")]


def test_a_level_is_not_removed_where_a_key_beside_it_would_not_get_it_back():
    pairs = [(f"model.{k}", k) for k in LAYERS] + [("head.weight", "head.weight")]
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (1, True)


def test_one_renaming_serves_all_layers():
    pairs = [(k, k.replace("attn", "self_attn")) for k in LAYERS]
    (transform,) = made(pairs).mapping
    assert isinstance(transform, Rename)
    assert transform.map_key("layers.7.attn.q.weight") == ("layers.7.self_attn.q.weight",)


def test_numbers_inside_names_become_indices():
    pairs = [(k.replace("layers.", "layers_"), k) for k in LAYERS]
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (1, True)


def test_an_index_is_shifted_by_one_transform():
    pairs = [(f"h.{i + 1}.w", f"h.{i}.w") for i in range(4)]
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (1, True)


def test_a_swap_is_one_simultaneous_transform():
    pairs = [(f"h.{i}.{a}.w", f"h.{i}.{b}.w") for i in range(2) for a, b in (("p", "q"), ("q", "p"))]
    found = made(pairs)
    (transform,) = found.mapping
    assert len(transform.pairs) == 2
    assert realised(found, pairs)


def test_a_chain_is_guarded_so_that_converted_names_pass_unchanged():
    pairs = [(f"h.{i}.norm{n}.w", f"h.{i}.norm{n + 1}.w") for i in range(2) for n in (0, 1)]
    found = made(pairs)
    targets = [b for _, b in pairs]
    assert realised(found, pairs)
    assert found.mapping.map_keys(targets) == {b: (b,) for b in targets}


def test_names_that_stand_in_no_match_stay_as_they_are():
    pairs = [(f"old.{k}", f"new.{k}") for k in LAYERS]
    found = made(pairs, checkpoint_only=["extra.scale"], model_only=["pooler.weight"])
    assert found.mapping.map_keys(["extra.scale"]) == {"extra.scale": ("extra.scale",)}


def test_dense_layers_before_layers_of_experts_are_told_apart_by_their_range():
    pairs = [(f"layers.{i}.ffn.w", f"layers.{i}.mlp.w" if i < 2 else f"layers.{i}.moe.w") for i in range(5)]
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (2, True)


def test_experts_of_all_layers_are_stacked_by_one_convert():
    operations = (Stack(0, 4), Concat(1, (2, 2)))
    groups = [
        Conversion(
            tuple(f"h.{i}.experts.{j}.{n}.w" for n in ("gate", "up") for j in range(4)),
            (f"h.{i}.experts.gate_up",),
            operations,
        )
        for i in range(3)
    ]
    (transform,) = made([], groups).mapping
    assert isinstance(transform, Convert)
    assert transform.operations == operations


def test_extra_layers_without_a_counterpart_limit_a_convert_to_the_others():
    groups = [
        Conversion(tuple(f"h.{i}.experts.{j}.w" for j in range(4)), (f"h.{i}.experts.w",), (Stack(0, 4),))
        for i in range(3)
    ]
    extra = [f"h.3.experts.{j}.w" for j in range(4)]
    mapping = made([], groups, checkpoint_only=extra).mapping
    assert len(mapping) == 1
    assert mapping.map_keys([*groups[0].checkpoint, *extra])[extra[0]] == (extra[0],)


@given(renamed_trees())
def test_random_renames_are_realised_exactly_there_and_back(drawn):
    leaves, old_names = drawn
    pairs = [(old_names[key], key) for key, *_ in leaves]
    found = made(pairs)
    assert realised(found, pairs)
    assert len(found.mapping) >= found.bound - 1e-9 or not found.optimal


@given(renamed_trees(), st.randoms(use_true_random=False))
def test_the_order_of_the_matches_changes_nothing(drawn, random):
    leaves, old_names = drawn
    pairs = [(old_names[key], key) for key, *_ in leaves]
    assert made(random.sample(pairs, len(pairs))).mapping == made(pairs).mapping


def test_parts_of_a_network_that_share_names_with_others_are_told_apart_by_the_range_of_their_index():
    pairs = [(f"old.{i}.conv.conv.w", f"new.{i}.conv.w") for i in (0, 9)]
    pairs += [(f"old.{i}.up.up.w", f"new.{i}.conv.w") for i in (3, 6)]
    found = made(pairs)
    assert realised(found, pairs)
    assert found.findings == ()


def test_a_key_that_belongs_to_nothing_never_lands_on_a_key_that_nothing_fills():
    pairs = [(f"h.{i}.{leaf}.w", f"layers.{i}.{leaf}.w") for i in range(3) for leaf in ("q", "k")]
    found = made(pairs, checkpoint_only=["h.3.q.w"], model_only=["layers.3.q.w"])
    assert "layers.3.q.w" not in found.mapping.map_keys(["h.3.q.w", *(a for a, _ in pairs)])["h.3.q.w"]
    assert realised(found, pairs)


def test_a_search_without_work_left_makes_every_match_and_claims_no_minimum_beyond_its_bound(monkeypatch):
    monkeypatch.setattr(synthesis, "_NAMES", -1)
    pairs = [(k, k.replace("attn", "self_attn").replace("norm", "layer_norm")) for k in LAYERS]
    found = made(pairs)
    assert realised(found, pairs)
    assert found.bound <= len(found.mapping)
    assert found.optimal == (found.bound == len(found.mapping))


@pytest.mark.parametrize("level", ["_orig_mod", "_checkpoint_wrapped_module", "_forward_module"])
def test_a_wrapper_around_every_other_part_is_one_removal_for_each_kind_of_part(level):
    """Which indices have the level is told by a choice, so that the way back puts it where it was."""

    def wrapped(i, leaf):
        part, _, rest = leaf.partition(".")
        return f"layers.{i}.{part}.{level}.{rest}" if (i % 2 == 0) is (part == "attn") else f"layers.{i}.{leaf}"

    pairs = [(wrapped(i, leaf), f"layers.{i}.{leaf}") for i in range(6) for leaf in ("attn.q", "attn.k", "mlp.fc")]
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (2, True)


def test_a_list_is_read_from_the_top_of_the_names_down():
    """Towers, then levels within them, then leaves, then conversions."""
    towers = {"text.encoder": "model.text", "vision.trunk": "model.vision"}
    leaves = {"ln.w": "norm.w", "fc.w": "fc.w", "out.w": "proj.w"}
    pairs = [("projector.w", "model.projector.w"), ("text.head.w", "head.w")]
    pairs += [
        (f"{a}.h.{i}.{c}", f"{b}.h.{i}.{d}") for a, b in towers.items() for i in range(3) for c, d in leaves.items()
    ]
    joined = [
        Conversion((f"{a}.h.{i}.q.w", f"{a}.h.{i}.k.w"), (f"{b}.h.{i}.qk.w",), (Concat(0, (4, 4)),))
        for a, b in towers.items()
        for i in range(3)
    ]
    found = list(made(pairs, joined).mapping)
    levels = [t.under for t in found if isinstance(t, PrefixChange)]
    assert levels == ["model.text", "model.vision"]
    assert [type(t) for t in found] == [Rename, Rename, PrefixChange, PrefixChange, Rename, Rename, Convert]


@pytest.mark.parametrize("inner", ["_orig_mod", "_fsdp_wrapped_module"])
def test_wrappers_within_wrappers_of_some_blocks_and_parts_are_one_removal_each(inner):
    leaves = ("norm.w", "attn.q.w", "attn.out.w", "mlp.fc.w")
    pairs = []
    for i, leaf in product(range(6), leaves):
        part, rest = leaf.split(".", 1)
        outer = "_checkpoint_wrapped_module." * (i % 2)
        pairs.append((f"module.h.{i}.{outer}{part}.{f'{inner}.' * (part == 'attn')}{rest}", f"h.{i}.{leaf}"))
    found = made(pairs)
    assert (len(found.mapping), realised(found, pairs)) == (3, True)


def test_a_series_that_shifts_from_stage_to_stage_is_written_once_for_each_stage():
    """One member has a leaf that the others have not, and an index that is the same in all its keys."""
    leaves = [("in.w", "conv1.w"), ("out.w", "conv2.w")]
    places = [(n, n // 3, n % 3) for n in range(9)]
    pairs = [(f"blocks.{n}.{a}", f"stages.{k}.{j}.{b}") for n, k, j in places for a, b in leaves]
    pairs += [(f"blocks.{n}.skip.w", f"stages.{k}.{j}.shortcut.w") for n, k, j in places if j == 0]
    found = made(pairs)
    assert (len(found.mapping) <= 6, realised(found, pairs)) == (True, True)


def test_a_match_that_no_transform_makes_costs_no_other():
    pairs = [(f"model.{key}", key) for key in LAYERS]
    # an operand of a sum and its result have one name: no key pattern can tell them apart
    impossible = Conversion(("spare.weight", "model.layers.0.norm.weight"), ("fused.weight",), (Concat(0, (4, 4)),))
    found = made(pairs, [impossible])
    kept = [pair for pair in pairs if pair[0] != "model.layers.0.norm.weight"]
    assert realised(found, kept)
    assert any("spare.weight" in finding for finding in found.findings)


@st.composite
def covers(draw):
    """How many sets there are, and for each thing to be covered the sets that do."""
    size = draw(st.integers(1, 7))
    return size, draw(st.lists(st.sets(st.integers(0, size - 1), min_size=1), min_size=1, max_size=6))


def covering(size, wanted):
    """The program that asks for one set at least for each thing."""
    program = Program(size)
    for able in wanted:
        program.row([(n, 1.0) for n in sorted(able)], 1.0, float("inf"))
    return program


def covers_all(wanted, some):
    return all(able & set(some) for able in wanted)


@given(covers())
def test_no_smaller_choice_does_it_than_the_program_takes(drawn):
    size, wanted = drawn
    choices = (some for count in range(size + 1) for some in combinations(range(size), count))
    fewest = next(len(some) for some in choices if covers_all(wanted, some))
    found = minimum(covering(size, wanted), [1.0] * size)
    assert (len(found.chosen), round(found.bound, 6)) == (fewest, fewest)


@given(covers(), st.lists(st.integers(1, 9), min_size=7, max_size=7))
def test_the_lightest_choice_is_found_where_the_relaxation_takes_parts(drawn, weights):
    """Variables that no better solution takes otherwise are left out of the branching: with nothing lost."""
    size, wanted = drawn
    weights = [float(weight) for weight in weights[:size]]

    def pruned(taken):
        for n in sorted(taken, key=lambda n: -weights[n]):
            taken = taken - {n} if covers_all(wanted, taken - {n}) else taken
        return taken

    some = [some for count in range(size + 1) for some in combinations(range(size), count)]
    lightest = min(sum(weights[n] for n in chosen) for chosen in some if covers_all(wanted, chosen))
    found = minimum(covering(size, wanted), weights, pruned)
    assert covers_all(wanted, found.chosen)
    assert (sum(weights[n] for n in found.chosen), round(found.bound, 6)) == (lightest, lightest)


@given(st.lists(st.tuples(*[st.sampled_from("012")] * 6), min_size=1, max_size=7, unique=True))
def test_rows_whose_numbers_are_unrelated_are_split_into_the_fewest_parts(rows):
    """As few as if every order of splitting had been gone through to its end."""
    given_rows = Rows([row[:3] for row in rows], [row[3:] for row in rows], rows)
    found = related(given_rows)
    assert sorted(item for part, _ in found for item in part.items) == sorted(rows)
    assert len(found) == fewest_parts(given_rows)


def fewest_parts(rows):
    columns, others = columns_of(rows.left), columns_of(rows.right)
    relation = relation_of(columns, others)
    used = {r[0] for r in relation if r}
    loose = [c for k, c in enumerate(columns) if k not in used and len(set(c)) > 1]
    loose += [c for c, r in zip(others, relation, strict=True) if r is None and len(set(c)) > 1]
    if rows.left == rows.right or not loose:
        return 1
    return min(sum(map(fewest_parts, rows.parted(column))) for column in loose)


@pytest.mark.parametrize("seed", range(5))
def test_places_in_no_order_are_written_out_rather_than_given_up(seed):
    """No capture describes which goes where: what is written for some must not match the others."""
    left = [f"a.{i}.{j}.{leaf}" for i in range(3) for j in range(4) for leaf in ("bias", "weight")]
    places = [(k, m) for k in range(4) for m in range(3)]
    random.Random(seed).shuffle(places)
    where = {(i, j): places[4 * i + j] for i in range(3) for j in range(4)}
    pairs = [
        (key, "b.{}.{}.".format(*where[int(key.split(".")[1]), int(key.split(".")[2])]) + key.split(".")[3])
        for key in left
    ]
    found = made(pairs)
    assert found.findings == ()
    assert found.mapping.map_keys(left) == {a: (b,) for a, b in pairs}
    assert found.mapping.reverse.map_keys([b for _, b in pairs]) == {b: (a,) for a, b in pairs}
