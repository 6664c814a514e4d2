"""The mappers of vLLM's models, run by its own `WeightsMapper` and by ours, and read as conversion mappings."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from operator import itemgetter

import pytest
import torch
from cases import read_cases
from loaders import install
from vllm_source import mappers, weights_mapper

from treealign import ConversionMapping, Convert, KeyTree, Rename, TreealignError, emit, operations
from treealign.dialects.reading import read_mapping

KINDS = ("regex", "substr", "stacked", "prefix", "suffix")
DROPS = "it drops the weights"


@cache
def found():
    return tuple(mappers())


@cache
def known():
    return tuple(one for one in found() if one.mapper is not None)


@cache
def checkpoints():
    """Class of transformers, which vLLM's is mostly called after, to keys of its checkpoints."""
    cases = {}
    for corpus in ("transformers", "pairs"):
        for case in read_cases(corpus):
            cases.setdefault(case.name.rsplit("/", 1)[-1], []).append(KeyTree.from_leaves(case.checkpoint))
    return cases


def names_for(mapper):
    """Names in which the texts of its entries stand in all places."""
    for kind in KINDS:
        for old in getattr(mapper, f"orig_to_new_{kind}"):
            text = getattr(old, "pattern", old)
            yield from (text, f"{text}x.weight", f"a.{text}", f"model.layers.3{text}.weight", f"{text}.{text}.b")


def test_nearly_all_mappers_of_the_models_are_known_from_the_sources(capsys):
    reasons = Counter(re.sub(r"\w+ is made", "made", one.reason) for one in found() if one.mapper is None)
    with capsys.disabled():
        print(f"\nvLLM: the mappers of {len(known())} of {len(found())} classes; the others: {dict(reasons)}")
    assert len(known()) > 0.9 * len(found()) > 200


def test_every_name_comes_out_as_vllm_makes_it():
    real = [key for trees in checkpoints().values() for tree in trees for key in tree.keys][::150]
    for one in known():
        run = read_mapping(one.mapper, "vllm").run
        names = [*names_for(one.mapper), *real]
        assert run(names) == {name: one.mapper.map_name(name) for name in names}, one.name


def test_what_is_read_for_a_checkpoint_is_what_vllm_does(capsys):
    """Wherever vLLM also has a class of transformers' name; a class with several checkpoints counts for each."""
    counts, left = Counter(), Counter()
    for one, tree in ((same, tree) for same in known() for tree in checkpoints().get(same.name, ())):
        reading = read_mapping(one.mapper, "vllm", tree)
        open_ = [(rule, why) for rule, why in reading.unread if DROPS not in why]
        counts["all"] += 1
        if open_:
            left.update({f"{one.name}: {rule.old}" for rule, _ in open_})
            continue
        kept = {key: (name,) for key in tree.keys if (name := one.mapper.map_name(key)) is not None}
        assert reading.mapping.map_keys(kept, converted=False) == kept, one.name
        counts["whole"] += 1
    with capsys.disabled():
        print(f"\nvLLM: {counts['whole']} of {counts['all']} checkpoints read whole; left open: {sorted(left)}")
    assert counts["whole"] >= 0.8 * counts["all"] > 20


def test_without_keys_nothing_is_read_otherwise_than_vllm_does_it(capsys):
    rules, unread = Counter(), Counter()
    for one in known():
        reading = read_mapping(one.mapper, "vllm")
        rules.update(rule.kind for rule in reading.rules)
        unread.update("dropped" if DROPS in why else rule.kind for rule, why in reading.unread)
    with capsys.disabled():
        print(f"\nvLLM: {sum(rules.values())} entries {dict(rules)}; without keys not read: {dict(unread)}")
    assert sum(unread.values()) < sum(rules.values())


def test_a_mapper_that_is_read_and_emitted_does_in_vllm_what_the_first_did(monkeypatch):
    install(monkeypatch)
    done = 0
    for one, tree in ((same, tree) for same in known() for tree in checkpoints().get(same.name, ())):
        fields = {f"orig_to_new_{kind}": getattr(one.mapper, f"orig_to_new_{kind}") for kind in KINDS}
        renaming = weights_mapper()(**fields | {"orig_to_new_stacked": {}})
        reading = read_mapping(renaming, "vllm", tree)
        touched = any(renaming.map_name(key) not in (key, None) for key in tree.keys)
        if not touched or any(DROPS not in why for _, why in reading.unread):
            continue  # nothing is emitted for a checkpoint that already has the names
        scope = {}
        exec(emit(reading.mapping, "vllm", checkpoint=tree), scope)
        kept = [key for key in tree.keys if renaming.map_name(key) is not None]
        assert [scope["hf_to_vllm_mapper"].map_name(key) for key in kept] == list(map(renaming.map_name, kept))
        done += 1
    assert done


def stacked_by(mapper, state):
    """The parameters of one process: the shards that vLLM's own mapper hands over, in their order."""
    found = {}
    for name, tensor in mapper.apply(state.items()):
        shard = getattr(tensor, "shard_id", 0)
        found.setdefault(name, []).append(("qkv".index(shard) if isinstance(shard, str) else shard, tensor))
    return {
        name: torch.cat([tensor for _, tensor in sorted(parts, key=itemgetter(0))]) for name, parts in found.items()
    }


