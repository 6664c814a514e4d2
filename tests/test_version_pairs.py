"""Seventeen models as two releases of transformers define them: every change has a name, and no key is lost."""

from __future__ import annotations

import pytest
from version_pairs import read_trees, unexplained

import treealign
from treealign.mapping.laws import check_laws, faults

PAIRS = list(read_trees())


def test_there_are_at_least_ten_pairs():
    assert len(PAIRS) >= 10


@pytest.mark.parametrize(("name", "old", "new"), PAIRS, ids=[name for name, _, _ in PAIRS])
def test_every_change_between_two_releases_is_explained(name, old, new):
    audit = treealign.audit(old, new)
    assert unexplained(audit) == ()
    assert audit.suggestion.missing_keys == audit.suggestion.unexpected_keys == ()
    assert faults(check_laws(audit.mapping, old, new)) == ()


@pytest.mark.parametrize(("name", "old", "new"), PAIRS, ids=[name for name, _, _ in PAIRS])
def test_names_of_two_releases_are_translated_there_and_back(name, old, new):
    audit = treealign.audit(old, new)
    back = audit.translation.back
    single = [key for key, targets in audit.translation.pairs.items() if len(targets) == len(back[targets[0]]) == 1]
    assert [key for key in single if audit.old_name(audit.rename(key)) != key] == []
