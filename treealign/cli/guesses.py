"""What the verbs do about guesses: the option that accepts them, and how they are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treealign.cli.console import fold_line, plural, say
from treealign.formats.legible import printable

if TYPE_CHECKING:
    from treealign.mapping.conversion_mapping import ConversionMapping

Hints = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A=B",
        help="Names that correspond, checkpoint=model, or a whole and its parts in their order, "
        "qkv=q_proj,k_proj,v_proj or w1,w3=gate_up, or a hint that a question prints; may be repeated.",
    ),
]
AcceptGuesses = Annotated[
    bool,
    typer.Option("--accept-guesses", help="Take what is still a guess as it is; what is written says that it was one."),
]


def read_mapping(path: Path, accept: bool) -> ConversionMapping:
    """A mapping from its file, with its guesses accepted if that is wanted.

    Raises
    ------
    MappingError
        The file is no mapping.
    """
    from treealign.mapping.conversion_mapping import ConversionMapping

    return taken(ConversionMapping.from_json(path), accept)


def taken(mapping: ConversionMapping, accept: bool) -> ConversionMapping:
    """A mapping as it is to be used."""
    return mapping.accept() if accept else mapping


def write_mapping(mapping: ConversionMapping, path: Path, direction: str) -> None:
    """Write a mapping, and say so; and what in it is a guess."""
    mapping.to_json(path)
    say(f"wrote {printable(str(path))}: {plural(len(mapping), 'transform')}, {direction}")
    if mapping.questions:
        count = len(mapping.questions)
        text = (
            f"  it still guesses: {plural(count, 'question')} {'is' if count == 1 else 'are'} open, and load, convert "
        )
        say(
            "\n".join(fold_line(text + "and emit refuse it until each is answered, or --accept-guesses is given", "  "))
        )


def guess_lines(mapping: ConversionMapping) -> Iterator[str]:
    """What in a mapping is a guess, or was, as a law of its own beside the others; nothing if nothing is."""
    from treealign.mapping.open_questions import question_lines

    if mapping.questions:
        count = plural(len(mapping.questions), "question")
        yield f"{'unambiguous':<12}{'OPEN':<9}the mapping still guesses: {count} unanswered"
        yield from (f"    {line}" for line in question_lines(mapping.questions))
    if mapping.accepted:
        number = len(mapping.accepted)
        yield f"{'accepted':<12}{number:,} {'guess, taken as it is' if number == 1 else 'guesses, taken as they are'}"
        yield from (f"    {question}" for question in mapping.accepted)


def guesses_json(mapping: ConversionMapping) -> dict[str, Any]:
    """The marks of a mapping as data."""
    from treealign.mapping.mapping_json import mapping_to_data

    data = mapping_to_data(mapping)
    return {name: data.get(name, []) for name in ("questions", "accepted", "answers")}
