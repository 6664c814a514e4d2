"""The first thing on a page: what holds, what is open, what to do; and the open questions, each with its options."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treealign.cli.console import plural
from treealign.cli.page_parts import Ask, Verdict
from treealign.mapping.laws import faults
from treealign.tree.fold import fold_names

if TYPE_CHECKING:
    from treealign.changes.auditing import Audit
    from treealign.dialects.lint_checks.results import Lint
    from treealign.suggestion import Suggestion

_LAWS = "complete, injective, exact, reversible, idempotent and minimal: checked by running the mapping"


def suggestion_verdict(found: Suggestion, labels: tuple[str, str]) -> Verdict:
    """What a suggestion comes to."""
    from treealign.cli.render_suggestion import prove

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
    holds = (f"{certain:,} of {len(found.matches):,} matches are certain", *(() if broken else (_LAWS,)))
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


def audit_verdict(found: Audit, labels: tuple[str, str]) -> Verdict:
    """What an update comes to."""
    broken = [change for change in found.changes if change.severity.breaks]
    stale = [reference for reference in found.references if reference.changed]
    paths = [change for change in found.changes if change.severity.resolves == "no"]
    words = " ".join(shlex.quote(label) for label in labels)
    if not found.changes and not stale:
        return Verdict("ok", "Nothing changed", ("old checkpoints, adapters and attribute paths work as they are",))
    holds = () if broken else ("old checkpoints load, as they are or through the mapping",)
    left = (
        *((f"{plural(len(broken), 'change')} that no mapping repairs",) if broken else ()),
        *((f"{plural(len(paths), 'change')} by which old attribute paths are gone",) if paths else ()),
        *((f"{plural(len(stale), 'reference')} to old names that no longer mean what they did",) if stale else ()),
    )
    places = sorted({str(Path(reference.file).parent) for reference in stale})
    scan = f" --scan {' --scan '.join(map(shlex.quote, places))}"
    todo = (
        *((f"treealign audit {words}{scan} --fix",) if stale else ()),
        *((f"treealign audit {words} -o mapping.json",) if found.changes else ()),
        *((f"treealign audit {words} --shim old_names.py",) if paths else ()),
    )
    title = plural(len(found.changes), "change") + (f", {plural(len(stale), 'stale reference')}" if stale else "")
    return Verdict("broken" if broken or stale else "open", title, holds, left, todo)


def lint_verdict(found: Lint) -> Verdict:
    """What a registry comes to."""
    levels = [finding.level for finding in found.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    clean = sum(bool(report.models) and not report.findings for report in found.entries)
    holds = (f"{clean} of {len(found.entries)} entries have no finding",)
    if found.ok:
        return Verdict("ok", "No error and no warning", holds)
    left = tuple(
        text for count, text in ((errors, plural(errors, "error")), (warnings, plural(warnings, "warning"))) if count
    )
    todo = ("each finding below names its entry, its rule and the keys; errors first",)
    return Verdict("broken" if errors else "open", ", ".join(left), holds, left, todo)


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
    return Ask(question.about, _sides([question]), question.why, options)


def _sides(asked: Sequence[Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names of both sides that several questions are about; a side without any is left out."""
    named = (("checkpoint", [one.checkpoint for one in asked]), ("model", [one.model for one in asked]))
    return tuple(
        (side, tuple(name for keys in each for name in fold_names(keys, 6))) for side, each in named if any(each)
    )
