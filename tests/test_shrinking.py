"""What is obviously the same is found first, in linear time, and changes nothing of what the costly search says."""

from __future__ import annotations

import pytest
from aligning import tree
from cases import read_cases

from treealign.align import alignment, passes
from treealign.align.matching.shrinking import shrink
from treealign.align.patterns import build_patterns

LINEAR, NORM = (8, 8), (8,)


def shrunk(left, right, **said):
    """Pairs of templates that were taken for the same."""
    sides = [build_patterns(tree(side)) for side in (left, right)]
    pairs = shrink(*sides, **said)
    return {sides[0][i].template: sides[1][j].template for i, j in pairs.items()}


def block(name, **leaves):
    return {f"{name}.{leaf.replace('_', '.')}.weight": shape for leaf, shape in leaves.items()}


def test_equal_trees_are_the_same_throughout():
    side = block("enc", q=LINEAR, k=LINEAR, norm=NORM) | block("dec", q=LINEAR, norm=NORM)
    assert shrunk(side, side) == {key: key for key in side}


def test_a_level_around_everything_is_seen():
    side = block("enc", q=LINEAR, norm=NORM) | block("dec", q=LINEAR, norm=NORM)
    around = {f"model.{key}": shape for key, shape in side.items()}
    assert shrunk(side, around) == {key: f"model.{key}" for key in side}


def test_a_word_called_otherwise_everywhere_is_seen():
    side = {f"{name}.attn.{leaf}.weight": LINEAR for name in ("up", "down") for leaf in ("q", "k")}
    other = {key.replace("attn", "attention"): shape for key, shape in side.items()}
    assert shrunk(side, other) == {key: key.replace("attn", "attention") for key in side}


def test_a_subtree_that_moved_is_known_again_by_what_it_holds():
    side = block("text.layers", q=LINEAR, k=LINEAR, norm=NORM) | {"head.weight": (16, 8)}
    other = block("body.layers", q=LINEAR, k=LINEAR, norm=NORM) | {"out.weight": (32, 8)}
    assert shrunk(side, other) == {key: key.replace("text", "body") for key in side if key.startswith("text")}


def test_a_numbered_series_that_is_shifted_is_set_aside():
    left = {"block.norm0.weight": NORM, "block.norm1.weight": NORM, "block.q.weight": LINEAR}
    right = {"block.norm1.weight": NORM, "block.norm2.weight": NORM, "block.q.weight": LINEAR}
    assert shrunk(left, right) == {"block.q.weight": "block.q.weight"}


def test_a_list_of_which_one_member_differs_is_set_aside():
    left = {"up.0.a.weight": (4, 4), "up.1.a.weight": (4, 4, 1), "head.weight": NORM}
    right = {"up.0.a.weight": (4, 4), "up.1.a.weight": (4, 4, 3), "head.weight": NORM}
    assert shrunk(left, right) == {"head.weight": "head.weight"}


def test_what_a_leftover_beside_it_could_be_exchanged_with_is_set_aside():
    left = {"a.norm.weight": NORM, "a.ln.weight": NORM, "a.q.weight": LINEAR}
    right = {"a.norm.weight": NORM, "a.scale.weight": NORM, "a.q.weight": LINEAR}
    assert shrunk(left, right) == {"a.q.weight": "a.q.weight"}


def test_twin_towers_that_both_moved_are_left_to_the_search():
    towers = {f"{tower}.{leaf}.weight": LINEAR for tower in ("text", "image") for leaf in ("q", "k")}
    moved = {f"{tower}.{leaf}.weight": LINEAR for tower in ("one", "two") for leaf in ("q", "k")}
    assert shrunk(towers, moved) == {}


def test_a_container_of_which_a_part_may_stay_where_it_is_has_not_obviously_moved():
    left = block("a", q=LINEAR, x=(3, 3)) | block("b", q=LINEAR, k=LINEAR, norm=NORM)
    right = block("a", q=LINEAR, k=LINEAR, norm=NORM)
    assert shrunk(left, right) == {}


def test_what_a_hint_speaks_of_is_left_to_the_search():
    side = block("enc", q=LINEAR, norm=NORM)
    apart = (lambda p: "q" in p.segments, lambda _: False)
    assert shrunk(side, side, apart=apart) == {"enc.norm.weight": "enc.norm.weight"}


def stated(found):
    """What an alignment says of every key, whatever the order of its links."""
    keys = found.checkpoint.keys, found.model.keys
    return sorted(
        ([keys[0][i] for i in g.left], [keys[1][j] for j in g.right], str(link.operations), link.certain, link.reason)
        for link in found.links
        for g in link.expand()
    )


CASES = [case for n, case in enumerate(read_cases("synthetic")) if n % 12 == 0]
CASES += [case for n, case in enumerate(read_cases("pairs")) if n % 4 == 0]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_costly_search_alone_says_the_same(case, monkeypatch):
    quick = stated(alignment.align(*case.trees()))
    monkeypatch.setattr(passes, "shrunk", lambda *_: {})
    assert quick == stated(alignment.align(*case.trees()))
