"""Conversion mappings: fast on folded keys, equal to the textbook, reversible, idempotent under guards."""

from __future__ import annotations

import random

import pytest
import slow_mapping
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import mappings_and_keys

from treealign import Convert, ConversionMapping, KeyTree, PrefixChange, Rename
from treealign.errors import MappingError, PatternError
from treealign.mapping.operations import Concat, SizeTable, Split, Stack


def textbook(transforms, keys, converted=None):
    try:
        return slow_mapping.trace(transforms, keys, converted)
    except (slow_mapping.Unknown, slow_mapping.Meeting) as error:
        return type(error).__name__


def folded(mapping, keys, converted=None):
    try:
        return {key: tuple(found) for key, found in mapping.trace(keys, converted).items()}
    except MappingError as error:
        return "Meeting" if error.what == "two keys reach one name" else "Unknown"


@given(mappings_and_keys(), st.sampled_from([None, None, True, False]))
def test_folded_transforms_do_what_the_textbook_does(drawn, converted):
    chosen, keys = drawn
    assert folded(ConversionMapping(chosen), keys, converted) == textbook(chosen, keys, converted)
