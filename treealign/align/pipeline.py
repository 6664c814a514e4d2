"""The order in which two trees are aligned: read this list and know it.

A pass takes the state and gives it back with more in it. A judge says what else a match may be that it cannot refute;
what is open for that is said by `treealign.align.verdict` alone.
"""

from __future__ import annotations

from dataclasses import replace

from treealign.align import passes
from treealign.align.contents.objections import judge_contents
from treealign.align.converting.quantisation import judge_pieces, judge_scales
from treealign.align.doubting.alike_modules import judge_alike_modules
from treealign.align.doubting.axes import judge_indices
from treealign.align.doubting.crossed import judge_crossed
from treealign.align.doubting.exchanged_parts import judge_exchanged_parts
from treealign.align.doubting.folded_space import judge_orders
from treealign.align.doubting.followers import follow_modules
from treealign.align.doubting.homes import judge_homes
from treealign.align.doubting.index_families import judge_index_families
from treealign.align.doubting.joined_squares import turn_joined_squares
from treealign.align.doubting.left_stacks import judge_left_stacks
from treealign.align.doubting.lists import judge_lists
from treealign.align.doubting.members import judge_members
from treealign.align.doubting.other_tower import judge_other_tower
from treealign.align.doubting.same_paths import judge_same_paths
from treealign.align.doubting.siblings import judge_siblings
from treealign.align.doubting.squares import judge_turns
from treealign.align.doubting.torn import judge_torn
from treealign.align.doubting.twins import judge_twins
from treealign.align.doubting.unknown_shapes import judge_without_shapes
from treealign.align.matching.places import settle_places
from treealign.align.matching.whole_modules import keep_modules_whole, keep_to_blocks
from treealign.align.state import Judge, Pass, State
from treealign.align.unnamed import judge_unnamed
from treealign.align.verdict import judged

JUDGES: tuple[Judge, ...] = (
    judge_lists,
    judge_unnamed,
    judge_siblings,
    judge_indices,
    judge_orders,
    judge_other_tower,
    judge_scales,
    judge_pieces,
    judge_contents,
    judge_crossed,
    judge_alike_modules,
    judge_members,
    judge_same_paths,
    judge_index_families,
    judge_left_stacks,
    judge_exchanged_parts,
    judge_homes,
    judge_turns,
    judge_torn,
)


def judge(state: State) -> State:
    """The state, open in what any of the judges cannot refute; each sees what those before it have said."""
    for one in JUDGES if state.shapes else (judge_without_shapes,):
        state = replace(state, links=tuple(judged(state.links, one(state), state.anchors.links)))
    return state


def judge_settled(state: State) -> State:
    """The state, open in which whole is made of which parts where only rows were open before layouts settled them."""
    return replace(state, links=tuple(judged(state.links, judge_twins(state), state.anchors.links)))


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
    judge,  # what is certain by now holds its leaves in the passes that follow
    passes.settle_read,
    passes.join_proved,
    passes.match_resized,
    passes.place_in_step,
    passes.convert_leftovers,
    keep_modules_whole,
    settle_places,
    keep_to_blocks,
    passes.suspect_late,
    passes.stack_doubts,
    passes.match_same_names,
    passes.part_kinds,
    turn_joined_squares,
    judge,  # all matches together, wherever they were found
    follow_modules,
    passes.settle,
    judge_settled,
    passes.compute_known,
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
