"""A suggestion as it is printed, as a page and as data: the transforms, what proves them, and what is left open."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from treealign.cli.console import fold_line, plural, width
from treealign.cli.interactive.screen import ASKS
from treealign.cli.listing import key_lines
from treealign.cli.page import Ask, Note, Page, Section, Verdict
from treealign.cli.paired_trees import paired_trees
from treealign.cli.render_laws import laws_json, proof_lines
from treealign.cli.render_mapping import mapping_lines, mapping_text, rule_rows
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.laws import Finding, check_laws, faults
from treealign.mapping.mapping_json import mapping_to_data
from treealign.mapping.operations import sequence_to_json
from treealign.tree.fold import fold, fold_names
from treealign.tree.keytree import KeyTree

if TYPE_CHECKING:
    from treealign.suggestion import Match, Suggestion

RIVALS_SHOWN = 12
_MOST_NOTES = 500


def suggestion_lines(
    suggestion: Suggestion, checkpoint: KeyTree, model: KeyTree, labels: tuple[str, str]
) -> Iterator[str]:
    """Both sides, the transforms, the verdict, then everything that needs a person."""
    yield from side_lines(checkpoint, model, labels)
    yield ""
    yield from _mapping(suggestion, checkpoint)
    yield ""
    yield from _verdict(suggestion, checkpoint, model)
    yield from proof_lines(prove(suggestion))
    if len(suggestion.mapping):
        yield f"fewest      {_minimality(suggestion)}"
    for section in (_ambiguous, _guessed, _missing, _unexpected, _mismatched, _findings):
        lines = list(section(suggestion))
        yield from ["", *lines] if lines else []


def _minimality(suggestion: Suggestion) -> str:
    if suggestion.synthesis.optimal:
        return "proved: no shorter list of the candidate rules does the same"
    return f"not proved: {plural(suggestion.synthesis.bound, 'transform')} or more are needed"


def prove(suggestion: Suggestion) -> tuple[Finding, ...]:
    """The laws, run on both trees; what the suggestion lists as left over breaks none."""
    listed = {*suggestion.missing_keys, *suggestion.unexpected_keys}
    sides = suggestion.alignment.checkpoint, suggestion.alignment.model
    return check_laws(suggestion.mapping, *sides, suggestion.matches, listed=listed)


def side_lines(checkpoint: KeyTree, model: KeyTree, labels: tuple[str, str]) -> Iterator[str]:
    """Which is which, and how large."""
    for role, label, tree in (("checkpoint", labels[0], checkpoint), ("model", labels[1], model)):
        size = f"{plural(len(tree), 'key')} in {plural(len(tree.folds), 'pattern')}"
        line = f"{role:<10}  {label}"
        yield from [f"{line}  {size}"] if len(line) + len(size) + 2 <= width() else [line, f"{'':<12}{size}"]


def _mapping(suggestion: Suggestion, checkpoint: KeyTree) -> Iterator[str]:
    mapping = suggestion.mapping
    if not len(mapping):
        yield "no transform, checkpoint -> model: matched keys have the same names on both sides"
        return
    guesses = "" if all(match.certain for match in suggestion.matches) else ", best guesses included"
    yield f"{plural(len(mapping), 'transform')}, checkpoint -> model{guesses}:"
    yield from mapping_lines(mapping, touched_keys(mapping, checkpoint))


def touched_keys(mapping: ConversionMapping, checkpoint: KeyTree) -> list[int]:
    """How many checkpoint keys each transform touches."""
    counts = [0] * len(list(mapping))
    for _, touched in mapping.trace(checkpoint).values():
        for at in touched:
            counts[at] += 1
    return counts


def _verdict(suggestion: Suggestion, checkpoint: KeyTree, model: KeyTree) -> Iterator[str]:
    matched_c = {key for match in suggestion.matches for key in match.checkpoint}
    matched_m = {key for match in suggestion.matches for key in match.model}
    certain = sum(len(match.checkpoint) for match in suggestion.matches if match.certain)
    tied = len(suggestion.tied)
    yield f"matched     {len(matched_c):,} of {plural(len(checkpoint), 'checkpoint key')}, {certain:,} of them certain"
    yield f"filled      {len(matched_m):,} of {plural(len(model) - tied, 'model key')}" + (
        f", {tied} tied" if tied else ""
    )
    yield "open        " + ", ".join(
        f"{len(value):,} {name}"
        for name, value in (
            ("ambiguous", suggestion.ambiguous),
            ("missing", suggestion.missing_keys),
            ("unexpected", suggestion.unexpected_keys),
            ("mismatched", suggestion.mismatched_keys),
        )
    )


def _ambiguous(suggestion: Suggestion) -> Iterator[str]:
    """One entry a pattern of ambiguity: the rivals of one layer stand for those of all."""
    if not suggestion.ambiguous:
        return
    yield "ambiguous: names and shapes leave these open"
    for at, question in enumerate(suggestion.questions):
        yield from [""] if at else []
        yield from _rivals("checkpoint", list(question.checkpoint))
        yield from _rivals("model", list(question.model))
        yield from fold_line(f"    {question.about}: {question.why}; one of these settles it:", " " * 4)
        yield from (f"      --hint {shlex.quote(option.hint)}" for option in question.options)


def _templates(keys: Iterable[str]) -> frozenset[str]:
    return frozenset(f.template for f in fold(list(keys)))


def _rivals(role: str, keys: list[str]) -> Iterator[str]:
    names = fold_names(dict.fromkeys(keys), RIVALS_SHOWN)
    yield from (f"    {role if at == 0 else '':<10}  {name}" for at, name in enumerate(names))


def _guessed(suggestion: Suggestion) -> Iterator[str]:
    """Uncertain matches that stand in no ambiguity: the mapping takes them as the best guess."""
    listed = {key for one in suggestion.ambiguous for key in (*one.checkpoint, *one.model)}
    guesses = [m for m in suggestion.matches if not m.certain and not listed.issuperset((*m.checkpoint, *m.model))]
    if not guesses:
        return
    yield (
        f"guessed, not certain ({plural(len(guesses), 'match')[:-1]}es):"
        if len(guesses) != 1
        else "guessed, not certain:"
    )
    groups: dict[tuple[frozenset[str], frozenset[str]], tuple[list[str], list[str]]] = {}
    for match in guesses:
        group = groups.setdefault((_templates(match.checkpoint), _templates(match.model)), ([], []))
        group[0].extend(match.checkpoint)
        group[1].extend(match.model)
    for checkpoint, model in groups.values():
        yield from (f"    {name}" for name in fold_names(checkpoint))
        yield from (f"    {'->' if at == 0 else '  '} {name}" for at, name in enumerate(fold_names(model)))


def _missing(suggestion: Suggestion) -> Iterator[str]:
    if suggestion.missing_keys:
        yield "missing: model keys that nothing in the checkpoint fills"
        yield from (f"    {line}" for line in key_lines(suggestion.alignment.model, suggestion.missing_keys))


def _unexpected(suggestion: Suggestion) -> Iterator[str]:
    if suggestion.unexpected_keys:
        yield "unexpected: checkpoint keys that the model has no place for"
        yield from (f"    {line}" for line in key_lines(suggestion.alignment.checkpoint, suggestion.unexpected_keys))


def _mismatched(suggestion: Suggestion) -> Iterator[str]:
    if suggestion.mismatched_keys:
        yield "mismatched: same place, tensors that no operation reconciles"
        yield from (f"    {one}" for one in dict.fromkeys(map(str, suggestion.mismatched_keys)))


def _findings(suggestion: Suggestion) -> Iterator[str]:
    if suggestion.findings:
        yield "findings:"
        yield from (line for finding in suggestion.findings for line in fold_line(f"  - {finding}", "    "))


# -- the page ----------------------------------------------------------------------------------------------------------

_CHECKED = "complete, injective, exact, reversible, idempotent and minimal: checked by running the mapping"


def suggestion_page(suggestion: Suggestion, labels: tuple[str, str]) -> Page:
    """The page of `treealign suggest`."""
    left, right = suggestion.alignment.checkpoint, suggestion.alignment.model
    open_ends = Section("Open", tuple(_open_notes(suggestion)))
    return Page(
        f"suggest: {labels[0]} → {labels[1]}",
        (f"checkpoint  {labels[0]}", f"model  {labels[1]}"),
        (
            f"{plural(len(left), 'checkpoint key')}, {plural(len(right), 'model key')}",
            f"{plural(len(suggestion.mapping), 'transform')}, checkpoint → model",
        ),
        (open_ends,) if open_ends.notes else (),
        paired_trees(suggestion.alignment),
        _page_verdict(suggestion, labels),
        asks(suggestion),
        rule_rows(suggestion.mapping),
        mapping_text(suggestion.mapping),
        "checkpoint → model",
    )


def _open_notes(suggestion: Suggestion) -> Iterator[Note]:
    from treealign.changes.leaves import whole_modules

    sides = suggestion.alignment.checkpoint, suggestion.alignment.model
    listed = ("unexpected", sides[0], suggestion.unexpected_keys), ("missing", sides[1], suggestion.missing_keys)
    for title, tree, keys in listed:
        for name, members in whole_modules(tree, keys)[:_MOST_NOTES]:
            yield Note("error", f"{title}: {plural(len(members), 'key')}", show=name)
    yield from (Note("error", "mismatched", text) for text in dict.fromkeys(map(str, suggestion.mismatched_keys)))
    yield from (Note("note", "finding", text) for text in suggestion.findings)


def _page_verdict(found: Suggestion, labels: tuple[str, str]) -> Verdict:
    """What a suggestion comes to."""
    broken = tuple(dict.fromkeys(finding.law for finding in faults(prove(found))))
    certain = sum(match.certain for match in found.matches)
    counts = (
        (len(found.ambiguous), "question", "to be answered"),
        (len(found.missing_keys), "model key", "that nothing fills"),
        (len(found.unexpected_keys), "checkpoint key", "that the model has no place for"),
        (len(found.mismatched_keys), "pair", "whose tensors do not fit"),
        (len(found.findings), "finding", "about the two as a whole"),
    )
    left = tuple(f"{plural(count, noun)} {what}" for count, noun, what in counts if count)
    holds = (f"{certain:,} of {len(found.matches):,} matches are certain", *(() if broken else (_CHECKED,)))
    words = " ".join(shlex.quote(label) for label in labels)
    if found.ok:
        title = "Nothing is open: the checkpoint loads as it is, or through this mapping"
        return Verdict("ok", title, holds, (), (f"treealign suggest {words} -o mapping.json",))
    hint = next((hint for ask in asks(found) for _, hint in ask.options if hint), "")
    command = f"treealign suggest {words} --hint {hint}" if hint else ""
    lax = "load(…, strict=False) takes what is certain and lists the rest" if certain else ""
    ask = "answer the questions below" + (", for example:" if command else ": each says what settles it")
    todo = tuple(text for text in (ask if found.ambiguous else "", command, lax) if text)
    title = f"{len(left)} {'thing is' if len(left) == 1 else 'things are'} open"
    return Verdict("broken" if broken else "open", title, holds, (*(f"BROKEN: {law}" for law in broken), *left), todo)


def asks(found: Suggestion) -> tuple[Ask, ...]:
    """The open questions in the order in which to ask."""
    questions: tuple[Any, ...] = getattr(found, "questions", ())
    if questions:
        return tuple(_ask(question) for question in questions)
    texts: dict[str, list[Any]] = {}
    for one in found.ambiguous:
        texts.setdefault(one.settled_by, []).append(one)
    return tuple(Ask("names or operations", _sides(group), text, ()) for text, group in texts.items())


def _ask(question: Any) -> Ask:
    options = tuple((option.text, shlex.quote(option.hint)) for option in question.options)
    return Ask(f"{ASKS[question.about].capitalize()}?", _sides([question]), question.why, options)


def _sides(asked: Sequence[Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names of both sides that several questions are about; a side without any is left out."""
    named = (("checkpoint", [one.checkpoint for one in asked]), ("model", [one.model for one in asked]))
    return tuple(
        (side, tuple(name for keys in each for name in fold_names(keys, 6))) for side, each in named if any(each)
    )


