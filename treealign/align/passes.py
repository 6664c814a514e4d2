"""The passes of the aligner: each takes what is known so far and gives it back with more in it.

Their order, and what each needs, stands in `treealign.align.pipeline`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import wraps

from treealign.align.adapter_parts import with_adapter_parts
from treealign.align.causes import causes
from treealign.align.contents.anchors import find_anchors, likely, no_anchors
from treealign.align.converting.arithmetic import with_arithmetic
from treealign.align.converting.companions import with_companions
from treealign.align.converting.leftovers import converted_leftovers
from treealign.align.converting.same_names import (
    enough,
    nothing_shared,
    of_one_kind,
    quantised_findings,
    same_names,
)
from treealign.align.converting.weight_norm import with_weight_norms
from treealign.align.depth import refuse_depth
from treealign.align.doubting.conventions import Conventions, hidden_changes
from treealign.align.doubting.habits import Habits
from treealign.align.doubting.stacking import judge_exchanges, stacked
from treealign.align.doubting.transposition import turned
from treealign.align.flattened import unflattened
from treealign.align.hinted import evidence_of
from treealign.align.knowledge.chains import spelled_alike
from treealign.align.knowledge.reading import read_alike, unfolded
from treealign.align.knowledge.recognising import recognised
from treealign.align.knowledge.settling import Pair, settled_as_read, settled_by_layouts
from treealign.align.linking import links_of, resized_links, with_conversions
from treealign.align.links import Link, parted
from treealign.align.matching.assigning import assign_refined
from treealign.align.matching.assignment import Given, assign
from treealign.align.matching.certainty import doubts, gather
from treealign.align.matching.in_step import placed_in_step
from treealign.align.matching.presence import part_by_presence
from treealign.align.matching.refinement import refine
from treealign.align.matching.scoring import Side
from treealign.align.matching.shrinking import set_behind, shrunk
from treealign.align.matching.staging import staged_alike
from treealign.align.matching.traced_roles import trace_findings, traced_roles, with_trace_said, with_traced_roles
from treealign.align.patterns import Pattern, build_patterns
from treealign.align.reading_hints import read as read_hints
from treealign.align.second_names import second_names
from treealign.align.spelling import with_dots, without_wrappers
from treealign.align.state import Pass, State
from treealign.align.unnamed import with_names
from treealign.align.verdict import judged
from treealign.align.words import Token

STRANGERS = "the checkpoint shares nothing with the model: no name speaks for any match"


def needs_shapes(run: Pass) -> Pass:
    """A pass that does nothing where shapes are unknown on either side."""

    @wraps(run)
    def guarded(state: State) -> State:
        return run(state) if state.shapes else state

    return guarded


def read_names(state: State) -> State:
    """Read both trees under dotted names; lists that one side numbers in stages are numbered alike."""
    refuse_depth(*state.given)
    here, there = map(without_wrappers, map(with_dots, state.given))
    here, there = with_names(here, there), with_names(there, here)
    here, there = unflattened(here, there), unflattened(there, here)
    here, there = with_adapter_parts(here, there), with_adapter_parts(there, here)
    if not state.shapes:
        return replace(state, trees=(here, there))
    here, spelled = spelled_alike(here, there)
    return replace(state, trees=staged_alike(here, there), spelled=spelled)


def fold(state: State) -> State:
    """Fold the leaves over their indices; second names of others stand aside, known libraries are recognised."""
    here, there = state.trees
    second = second_names(here, there) if state.contents is None else frozenset[str]()
    aside = build_patterns(here, frozenset(here.keys) - second, state.shapes) if second else []
    left = part_by_presence(recognised(build_patterns(here, second, state.shapes), here.modules))
    right = part_by_presence(recognised(build_patterns(there, frozenset(there.tied), state.shapes), there.modules))
    return replace(state, patterns=unfolded(left, right), aside=aside)


def anchor(state: State) -> State:
    """Settle what has equal contents, where these are compared."""
    found = find_anchors(state.contents, state.given, state.patterns) if state.contents else no_anchors(state.patterns)
    return replace(state, anchors=found, patterns=found.rest, proved=found.links)


def unfold(state: State) -> State:
    """Unfold patterns as far as the other side has them apart."""
    return replace(state, patterns=refine(*map(list, state.patterns)))


def hear(state: State) -> State:
    """Read what the user said, and which of it speaks of names."""
    sides = [[*side, *voters] for side, voters in zip(state.patterns, state.anchors.voters, strict=True)]
    return replace(state, hints=tuple(evidence_of(read_hints(state.said, *sides), [*sides[0], *sides[1]])))


def shrink(state: State) -> State:
    """Settle what is obviously the same, by the digests of subtrees; the search sees the rest."""
    same = {} if state.contents is not None else shrunk(*state.patterns, state.hints)
    *sides, same, free = set_behind(*state.patterns, same)
    pairs = {**same, **state.anchors.pairs((len(sides[0]), len(sides[1])))}
    left, right = ([*side, *voters] for side, voters in zip(sides, state.anchors.voters, strict=True))
    fixed = Given(pairs, free, likely(state.contents, left, right), frozenset(same))
    return replace(state, patterns=(left, right), fixed=fixed)


def read_words(state: State) -> State:
    """Read words and roles off the names, and roles off the traces."""
    (left, right), (checkpoint, model) = state.patterns, state.given
    sides = (
        Side.of(left, checkpoint.ordered, [h.source for h in state.hints]),
        Side.of(right, model.ordered, [h.target for h in state.hints]),
    )
    alike = read_alike(left, right)
    said = (
        {i: Token(f"~{text}", 1, True) for i, _, text in alike},
        {j: Token(f"~{text}", 1, True) for _, j, text in alike},
    )
    sides = sides[0].with_tokens(said[0]), sides[1].with_tokens(said[1])
    roles = [traced_roles(side, tree) for side, tree in zip(sides, state.given, strict=True)]
    traced = with_traced_roles(sides[0], roles[0]), with_traced_roles(sides[1], roles[1])
    return replace(state, sides=traced, roles=roles[0] | roles[1])


def match(state: State) -> State:
    """Assign patterns of equal cells, containers as wholes."""
    return replace(state, matched=assign_refined(state.sides, state.fixed))


def link(state: State) -> State:
    """Make links of the assignment, those with rivals that nothing separates from them open."""
    links = links_of(state.sides, state.matched.assignment, state.matched.doubts)
    return replace(state, links=tuple(with_trace_said(links, state.roles)))


@needs_shapes
def convert(state: State) -> State:
    """Convert what renames leave over: joined, cut, stacked, turned, reshaped."""
    assignment, total = state.matched.assignment, state.matched.evidence.total
    away = turned(*state.sides, assignment, total)
    links = with_conversions(state.sides, assignment, state.links, away, total, state.hints)
    return replace(state, links=tuple(with_companions(links, *state.patterns)))


@needs_shapes
def suspect_conventions(state: State) -> State:
    """See which conventions the two libraries follow, and which changes these hide that no shape shows."""
    conventions = Conventions.of(state.known, Habits(*state.patterns), state.trees[1])
    links = hidden_changes(state.known, conventions)[len(state.proved) :]
    return replace(state, links=tuple(links), conventions=conventions)


@needs_shapes
def fold_weight_norms(state: State) -> State:
    """Take a direction and a length for the weight that they make."""
    return replace(state, links=tuple(with_weight_norms(state.links, *state.patterns)))


def join_proved(state: State) -> State:
    """Put what contents have proved among the links."""
    return replace(state, links=state.known, proved=())


@needs_shapes
def match_resized(state: State) -> State:
    """Match names that correspond although a size differs."""
    return replace(state, resized=tuple(resized_links(state.sides, state.matched.assignment, state.links)))


@needs_shapes
def place_in_step(state: State) -> State:
    """Place what names leave open by the order of the layers."""
    links, left, right = placed_in_step(state.links, state.resized, state.trees, state.patterns, state.hints)
    return replace(state, links=tuple(links), patterns=(left, right))


def settle_read(state: State) -> State:
    """Settle the names of what a known library spells so, before anything is placed by what names leave open."""
    return replace(state, links=tuple(settled_as_read(state.links, _read(state))))


def _read(state: State) -> Mapping[Pair, str]:
    """Patterns of the two sides that read as one path, with what they read as."""
    left, right = state.patterns
    return {(left[i], right[j]): text for i, j, text in read_alike(left, right)}


@needs_shapes
def convert_leftovers(state: State) -> State:
    """Convert what is left over in the end, folded anew."""
    links, left, right = converted_leftovers(state.links, state.resized, state.trees, state.patterns, state.hints)
    return replace(state, links=tuple(links), patterns=(left, right))


def suspect_late(state: State) -> State:
    """See what is hidden by what was found late, or told by its place alone: it may hide it as all else does."""
    if state.conventions is None:
        return state
    proved = set(state.anchors.links)
    suspected = zip(state.links, hidden_changes(state.links, state.conventions), strict=True)
    links = (new if link.certain and link not in proved else link for link, new in suspected)
    return replace(state, links=tuple(links))


@needs_shapes
def stack_doubts(state: State) -> State:
    """See what else is open about what is open."""
    if state.conventions is None:
        return state
    links = judged(state.links, judge_exchanges(state), state.anchors.links)
    return replace(state, links=tuple(stacked(links, state.conventions, state.given[1])))


def match_same_names(state: State) -> State:
    """Match equal names of unlike tensors; stop where the two sides share nothing."""
    named = same_names(state.links, state.resized, state.trees, state.patterns) if state.shapes else None
    shared = enough(named, state.links, state.resized, state.patterns)
    if nothing_shared(state.links, *state.patterns) and not shared:
        said = causes(*state.given) or (STRANGERS,)
        left, right = (*state.patterns[0], *state.aside), tuple(state.patterns[1])
        return replace(state, links=(), resized=(), left=left, right=right, hints=(), findings=said, foreign=True)
    if named is None:
        return state
    return replace(state, links=tuple(named.links), resized=tuple(named.resized), patterns=(named.left, named.right))


def part_kinds(state: State) -> State:
    """Set aside what is of another kind on either side: whole numbers in the place of a weight."""
    links, unlike = of_one_kind(state.links, state.given)
    if not unlike:
        return state
    everything = [*links, *unlike]
    left, right = state.patterns
    sides = parted(left, [x.left for x in everything]), parted(right, [x.right for x in everything])
    return replace(state, links=tuple(links), resized=(*state.resized, *unlike), patterns=sides)


def settle(state: State) -> State:
    """Settle what known layouts speak of, once all that is open about what is open stands with it."""
    if state.conventions is None:
        return state
    links = stacked(state.links, state.conventions, state.trees[1])
    links = settled_by_layouts(links, state.trees[1].modules, state.conventions.habits, _read(state))
    return replace(state, links=tuple(_with_spelling(one, state.spelled) for one in links))


def _with_spelling(link: Link, spelled: Mapping[int, str]) -> Link:
    """The link, with what says that its leaf is read under the model's name."""
    said = dict.fromkeys(spelled[at] for p in link.left for at in p.cells.values() if at in spelled)
    return replace(link, evidence=(*link.evidence, *said)) if said else link


