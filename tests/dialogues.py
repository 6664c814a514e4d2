"""Suggestions that only ask, and a terminal to ask at: what the tests of `suggest --interactive` share."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

from treealign.errors import TreealignError

ROOT = Path(__file__).parent.parent
CLEAR = "\x1b[2J\x1b[H"


@dataclass(frozen=True)
class Option:
    text: str
    hint: str
    matches: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Question:
    about: str
    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    options: tuple[Option, ...]
    why: str = "the shapes agree"
    settled_by: tuple[str, ...] = ("values",)


@dataclass(frozen=True)
class Asking:
    """A suggestion that knows its questions, and what was answered; a text in `refused` is no answer to anything."""

    questions: tuple[Question, ...]
    hints: tuple[str, ...] = ()
    refused: frozenset[str] = field(default_factory=frozenset)

    def answer(self, question: Question, option: Option | None) -> Asking:
        hint = option.hint if option else f"{question.checkpoint[0]}="
        if hint in self.refused:
            raise TreealignError("two hints contradict each other", facts=[hint])
        left = tuple(one for one in self.questions if one is not question)
        return replace(self, questions=left, hints=(*self.hints, hint))


def question(name: str, about: str = "names", options: int = 2) -> Question:
    made = tuple(Option(f"{name} is {at}", f"{name}={at}") for at in range(options))
    return Question(about, (f"old.{name}.weight",), (f"new.{name}.weight",), made)


class Terminal:
    """A process at a pseudo-terminal: what it shows is read, keys are pressed."""

    def __init__(self, arguments: Sequence[str | Path], columns: int = 80, lines: int = 24, **where: Any) -> None:
        self.master, there = pty.openpty()
        ioctl(there, TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment = {**kept, "TERM": "xterm", "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        # the first terminal that a new session opens is the one that its signals come from; what a shell has started in
        # the background ignores Ctrl-C, and so would all that it starts
        opened = ["env", "--default-signal=INT", "sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(there)]
        command = [*opened, sys.executable, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **where)
        self.there: int | None = there
        self.shown = ""

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def wait_for(self, text: str, seconds: float = 240) -> str:
        """Everything shown up to a text; what comes after it is left for the next time."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            if not self._read(end):
                raise AssertionError(f"{text!r} was not shown, but {self.shown!r}")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def finish(self) -> tuple[int, str]:
        """The exit status, and all that is left to read."""
        end = time.monotonic() + 240
        while self._read(end):
            pass
        os.close(self.master)
        return self.process.wait(), self.shown

    def _read(self, end: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            read = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        if self.there is not None:  # kept until now, for without anybody at the other end there is nothing to read
            os.close(self.there)
            self.there = None
        self.shown += read.decode(errors="replace").replace("\r\n", "\n")
        return bool(read)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def plain(text: str) -> str:
    """What is shown, without the codes for bold and the like."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
