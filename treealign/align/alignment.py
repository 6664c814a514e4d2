"""Align two trees: fold, refine, match, judge, convert, one pass after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from treealign.align.adapter_parts import with_adapter_parts
from treealign.align.causes import causes
from treealign.align.contents.anchors import doubted, find_anchors, likely, no_anchors
from treealign.align.contents.fingerprints import Contents
from treealign.align.converting.companions import with_companions
from treealign.align.converting.leftovers import converted_leftovers
from treealign.align.converting.quantisation import with_weights
from treealign.align.converting.same_names import enough, nothing_shared, quantised_findings, same_names
from treealign.align.converting.weight_norm import with_weight_norms
from treealign.align.depth import refuse_depth
from treealign.align.doubting.axes import doubt_axes
from treealign.align.doubting.conventions import Conventions, hidden_changes
from treealign.align.doubting.crossed import doubt_crossed
from treealign.align.doubting.folded_space import doubt_orders
from treealign.align.doubting.habits import Habits
from treealign.align.doubting.joined_squares import doubt_joins
from treealign.align.doubting.lists import doubt_lists
from treealign.align.doubting.reflection import reflections
from treealign.align.doubting.siblings import doubt_siblings
from treealign.align.doubting.squares import doubt_turns
from treealign.align.doubting.stacking import stacked
from treealign.align.doubting.surroundings import doubt_strangers, misplaced
from treealign.align.doubting.transposition import turned
from treealign.align.flattened import unflattened
from treealign.align.hinted import Hint, evidence_of
from treealign.align.hints import Hints
from treealign.align.hints import read as read_hints
from treealign.align.knowledge.recognising import recognised
from treealign.align.knowledge.settling import settled
from treealign.align.linking import links_of, resized_links, unused, with_conversions
from treealign.align.links import Link, lowered
from treealign.align.matching.assignment import Assignment, Given, assign
from treealign.align.matching.certainty import Doubt, Evidence, doubts, gather
from treealign.align.matching.containers import as_wholes, judge_wholes
from treealign.align.matching.in_step import placed_in_step
from treealign.align.matching.presence import part_by_presence
from treealign.align.matching.ranked import unfounded_ranks
from treealign.align.matching.refinement import refine
from treealign.align.matching.scoring import Side
from treealign.align.matching.shrinking import set_behind, shrunk
from treealign.align.matching.sizes import of_equal_size
from treealign.align.matching.staging import staged_alike
from treealign.align.matching.traced_roles import trace_findings, with_trace_said, with_traced_roles
from treealign.align.patterns import Pattern, build_patterns
from treealign.align.second_names import second_names
from treealign.align.spelling import with_dots
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True, eq=False)
class Alignment:
    """What corresponds to what.

    Attributes
    ----------
    checkpoint, model : KeyTree
        The two sides.
    links : tuple of Link
        All matches, folded; the uncertain ones as the best guess.
    copies : tuple of Link
        Checkpoint leaves that are second names of tied weights of the model.
    left, right : tuple of Pattern
        What is left over on either side.
    resized : tuple of Link
        Leaves that correspond by name although a size differs.
    findings : tuple of str
        What a person should know about the two trees.
    hints : tuple of Hint
        What the user said that counted as evidence.
    conventions : Conventions or None
        What the two sides show of their libraries; None where shapes are unknown.
    """

    checkpoint: KeyTree
    model: KeyTree
    links: tuple[Link, ...]
    copies: tuple[Link, ...]
    left: tuple[Pattern, ...]
    right: tuple[Pattern, ...]
    resized: tuple[Link, ...] = ()
    findings: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()
    conventions: Conventions | None = None


def align(checkpoint: KeyTree, model: KeyTree, hints: Hints = None, contents: Contents | None = None) -> Alignment:
    """Find the correspondence of two trees by shapes, structure and names, and by contents where these are known.

    Parameters
    ----------
    checkpoint, model : KeyTree
        Shapes may be unknown on either side; then they are not used on the other either, and names decide alone.
    hints : mapping or sequence of str, optional
        ``{"attn_norm": "input_layernorm"}`` or ``["attn_norm=input_layernorm"]``: runs of segments of the checkpoint
        and of the model that belong together. They settle what they speak of.
    contents : Contents, optional
        Fingerprints of the tensors of both sides. What has equal content is matched first; the rest is matched around
        it.

    Raises
    ------
    TreealignError
        A hint that cannot be read, or that names nothing on one of the sides; a key of more levels than any model has.

    Notes
    -----
    Linear in the number of keys, and in the patterns of a class of equal shapes cubic (assignment) at worst.

    """
    refuse_depth(checkpoint, model)
    shapes = not any(leaf.shape is None for tree in (checkpoint, model) for leaf in tree.leaves)
    here, there = with_dots(checkpoint), with_dots(model)
    here, there = unflattened(here, there), unflattened(there, here)
    here, there = with_adapter_parts(here, there), with_adapter_parts(there, here)
    here, there = staged_alike(here, there) if shapes else (here, there)
    second = second_names(here, there) if contents is None else frozenset[str]()
    aside = build_patterns(here, frozenset(here.keys) - second, shapes) if second else []
    left = part_by_presence(recognised(build_patterns(here, second, shapes), here.modules))
    right = part_by_presence(recognised(build_patterns(there, frozenset(there.tied), shapes), there.modules))
    trees = checkpoint, model
    anchors = find_anchors(contents, trees, (left, right)) if contents else no_anchors((left, right))
    left, right = refine(*map(list, anchors.rest))
    everything = ([*side, *voters] for side, voters in zip(([*left, *aside], right), anchors.voters, strict=True))
    read = evidence_of(read_hints(hints, *everything))
    left, right, same, free = set_behind(left, right, shrunk(left, right, read) if contents is None else {})
    first = len(left), len(right)
    left, right = ([*side, *voters] for side, voters in zip((left, right), anchors.voters, strict=True))
    given = Given({**same, **anchors.pairs(first)}, free, likely(contents, left, right), frozenset(same))
    sides = (
        Side.of(left, checkpoint.ordered, [h.source for h in read]),
        Side.of(right, model.ordered, [h.target for h in read]),
    )
    untraced = sides
    sides = with_traced_roles(sides[0], checkpoint), with_traced_roles(sides[1], model)
    assignment, evidence, found = assigned(sides, given)
    links = with_trace_said(links_of(sides, assignment, found), untraced, trees)
    conventions = None
    if shapes:
        weak = turned(*sides, assignment, evidence.total)
        links = with_conversions(sides, assignment, links, weak, evidence.total, read)
        links, conventions = _judged(with_companions(links, left, right), anchors.links, (here, there), (left, right))
        links = with_weights(with_weight_norms(links, left, right), trees, (left, right))
    links = [*anchors.links, *doubted(links, anchors, trees)]
    resized = resized_links(sides, assignment, links) if shapes else []
    if shapes:
        links, left, right = placed_in_step(links, resized, (here, there), (left, right), read)
        links, left, right = converted_leftovers(links, resized, (here, there), (left, right), read)
    named = same_names(links, resized, (here, there), (left, right)) if shapes else None
    if nothing_shared(links, left, right) and not enough(named, links, resized, (left, right)):
        text = "the checkpoint shares nothing with the model: no name speaks for any match"
        said = causes(checkpoint, model) or (text,)
        return Alignment(checkpoint, model, (), (), (*left, *aside), tuple(right), (), said)
    added = named.links[len(links) :] if named is not None else []
    links = [*(stacked(links, conventions, model) if conventions else links), *added]
    if named is not None:
        _, resized, left, right = named
    links = _judged_together(links, anchors.links, (left, right)) if shapes else links
    links = settled(links, there.modules) if conventions else links
    made = _finish(checkpoint, model, links, resized, [*left, *aside], right, shapes)
    findings = causes(checkpoint, model) + quantised_findings([*links, *resized], trees) + trace_findings(links, trees)
    return replace(made, hints=tuple(read), findings=made.findings + findings, conventions=conventions)


def _judged(
    links: Sequence[Link],
    settled: Sequence[Link],
    trees: tuple[KeyTree, KeyTree],
    patterns: tuple[Sequence[Pattern], Sequence[Pattern]],
) -> tuple[list[Link], Conventions]:
    """The links as conventions, siblings, lists and surroundings judge them; what is settled speaks, too."""
    conventions = Conventions.of([*settled, *links], Habits(*patterns), trees[1])
    links = hidden_changes([*settled, *links], conventions)
    links = doubt_siblings(doubt_lists(links))[len(settled) :]
    links = doubt_orders(doubt_axes(links, *trees), trees[1])
    return doubt_strangers(links, unused(links, patterns[0])), conventions


def _judged_together(
    links: Sequence[Link], proved: Sequence[Link], patterns: tuple[Sequence[Pattern], Sequence[Pattern]]
) -> list[Link]:
    """The links as all of them together show them, wherever they were found; what is proved stays so."""
    known = set(proved)
    judged = doubt_turns(doubt_joins(doubt_crossed(doubt_siblings(links)), *patterns), *patterns)
    return [link if link in known else other for link, other in zip(links, judged, strict=True)]


def assigned(sides: tuple[Side, Side], given: Given) -> tuple[Assignment, Evidence, dict[int, Doubt]]:
    """The assignment and its doubts, made again where what is certain in it teaches something about the rest."""
    assignment, evidence = assign(*sides, given=given), gather(*sides, free=given.free)
    found = doubts(*sides, assignment, evidence)
    known = misplaced(*sides, assignment, found)
    if known is not None:
        assignment = assign(*sides, known, given)
        found = doubts(*sides, assignment, evidence)
    mirrored = reflections(*sides, assignment)
    if mirrored is not None:
        assignment = assign(*sides, mirrored if known is None else mirrored + known, given)
        evidence = gather(*sides, mirrored, given.free)
        found = doubts(*sides, assignment, evidence, mirrored)
    learned = [table for table in (known, mirrored) if table is not None]
    for rule in (of_equal_size, as_wholes):
        whole = rule(*sides, assignment)
        if whole is not None:
            learned.append(whole)
            assignment = assign(*sides, np.sum(learned, axis=0), given)
            found = doubts(*sides, assignment, evidence, mirrored)
    unfounded = unfounded_ranks(*sides, assignment)
    if unfounded is not None:
        doubted = gather(*sides, unfounded if mirrored is None else unfounded + mirrored, given.free)
        found = {**doubts(*sides, assignment, doubted, mirrored), **found}
    return assignment, evidence, judge_wholes(*sides, assignment, found, mirrored)


def _finish(
    checkpoint: KeyTree,
    model: KeyTree,
    links: list[Link],
    resized: list[Link],
    left: list[Pattern],
    right: list[Pattern],
    shapes: bool,
) -> Alignment:
    taken_left = {p for link in links + resized for p in link.left}
    taken_right = {p for link in links + resized for p in link.right}
    rest_left = [p for p in left if p not in taken_left]
    rest_right = [p for p in right if p not in taken_right]
    copies = _copies(checkpoint, model, rest_left, shapes)
    copied = {p for link in copies for p in link.left}
    rest_left = [p for p in rest_left if p not in copied]
    if not shapes:
        links = [lowered(link) for link in links]
    leftovers = tuple(rest_left), tuple(rest_right)
    return Alignment(checkpoint, model, tuple(links), tuple(copies), *leftovers, tuple(resized))


def _copies(checkpoint: KeyTree, model: KeyTree, rest: list[Pattern], shapes: bool) -> list[Link]:
    """Leftover checkpoint leaves that are the second name of a tied weight."""
    if not model.tied or not rest:
        return []
    plain = frozenset(k for k in model.keys if k not in model.tied)
    aliases = build_patterns(model, plain, shapes)
    sides = Side.of(rest, checkpoint.ordered), Side.of(aliases, model.ordered)
    assignment = assign(*sides)
    found = doubts(*sides, assignment, gather(*sides))
    return [link for link in links_of(sides, assignment, found) if link.certain]