# -- data --------------------------------------------------------------------------------------------------------------


def suggestion_json(suggestion: Suggestion, laws: Sequence[Finding], labels: tuple[str, str]) -> dict[str, Any]:
    """Everything a `Suggestion` says; keys are written out, nothing is folded."""
    return {
        "checkpoint": labels[0],
        "model": labels[1],
        "direction": "checkpoint -> model",
        "ok": suggestion.ok,
        "mapping": mapping_to_data(suggestion.mapping),
        "laws": laws_json(laws),
        "fewest": {"proved": suggestion.synthesis.optimal, "bound": suggestion.synthesis.bound},
        "matches": [_match(match) for match in suggestion.matches],
        "ambiguous": [
            {"checkpoint": list(one.checkpoint), "model": list(one.model), "settled_by": one.settled_by}
            for one in suggestion.ambiguous
        ],
        "missing_keys": list(suggestion.missing_keys),
        "unexpected_keys": list(suggestion.unexpected_keys),
        "mismatched_keys": [list(one) for one in suggestion.mismatched_keys],
        "tied": dict(suggestion.tied),
        "findings": [str(finding) for finding in suggestion.findings],
    }


def _match(match: Match) -> dict[str, Any]:
    return {
        "checkpoint": list(match.checkpoint),
        "model": list(match.model),
        "operations": sequence_to_json(match.operations),
        "certain": match.certain,
        "evidence": list(match.evidence),
    }
