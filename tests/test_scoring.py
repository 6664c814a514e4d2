"""The scoreboard counts what it says it counts: a wrong match marked certain never passes for less."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cases import Case, Group, read_cases
from numbering import computes
from scoring import Answers, Score, count_group, keeps

from treealign import ConversionMapping, Rename
from treealign.mapping.operations import Permute, RotaryPermute


def answers(*matches, ambiguous=(), missing=(), unexpected=(), tied=()):
    made = [
        SimpleNamespace(checkpoint=tuple(c), model=tuple(m), operations=operations, certain=certain)
        for c, m, operations, certain in matches
    ]
    rivals = [SimpleNamespace(checkpoint=c, model=m) for c, m in ambiguous]
    suggestion = SimpleNamespace(matches=made, ambiguous=rivals, missing_keys=missing, unexpected_keys=unexpected)
    return Answers(suggestion, set(tied))


def counts(group, given):
    result = Score()
    count_group(result, group, given)
    return {
        name for name in ("right", "sure", "silent", "flagged", "unlisted", "truth_listed") if getattr(result, name)
    }


PLAIN = Group(("a",), ("x",), "rename")
ROWS = Group(("a",), ("x",), "rows", {"x": [(0, 0, 2, 2), (0, 1, 2, 2)]})
FUSED = Group(("q", "k", "v"), ("qkv",), "concat")


def test_a_right_and_certain_match_is_right_and_sure():
    assert counts(PLAIN, answers((["a"], ["x"], (), True))) == {"right", "sure"}


def test_a_wrong_match_marked_certain_is_silent():
    assert counts(PLAIN, answers((["a"], ["y"], (), True))) == {"silent"}


def test_a_certain_match_that_takes_the_place_of_the_right_one_is_silent():
    assert counts(PLAIN, answers((["b"], ["x"], (), True))) == {"silent"}


def test_a_wrong_match_that_is_not_certain_is_flagged():
    assert counts(PLAIN, answers((["a"], ["y"], (), False), (["b"], ["x"], (), False))) == {"flagged"}


def test_the_truth_among_the_rivals_is_counted():
    assert counts(PLAIN, answers(ambiguous=[(("a", "b"), ("x", "y"))])) == {"flagged", "truth_listed"}


def test_a_key_that_no_list_has_is_unlisted():
    assert counts(PLAIN, answers(unexpected=["a"])) == {"flagged", "unlisted"}


def test_a_rename_that_claims_an_operation_is_not_right():
    assert counts(PLAIN, answers((["a"], ["x"], ("transpose",), True))) == {"silent"}


def test_the_order_of_what_an_operation_joins_counts():
    assert counts(FUSED, answers((["q", "k", "v"], ["qkv"], ("concat",), True))) == {"right", "sure"}
    assert counts(FUSED, answers((["k", "q", "v"], ["qkv"], ("concat",), True))) == {"silent"}


def test_tied_names_need_not_be_fed():
    tied = Group(("a",), ("x", "alias"), "tie")
    assert counts(tied, answers((["a"], ["x"], (), True), tied=["alias"])) == {"right", "sure"}


def test_operations_that_compute_other_numbers_are_not_right():
    case = Case("one", (("a", (4, 2), None),), (("x", (4, 2), None, "parameter"),), (ROWS,), {}, {}, False, None)
    for operation, verdict in ((RotaryPermute(1, 4), True), (Permute((0, 1)), False)):
        given = answers((["a"], ["x"], (operation,), True))
        assert computes(given.origin[given.matches[0]], ROWS, case) is verdict
        result = Score()
        count_group(result, ROWS, given, lambda *_, told=verdict: told)
        assert (result.right, result.silent, result.numbers_wrong) == (verdict, not verdict, not verdict)


@pytest.mark.parametrize("law", ["forward", "reverse", "idempotent"])
def test_a_mapping_that_does_what_the_matches_say_keeps_the_laws(law):
    case = Case("one", (("a.w", (1,), None),), (("x.w", (1,), None, "parameter"),), (PLAIN,), {}, {}, False, None)
    given = answers((["a.w"], ["x.w"], (), True))
    assert keeps(law, case, ConversionMapping([Rename("a", "x")]), given)
    assert keeps(law, case, ConversionMapping([Rename("b", "x")]), given) is (law == "idempotent")


@pytest.mark.parametrize(("corpus", "cases"), [("pairs", 39), ("originals", 116), ("scale", 1)])
def test_the_corpora_are_whole(corpus, cases):
    assert sum(1 for _ in read_cases(corpus)) == cases
