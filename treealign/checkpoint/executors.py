"""Calls that know nothing of each other, on any `concurrent.futures.Executor`: what is lost is done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from treealign.errors import TreealignError

T = TypeVar("T")
ATTEMPTS = 3
_HINT = "what was done is not lost where the executor has other workers; with new ones, start again"


@dataclass(frozen=True)
class Call:
    """A function of a module, its arguments (all can be pickled), and what to call it in messages."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def gather(executor: Executor, calls: Sequence[Call], done: Callable[[Any], None] = lambda _: None) -> list[Any]:
    """The results of all calls, in the order of the calls.

    Parameters
    ----------
    executor : Executor
        Of threads, processes, or machines; it stays open.
    calls : sequence of Call
        Each may be made more than once: one whose worker died is made again, up to `ATTEMPTS` times in all.
    done : callable
        Told of each result as it comes.

    Raises
    ------
    TreealignError
        What a call raised itself, at once: calls that have not begun are cancelled, the others waited for. Or a call
        came to nothing each time.
    """
    return _Gathering[Any](executor, calls, done).results()


class _Gathering(Generic[T]):
    def __init__(self, executor: Executor, calls: Sequence[Call], done: Callable[[T], None]) -> None:
        self.executor, self.calls, self.done = executor, calls, done
        self.found: dict[int, T] = {}
        self.attempts = [0] * len(calls)
        self.waiting: dict[Future[T], int] = {}

    def results(self) -> list[T]:
        try:
            for at in range(len(self.calls)):
                self._submit(at)
            while self.waiting:
                for future in wait(self.waiting, return_when=FIRST_COMPLETED).done:
                    self._take(future)
        except Exception:
            begun = [future for future in self.waiting if not future.cancel()]
            # what still runs would write into a folder that is being removed
            wait(begun)
            raise
        return [self.found[at] for at in range(len(self.calls))]

    def _submit(self, at: int, cause: BaseException | None = None) -> None:
        call = self.calls[at]
        if self.attempts[at] == ATTEMPTS:
            raise _lost(call, cause) from cause
        self.attempts[at] += 1
        try:
            self.waiting[self.executor.submit(call.function, *call.arguments)] = at
        except RuntimeError as error:  # an executor that is broken or shut down
            raise _lost(call, cause or error) from error

    def _take(self, future: Future[T]) -> None:
        at = self.waiting.pop(future)
        try:
            result = future.result()
        except TreealignError:
            raise
        except BaseException as error:  # a cancelled future is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._submit(at, error)
            return
        self.found[at] = result
        self.done(result)


def _lost(call: Call, cause: BaseException | None) -> TreealignError:
    reason = f"{type(cause).__name__}: {cause}".strip().splitlines()[0]
    return TreealignError("the workers of the executor do not do it", where=call.name, facts=[reason], hint=_HINT)
