"""An entry of the table of layouts fires on trees of its own library alone."""

from __future__ import annotations

import pytest
from cases import read_cases
from layout_marks import CORPORA, fired, is_own

EVERY = 9  # of each corpus; scripts/layout_marks.py looks at all


@pytest.mark.parametrize("corpus", CORPORA)
def test_no_entry_fires_on_what_another_library_wrote(corpus):
    cases = list(read_cases(corpus))[:: EVERY if corpus != "transformers" else 4 * EVERY]
    found = [(name, entry, text) for case in cases for name, text, names in fired(case) for entry in names]
    assert [one for one in found if not is_own(one[1], one[2])] == []
    assert found
