"""States on their way through many transforms: found by their words, kept in their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from treealign import ConversionMapping, Rename
from treealign.mapping.folded import start
from treealign.mapping.running import Moving
from treealign.tree.fold import fold

WORDS = [f"w{chr(97 + n)}" for n in range(12)]


def test_a_transform_looks_only_at_names_that_have_its_words():
    keys = [f"a.{word}.x" for word in WORDS]
    moving = Moving(start(fold(keys)))
    assert [state.names[0][1] for state in moving.touchable(Rename("a.wc", "a.other"))] == ["wc"]


def test_what_a_state_is_split_into_stands_in_its_place():
    moving = Moving(start(fold(["a.0.x", "a.1.x", "a.2.x", "b.x"])))
    first, last = list(moving)
    moving.advance(Rename("a", "c"), lambda state: state.parted([True, False, True]))
    assert [len(state.rows.positions) for state in moving] == [2, 1, len(last.rows.positions)]
    assert sum(len(state.rows.positions) for state in moving) == len(first.rows.positions) + 1


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), max_size=8))
def test_many_transforms_do_what_each_does_to_every_key(pairs):
    """The oracle: each key by itself, each transform in turn."""
    rules = [Rename(f"**.{old}", f"**.{new}z.{number}") for number, (old, new) in enumerate(pairs)]
    keys = [f"{a}.{b}.{n}" for a in WORDS[:4] for b in WORDS[4:7] for n in range(2)]
    expected = {}
    for key in keys:
        name = key
        for rule in rules:
            name = (rule.map_key(name) or (name,))[0]
        expected[key] = (name,)
    assert ConversionMapping(rules).map_keys(keys, converted=False) == expected