def test_what_is_stacked_is_by_vllm_what_the_mapping_makes(monkeypatch):
    install(monkeypatch)
    rows = {"attn.q_proj": 8, "attn.k_proj": 2, "attn.v_proj": 2, "mlp.w3": 6, "mlp.w1": 6, "norm": 3}
    shapes = {f"h.{n}.{name}.weight": (count, 4) for n in range(2) for name, count in rows.items()}
    mapping = [
        Rename("h", "layers"),
        Convert(["**.q_proj", "**.k_proj", "**.v_proj"], "**.qkv_proj", [operations.Concat(0, (8, 2, 2))]),
        Convert(["**.w1", "**.w3"], "**.gate_up_proj", [operations.Concat(0, (6, 6))]),
    ]
    tree, scope = KeyTree.from_leaves([(key, shape, "float32") for key, shape in shapes.items()]), {}
    exec(emit(mapping, "vllm", checkpoint=tree), scope)
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    made, wanted = stacked_by(scope["hf_to_vllm_mapper"], state), dict(ConversionMapping(mapping).apply(state))
    assert made.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(made[key], wanted[key])] == []


def test_what_vllm_s_own_llama_stacks_is_read_and_emitted_again(monkeypatch):
    install(monkeypatch)
    (mapper,) = [one.mapper for one in known() if one.module.endswith(".llama") and one.name == "LlamaModel"]
    rows = {"self_attn.q_proj": 8, "self_attn.k_proj": 2, "self_attn.v_proj": 2, "mlp.gate_proj": 6, "mlp.up_proj": 6}
    leaves = [(f"layers.{n}.{name}.weight", (count, 4), None) for n in range(2) for name, count in rows.items()]
    tree, scope = KeyTree.from_leaves(leaves), {}
    exec(emit(read_mapping(mapper, "vllm", tree).mapping, "vllm", checkpoint=tree), scope)
    again = scope["hf_to_vllm_mapper"]
    assert [again._map_name_with_shard(key) for key in tree.keys] == list(map(mapper._map_name_with_shard, tree.keys))


def ordered(shards):
    """Each parameter with the keys that it is made of, in order; one may fill several shards at once."""
    found = {}
    for key, (name, shard) in shards.items():
        at = {"q": 0, "k": 1, "v": 2, None: 0}.get(shard, shard)
        found.setdefault(name, []).append((at[0] if isinstance(at, tuple) else at, key))
    return {name: [key for _, key in sorted(keys)] for name, keys in found.items()}


def test_what_is_read_of_stacking_mappers_is_emitted_with_the_same_shards_in_order(monkeypatch, capsys):
    """Of all that are read whole for a checkpoint that they stack something of."""
    install(monkeypatch)
    counts, refused = Counter(), {}
    for one, tree in ((same, tree) for same in known() for tree in checkpoints().get(same.name, ())):
        with_shard = one.mapper._map_name_with_shard
        kept = [leaf for leaf in tree.leaves if with_shard(leaf.key) is not None]
        part, wanted = KeyTree.from_leaves(kept), {leaf.key: with_shard(leaf.key) for leaf in kept}
        reading = read_mapping(one.mapper, "vllm", part)
        stacks = any(shard is not None for _, shard in wanted.values())
        if not stacks or any(DROPS not in why for _, why in reading.unread):
            continue
        counts["all"] += 1
        try:
            scope = {}
            exec(emit(reading.mapping, "vllm", checkpoint=part), scope)
        except TreealignError as error:
            refused[one.name] = error.what
            continue
        made = {key: scope["hf_to_vllm_mapper"]._map_name_with_shard(key) for key in wanted}
        assert ordered(made) == ordered(wanted), one.name
        counts["emitted"] += 1
    with capsys.disabled():
        print(f"\nvLLM: {counts['emitted']} of {counts['all']} mappers that stack emitted again; refused: {refused}")
    assert counts["emitted"] > 0.8 * counts["all"] > 0


@pytest.mark.parametrize("corpus", ["transformers", "pairs"])
def test_renamings_of_the_corpus_are_done_by_vllm(corpus, monkeypatch):
    """What is emitted is compared with our own `map_name` before it is handed out; here the real class runs it."""
    from treealign import suggest

    install(monkeypatch)
    done = 0
    for case in list(read_cases(corpus))[::12]:
        checkpoint, model = case.trees()
        mapping = suggest(checkpoint, model).mapping.accept()  # what is emitted is compared, not what is meant
        try:
            text = emit(mapping, "vllm", checkpoint=checkpoint)
        except TreealignError:
            continue
        scope = {}
        exec(text, scope)
        wanted = {key: names[0] for key, names in mapping.map_keys(checkpoint.keys).items()}
        assert scope["hf_to_vllm_mapper"].apply_dict({key: key for key in wanted}) == {n: k for k, n in wanted.items()}
        done += 1
    assert done
