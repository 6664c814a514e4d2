"""What `treealign suggest --explain` prints: the evidence for a match, its rivals, and what would settle it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from treealign.cli.console import HINT, fitted, fold_line, plural, width
from treealign.errors import TreealignError, look_alikes
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree

if TYPE_CHECKING:
    from treealign.align.asking.explaining import Explanation, Rival
    from treealign.align.asking.weighing import Weighed
    from treealign.suggestion import Suggestion

RIVALS_SHOWN = 4
ITEMS_SHOWN = 5
KEYS_SHOWN = 6
_CAPTURE = re.compile(r"\{[^{}.]*(?:\.\.[0-9]+)?[^{}.]*\}")


def asked_keys(text: str, checkpoint: KeyTree, model: KeyTree) -> list[str]:
    """The keys that a KEY argument stands for: one, or all of a key pattern such as ``layers.{i}.norm.weight``.

    Raises
    ------
    TreealignError
        If neither side has such a key, with the keys that look like it.
    """
    everything = dict.fromkeys((*checkpoint.keys, *model.keys))
    if text in everything:
        return [text]
    literals = _CAPTURE.split(text)
    pattern = re.compile("[0-9]+".join(map(re.escape, literals)))
    found = [key for key in everything if pattern.fullmatch(key)] if len(literals) > 1 else []
    if found:
        return found
    raise TreealignError(
        "neither the checkpoint nor the model has this key",
        where=text,
        facts=look_alikes(text, everything, 5),
        hint="name a key, or a pattern in which {i} stands for an index",
    )


def explanation_lines(found: Sequence[Explanation], suggestion: Suggestion) -> Iterator[str]:
    """One block for each match, for all of its repeats."""
    for at, one in enumerate(found):
        yield from [""] if at else []
        yield from _match(one)
        yield from _section("evidence, and how much of it counts", [*_items("      ", one.evidence)])
        yield from _rivals(one)
        yield from _alternatives(one)
        yield from _settling(one, suggestion)


def _match(one: Explanation) -> Iterator[str]:
    if not one.checkpoint or not one.model:
        side = "checkpoint" if one.checkpoint else "model"
        yield f"{'unexpected' if one.checkpoint else 'missing'}: a key of the {side} without a match"
        yield from _names("    ", one.checkpoint or one.model)
        return
    yield f"{'certain' if one.certain else 'uncertain'} match, checkpoint -> model"
    yield from _names("    ", one.checkpoint)
    yield from _names(" -> ", one.model)
    yield from (f"    by  {operation}" for operation in one.operations)
    if one.reason:
        yield from fold_line(f"    {'' if one.certain else 'open: '}{one.reason}", " " * 10)


def _names(lead: str, keys: Sequence[str]) -> Iterator[str]:
    for at, name in enumerate(fold_names(keys, KEYS_SHOWN)):
        yield f"{lead if at == 0 else '    '}{name}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (part for line in lines for part in fold_line(line, " " * 12))


def _alternatives(one: Explanation) -> Iterator[str]:
    """Each with its hint on a line of its own, to be pasted."""
    if one.alternatives:
        yield from ["", "alternatives, the guess first"]
    for alternative in one.alternatives:
        text, _, hint = alternative.partition(f": {HINT}")
        yield from fold_line(f"    {text}", " " * 12)
        yield from fitted([f"      {HINT}{hint}"], width()) if hint else []


def _items(indent: str, items: Weighed) -> Iterator[str]:
    for text, value in items:
        yield f"{indent}{f'{value:g}' if value else '-':>4}  {text}"


def _rivals(one: Explanation) -> Iterator[str]:
    if not one.rivals:
        if one.checkpoint and one.model and not one.operations:
            yield from ["", "rivals      none: nothing else has its shapes"]
        return
    yield ""
    matched = bool(one.checkpoint and one.model)
    if matched:
        yield from fold_line("rivals of the same shapes; an exchange is ruled out where it loses more than 0.2")
    else:
        yield "most like it on the other side"
    for rival in one.rivals[:RIVALS_SHOWN]:
        yield from _rival(rival, matched=matched, missing=bool(one.model))
    rest = one.rivals[RIVALS_SHOWN:]
    if rest:
        yield f"    … and {plural(len(rest), 'more rival')}, which lose {rest[0].lost:g} or more"


def _rival(rival: Rival, *, matched: bool, missing: bool) -> Iterator[str]:
    if not matched:
        yield from _names("    ", rival.checkpoint if missing else rival.model)
        yield from _weighed("shared", rival.for_exchange)
        yield from _weighed("apart", rival.for_match)
        partner = rival.model if missing else rival.checkpoint
        if partner:
            yield from fold_line(f"      matched  with {', '.join(fold_names(partner, 2))}", " " * 15)
        return
    yield from _names("    ", rival.checkpoint)
    yield from _names(" -> ", rival.model)
    if not rival.model or not rival.checkpoint:
        yield "      has no match itself"
    yield (
        f"      exchanged, {rival.lost:g} would be lost" if rival.lost > 0 else "      exchanged, nothing would be lost"
    )
    yield from _weighed("for the match", rival.for_match)
    yield from _weighed("for the exchange", rival.for_exchange)


def _weighed(title: str, items: Weighed) -> Iterator[str]:
    if items:
        texts = [f"{text} ({value:g})" if value else text for text, value in items[:ITEMS_SHOWN]]
        rest = len(items) - ITEMS_SHOWN
        texts += [f"{rest} more"] if rest > 0 else []
        yield from fold_line(f"      {title}: {'; '.join(texts)}", " " * 8)


def _settling(one: Explanation, suggestion: Suggestion) -> Iterator[str]:
    if one.certain:
        return
    keys = {*one.checkpoint, *one.model}
    texts = [a.settled_by for a in suggestion.ambiguous if keys & {*a.checkpoint, *a.model}]
    wanted = [text.rpartition(": ")[2] for text in texts]
    if one.checkpoint and one.model:
        wanted.append("a probe, suggest(…, probe=…), which tries the alternatives on the model itself")
    yield from _section("what would settle it", [f"    {text}" for text in dict.fromkeys(wanted)])


def explanations_json(found: Sequence[Explanation], suggestion: Suggestion) -> list[dict[str, Any]]:
    """The same as data, keys written out."""
    from treealign.mapping.operations import sequence_to_json

    return [
        {
            "checkpoint": list(one.checkpoint),
            "model": list(one.model),
            "operations": sequence_to_json(one.operations),
            "certain": one.certain,
            "reason": one.reason,
            "evidence": [list(item) for item in one.evidence],
            "rivals": [_rival_json(rival) for rival in one.rivals],
            "alternatives": list(one.alternatives),
            "settled_by": _settled_by(one, suggestion),
        }
        for one in found
    ]


def _rival_json(rival: Rival) -> dict[str, Any]:
    return {
        "checkpoint": list(rival.checkpoint),
        "model": list(rival.model),
        "lost": rival.lost,
        "for_match": [list(item) for item in rival.for_match],
        "for_exchange": [list(item) for item in rival.for_exchange],
    }


def _settled_by(one: Explanation, suggestion: Suggestion) -> list[str]:
    keys = {*one.checkpoint, *one.model}
    return [a.settled_by for a in suggestion.ambiguous if not one.certain and keys & {*a.checkpoint, *a.model}]
