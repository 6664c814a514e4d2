"""The dialogue at a terminal: one key is read, one screen is shown."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import typer

from treealign.cli.console import say
from treealign.cli.interactive.dialogue import Dialogue
from treealign.cli.interactive.screen import outcome, screen_lines
from treealign.cli.progress import stop_waiting
from treealign.errors import TreealignError

if TYPE_CHECKING:
    from treealign.suggestion import Suggestion

ReadKey: TypeAlias = Callable[[], str]
Show: TypeAlias = Callable[[Sequence[str]], None]
_CLEAR = "\x1b[2J\x1b[H"
WAIT = 0.25  # seconds


def require_terminal() -> None:
    """Refuse where nobody can be asked.

    Raises
    ------
    TreealignError
        One of stdin, stdout and stderr is no terminal.
    """
    piped = [name for name in ("stdin", "stdout", "stderr") if not getattr(sys, name).isatty()]
    if piped:
        raise TreealignError(
            "--interactive asks at a terminal, and this is none",
            facts=[f"{name} is piped or a file" for name in piped],
            hint="run it without pipes, with -o mapping.json for what comes of it; or answer with --hint",
        )


def ask(suggestion: Suggestion) -> Dialogue:
    """Ask what is open, until nothing is or the person leaves."""
    stop_waiting()
    with keyboard() as descriptor:
        dialogue = hold(Dialogue(suggestion), partial(read_key, descriptor), partial(show, descriptor))
    say(outcome(dialogue))
    return dialogue


def hold(dialogue: Dialogue, read: ReadKey, display: Show) -> Dialogue:
    """Show and read until there is nothing more to ask; Ctrl-C at any time keeps the answers from before it."""
    while dialogue.question is not None:
        size = shutil.get_terminal_size((80, 24))
        try:
            display(screen_lines(dialogue, max(size.columns, 40), max(size.lines - 1, 12)))
            dialogue = dialogue.press(read())
        except KeyboardInterrupt:
            return dialogue.leave()
    return dialogue


@contextmanager
def keyboard() -> Iterator[int]:
    """The terminal's keys as they are pressed, not line by line and not echoed; gives its descriptor."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_key(descriptor: int) -> str:
    """One key; Ctrl-D and the end of input are `q`, several characters at once (an arrow, a paste) no key."""
    # a Ctrl-C that comes just before a call that waits is only seen when the call returns: no call waits for long
    while not select.select([descriptor], [], [], WAIT)[0]:
        pass
    try:
        typed = os.read(descriptor, 64).decode(errors="replace")
    except OSError:
        return "q"
    key = typed.rstrip("\r\n")
    return "q" if typed in ("", "\x04") else key if len(key) == 1 else "several"


def show(descriptor: int, lines: Sequence[str]) -> None:
    """A screen, on stderr: stdout is for data. What was typed before is no answer to it, and is dropped."""
    import termios

    clear = "\n" if os.environ.get("TERM", "dumb") == "dumb" else _CLEAR
    first, *rest = lines
    text = "\n".join([typer.style(first, bold=True) if clear == _CLEAR else first, *rest])
    termios.tcflush(descriptor, termios.TCIFLUSH)
    sys.stderr.write(f"{clear}{text} ")
    sys.stderr.flush()


def command_to_go_on(arguments: Sequence[str], hints: Sequence[str]) -> str:
    """The command line that goes on where one has stopped, to be pasted into a shell."""
    words = [shlex.quote(word) for word in ("treealign", "suggest", *arguments)]
    given = [f"--hint {shlex.quote(hint)}" for hint in hints]
    return " \\\n    ".join([" ".join(words), *given])
