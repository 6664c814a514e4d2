"""Sets of keys as a few patterns: exactly the keys they were made of, however odd these are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import key_lists, keys

from treealign.mapping.key_sets import count_keys, expand_keys, fold_keys


@given(key_lists())
def test_folded_keys_expand_to_the_same_set(listed):
    folded = fold_keys(listed)
    assert sorted(expand_keys(folded)) == sorted(set(listed))


@given(st.lists(keys(("a", "{}", "{0..3}", "}{", "b{")), max_size=5))
def test_braces_of_a_key_are_its_own(listed):
    assert sorted(expand_keys(fold_keys(listed))) == sorted(set(listed))


@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), max_size=30))
def test_any_grid_with_holes_is_folded_without_filling_them(rows):
    listed = {f"l.{a}.e.{b}.p.{c}.w" for a, b, c in rows}
    folded = fold_keys(listed)
    assert (sorted(expand_keys(folded)), count_keys(folded)) == (sorted(listed), len(listed))


def test_all_experts_of_all_layers_are_one_pattern():
    listed = [f"layers.{i}.experts.{j}.up.weight" for i, j in product(range(61), range(256))]
    assert fold_keys(listed) == ("layers.{0..60}.experts.{0..255}.up.weight",)


@pytest.mark.parametrize("text", ["a.{x}", "a.{", "{1...2}", "{}", "{1,}"])
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(ValueError):
        list(expand_keys([text]))
