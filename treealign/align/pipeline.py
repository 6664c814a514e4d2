"""The order in which two trees are aligned: read this list and know it.

A pass takes the state and gives it back with more in it. A judge says what else a match may be that it cannot refute;
what is open for that is said by `treealign.align.verdict` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align import passes
from treealign.align.contents.objections import judge_contents
from treealign.align.converting.quantisation import judge_pieces, judge_scales
from treealign.align.doubting.axes import judge_indices
from treealign.align.doubting.crossed import judge_crossed
from treealign.align.doubting.folded_space import judge_orders
from treealign.align.doubting.joined_squares import turn_joined_squares
from treealign.align.doubting.lists import judge_lists
from treealign.align.doubting.other_tower import judge_other_tower
from treealign.align.doubting.siblings import judge_siblings
from treealign.align.doubting.squares import judge_turns
from treealign.align.doubting.unknown_shapes import judge_without_shapes
from treealign.align.state import Judge, Pass, State
from treealign.align.verdict import judged

JUDGES: tuple[Judge, ...] = (
    judge_lists,
    judge_siblings,
    judge_indices,
    judge_orders,
    judge_other_tower,
    judge_scales,
    judge_pieces,
    judge_contents,
)
JUDGES_OF_ALL: tuple[Judge, ...] = (
    judge_siblings,
    judge_crossed,
)
JUDGES_OF_TURNS: tuple[Judge, ...] = (judge_turns,)


def judge(state: State, judges: Sequence[Judge]) -> State:
    """The state, open in what any of the judges cannot refute; each sees what those before it have said."""
    for one in judges:
        state = replace(state, links=tuple(judged(state.links, one(state), state.anchors.links)))
    return state


@passes.needs_shapes
def judge_found(state: State) -> State:
    """Judge what names and shapes have found."""
    return judge(state, JUDGES)


def judge_all(state: State) -> State:
    """Judge all matches together, wherever they were found."""
    return judge(state, JUDGES_OF_ALL if state.shapes else (judge_without_shapes,))


@passes.needs_shapes
def judge_all_turns(state: State) -> State:
    """Judge which way round matrices stand, by all that others show."""
    return judge(state, JUDGES_OF_TURNS)


PASSES: tuple[Pass, ...] = (
    passes.read_names,
    passes.fold,
    passes.anchor,
    passes.unfold,
    passes.hear,
    passes.shrink,
    passes.read_words,
    passes.match,
    passes.link,
    passes.convert,
    passes.suspect_conventions,
    passes.fold_weight_norms,
    judge_found,
    passes.join_proved,
    passes.match_resized,
    passes.place_in_step,
    passes.convert_leftovers,
    passes.stack_doubts,
    passes.match_same_names,
    judge_all,
    turn_joined_squares,
    judge_all_turns,
    passes.settle,
    passes.leave_over,
    passes.find_causes,
)


def run_passes(state: State) -> State:
    """Fold a state through all passes; two trees that share nothing are done early."""
    for one in PASSES:
        state = one(state)
        if state.foreign:
            break
    return state
