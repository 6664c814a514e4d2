"""The aligner as lists of passes and judges: what one more judge cannot refute is open, and what is proved is not."""

from __future__ import annotations

import pytest
from aligning import aligned

from treealign.align import pipeline
from treealign.align.links import Link
from treealign.align.matching.assigning import Matched
from treealign.align.reasons import Reason
from treealign.align.verdict import alone, doubted, judged, settled, settled_if_answered

KEYS = {"a.q.weight": (8, 8), "a.norm.weight": (8,)}
OTHERS = Reason("rows", "its rows may stand otherwise")


def squares(state):
    """Cannot refute that the rows of a square stand in another order."""
    return {link: alone(link, OTHERS) for link in state.links if (8, 8) in link.left[0].shapes.values()}


def test_a_judge_is_one_function_in_the_list(monkeypatch):
    monkeypatch.setattr(pipeline, "JUDGES", (*pipeline.JUDGES, squares))
    assert {m.model[0]: m.certain for m in aligned(KEYS, KEYS).matches} == {"a.q.weight": False, "a.norm.weight": True}


def test_each_pass_has_a_name_and_says_what_it_does():
    assert all(one.__name__.isidentifier() and one.__doc__ for one in (*pipeline.PASSES, *pipeline.JUDGES))


@pytest.fixture
def link() -> Link:
    return aligned(KEYS, KEYS).alignment.links[0]


def test_what_is_proved_is_not_judged(link):
    found = {link: alone(link, OTHERS)}
    assert [one.certain for one in judged([link], found)] == [False]
    assert judged([link], found, proved=[link]) == [link]


def test_what_is_open_keeps_its_first_reason(link):
    first = doubted(link, Reason("names", "first"))
    (after,) = judged([first], {first: alone(link, OTHERS)})
    assert (after.reason, after.beneath) == (first.reason, (OTHERS,))


def test_of_whose_a_leaf_is_one_doubt_is_enough(link):
    first = doubted(link, Reason("names", "first"))
    assert judged([first], {first: alone(link, Reason("belongs", "second"))}) == [first]


def test_an_answer_makes_certain_only_what_nothing_else_is_open_about(link):
    opened = doubted(link, Reason("names", "a name"), beneath=[OTHERS])
    assert not settled_if_answered(opened).certain
    assert settled(opened).open == {}


def test_before_anything_is_assigned_nothing_is():
    assert Matched.nothing().assignment.pairs == {}
