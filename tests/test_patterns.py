"""Key patterns: whole segments, first position, no backtracking, clear errors."""

from __future__ import annotations

import pytest
import slow_mapping
from hypothesis import example, given
from strategies import any_patterns, keys

from treealign.errors import PatternError
from treealign.tree.patterns import KeyPattern, is_literal
from treealign.tree.segments import Slot


def found(pattern, key):
    position = KeyPattern.parse(pattern).match(key)
    return position and (position.start, position.stop, position.captures)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("layer", "layer.0.w", (0, 1, {})),
        ("layer", "layernorm.w", None),
        ("norm", "layer.norm", None),
        ("**.norm", "layer.norm", (1, 2, {})),
        ("**.norm", "norm.norm", (0, 1, {})),
        ("**.norm", "a.norm1", None),
        ("layers.{i}", "layers.12.w", (0, 2, {"i": "12"})),
        ("layers.{i}", "layers.0", (0, 2, {"i": "0"})),
        ("layers.{i}", "layers.007", None),
        ("layers.{i}", "layers.٣", None),
        ("layers.{i}", "layers.x", None),
        ("layers.{i}", "layers", None),
        ("linear_{i}", "linear_2", (0, 1, {"i": "2"})),
        ("linear_{i}", "linear_02", None),
        ("linear_{i}", "linear_", None),
        ("{i}_{j}x", "3_4x", (0, 1, {"i": "3", "j": "4"})),
        ("layers.{i+1}", "layers.3", (0, 2, {"i": "2"})),
        ("layers.{i+1}", "layers.0", None),
        ("layers.{i-1}", "layers.3", (0, 2, {"i": "4"})),
        ("layers.{i:3..60}", "layers.2", None),
        ("layers.{i:3..60}", "layers.3", (0, 2, {"i": "3"})),
        ("layers.{i:3..60}", "layers.60", (0, 2, {"i": "60"})),
        ("layers.{i:3..60}", "layers.61", None),
        ("layers.{i+1:0..1}", "layers.2", (0, 2, {"i": "1"})),
        ("layers.{i+1:0..1}", "layers.3", None),
        ("{part:layers|norm}", "norm.w", (0, 1, {"part": "norm"})),
        ("{part:layers|norm}", "norms.w", None),
        ("x_{part:w|w_1}_{i}", "x_w_1_2", (0, 1, {"part": "w_1", "i": "2"})),
        ("{part:0|1}", "1.w", (0, 1, {"part": "1"})),
        ("a.b$", "a.b", (0, 2, {})),
        ("a.b$", "a.b.c", None),
        ("**.b$", "b.c.b", (2, 3, {})),
        ("**.a.b", "a.a.b", (1, 3, {})),
        ("conv1.0", "conv1.0.w", (0, 2, {})),
        ("with space.é", "with space.é", (0, 2, {})),
    ],
)
def test_a_pattern_matches_whole_segments_at_the_first_position(pattern, key, expected):
    assert found(pattern, key) == expected


@given(any_patterns(), keys())
@example("**.{i:0..1}.a", "2.a.1.a")
def test_matching_agrees_with_the_textbook(pattern, key):
    limits = slow_mapping.limits_of(pattern)
    expected = slow_mapping.find(pattern, key.split("."), 0, limits)
    held = expected and (*expected[:2], {name: str(value) for name, value in expected[2].items()})
    assert found(pattern, key) == held


@given(any_patterns(), keys())
def test_what_matched_is_written_out_again(pattern, key):
    read = KeyPattern.parse(pattern)
    position = read.match(key)
    if position:
        assert read.substitute(position.captures) == tuple(key.split("."))[position.start : position.stop]