@needs_shapes
def compute_known(state: State) -> State:
    """Undo what a known library does to numbers, where names and shapes are the same."""
    return replace(state, links=tuple(with_arithmetic(state.links, state.given, set(state.anchors.links))))


def leave_over(state: State) -> State:
    """List what nothing corresponds to; second names of tied weights are copies."""
    used = {p for one in (*state.links, *state.resized) for p in (*one.left, *one.right)}
    left = [p for p in (*state.patterns[0], *state.aside) if p not in used]
    right = tuple(p for p in state.patterns[1] if p not in used)
    copies = _copies(state, left)
    copied = {p for one in copies for p in one.left}
    rest = tuple(p for p in left if p not in copied)
    return replace(state, left=rest, right=right, copies=tuple(copies))


def find_causes(state: State) -> State:
    """Say what is the matter with the two trees as wholes."""
    everything = [*state.links, *state.resized]
    found = quantised_findings(everything, state.given) + trace_findings(state.links, state.given)
    return replace(state, findings=(*state.findings, *causes(*state.given), *found))


def _copies(state: State, rest: list[Pattern]) -> list[Link]:
    """Leftover checkpoint leaves that are the second name of a tied weight."""
    checkpoint, model = state.given
    if not model.tied or not rest:
        return []
    aliases = build_patterns(model, frozenset(k for k in model.keys if k not in model.tied), state.shapes)
    sides = Side.of(rest, checkpoint.ordered), Side.of(aliases, model.ordered)
    assignment = assign(*sides)
    found = doubts(*sides, assignment, gather(*sides))
    return [one for one in links_of(sides, assignment, found) if one.certain]
