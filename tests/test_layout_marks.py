"""An entry of the table of layouts fires on trees of its own library alone."""

from __future__ import annotations

import pytest
from cases import one_of_each_family
from layout_marks import CORPORA, fired, is_own


@pytest.mark.parametrize("corpus", [corpus for corpus in CORPORA if corpus != "scale"])  # a model that others have too
def test_no_entry_fires_on_a_family_of_another_library(corpus):
    cases = one_of_each_family(corpus)
    found = [(name, entry, side) for case in cases for name, side, known in fired(case) for entry in known]
    assert [one for one in found if not is_own(one[1], one[2])] == []
    assert found