def test_positions_lists_every_position_at_which_it_could_match():
    assert [p.start for p in KeyPattern.parse("**.{i}").positions("0.a.1.b.2")] == [0, 2, 4]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "empty segment"),
        (".", "empty segment"),
        ("a..b", "empty segment"),
        (".a", "empty segment"),
        ("a.", "empty segment"),
        ("**.", "empty segment"),
        ("$", "empty segment"),
        ("**", "`**.` may only stand in front"),
        ("a.**.b", "`**.` may only stand in front"),
        ("layers.*", "no other wildcard"),
        ("a$.b", "`$` may only stand at the end"),
        ("a$$", "`$` may only stand at the end"),
        ("{i", "a `{` is not paired"),
        ("i}", "a `}` is not paired"),
        ("{{i}}", "not paired"),
        ("{}", "{} is no capture"),
        ("{1}", "{1} is no capture"),
        ("{i+}", "{i+} is no capture"),
        ("{i+0}", "{i+0} is no capture"),
        ("{i*2}", "{i*2} is no capture"),
        ("{i}.{i}", "{i} stands in it twice"),
        ("{i}{j}", "{i} and {j} need a literal between them"),
        ("{i}{p:a|b}", "{i} and {p} need a literal between them"),
        ("w2{i}", "a capture takes whole numbers"),
        ("{i}0", "a capture takes whole numbers"),
        ("{i:5..3}", "ends before it begins"),
        ("{i:3..}", "neither a range"),
        ("{i:03..4}", "neither a range"),
        ("{i:a}", "neither a range"),
        ("{i:}", "neither a range"),
        ("{p:a|}", "no literal of one segment"),
        ("{p:a|b.c}", "no literal of one segment"),
        ("{p:a|b*}", "no literal of one segment"),
        ("{p:a|a}", "an option twice"),
        ("{p+1:a|b}", "shifts a choice"),
        ("{p:x|x_1}_{i}_{q:y|1_y}", "two choices read alike"),
        ("{p:a|a_b}_{q:c|b_c}", "two choices read alike"),
    ],
)
def test_a_malformed_pattern_says_what_is_wrong(pattern, reason):
    with pytest.raises(PatternError, match="is no key pattern") as raised:
        KeyPattern.parse(pattern)
    assert any(reason in fact for fact in raised.value.facts)


def test_a_malformed_pattern_says_everything_that_is_wrong():
    with pytest.raises(PatternError) as raised:
        KeyPattern.parse("a..{i.b*")
    assert len(raised.value.facts) == 3


@pytest.mark.parametrize("pattern", [None, 3, ("a",)])
def test_a_pattern_is_text(pattern):
    with pytest.raises(PatternError, match="is text"):
        KeyPattern.parse(pattern)


def test_a_segment_offers_a_thousand_choices_at_most():
    options = "|".join(f"o{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(40))
    with pytest.raises(PatternError, match="1600 choices"):
        KeyPattern.parse(f"{{p:{options}}}_{{q:{options}}}")


def test_a_pattern_has_ten_thousand_segments_at_most():
    assert KeyPattern.parse("a." * 9_999 + "a").match("a." * 10_000 + "b")
    with pytest.raises(PatternError, match="10001 segments"):
        KeyPattern.parse("a." * 10_000 + "a")


@pytest.mark.parametrize("key", ["9" * 5000, "layers." + "9" * 5000])
def test_numbers_of_thousands_of_digits_do_not_trip_limits_and_shifts(key):
    assert KeyPattern.parse("**.{i:0..3}").match(key) is None
    assert KeyPattern.parse("**.{i+1}").match(key) is None


@pytest.mark.parametrize(
    ("segment", "expected"), [("norm", True), ("0", True), ("", False), ("{i}", False), ("a*", False), ("a$", False)]
)
def test_is_literal_tells_what_can_stand_in_a_pattern(segment, expected):
    assert is_literal(segment) is expected


class Unwilling:
    """Knows no index."""

    def holds(self, slot, low, high):
        raise AssertionError(f"it was asked whether {slot} lies in {low}..{high}")

    value = holds


def test_no_index_is_asked_for_where_the_words_differ():
    name = ("stages", ("", Slot(0), ""), "layers", "7")
    assert KeyPattern.parse("**.stages.{i:1..2}.module").match(name, slots=Unwilling()) is None
