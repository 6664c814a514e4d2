"""What a proof by running says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from treealign.shown import Shown

PROVED, FOLLOWS, UNPROVED = "proved", "follows its module", "unproved"
EXACT = 1e-9  # in double precision: sums in another order
LOOSE = 1e-2  # beyond this nothing is equal, whatever a wrong mapping would do
WORSE = 100  # times by which a wrong alternative has to be worse where equality is not exact


class Verdict(str):
    """What a run says of one key: ``"proved"``, ``"follows its module"`` or ``"unproved"``, and why.

    Examples
    --------
    >>> verdict = Verdict("unproved", "the outputs do not depend on it")
    >>> verdict == "unproved", verdict.why
    (True, 'the outputs do not depend on it')
    """

    __slots__ = ("why",)
    why: str

    def __new__(cls, verdict: str, why: str) -> Verdict:
        """A verdict with its reason."""
        made = super().__new__(cls, verdict)
        made.why = why
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.why


@dataclass(frozen=True)
class Proof(Shown):
    """Whether a model under a mapping computes what the original computes.

    Attributes
    ----------
    proved : bool
        The outputs agree: exactly, or so well that each key, were it wrong, would show `WORSE` times as much.
    difference : float
        The greatest difference of the outputs, as part of how much they vary.
    verdicts : mapping of str to Verdict
        For each key of the model; where nothing is proved as a whole, no key is.
    reason : str
        Why it is not proved, or empty.
    precision : str
        ``"float64"``, or ``"float32"`` for code that runs in nothing wider.
    runs : int
        How often one of the two was run.
    """

    proved: bool
    difference: float
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    reason: str = ""
    precision: str = "float64"
    runs: int = 0

    @property
    def unproved(self) -> dict[str, str]:
        """The keys that the run says nothing of, each with the reason."""
        return {key: verdict.why for key, verdict in self.verdicts.items() if verdict == UNPROVED}

    def __bool__(self) -> bool:
        return self.proved

    @property
    def summary(self) -> str:
        """The proof in one line."""
        counts = Counter(map(str, self.verdicts.values()))
        keys = ", ".join(f"{counts[name]} {name}" for name in (PROVED, FOLLOWS, UNPROVED) if counts[name])
        head = "proved" if self.proved else f"not proved: {self.reason}"
        return f"{head}; the outputs differ by {self.difference:.2g} in {self.precision}; keys: {keys or 'none'}"

    def __repr__(self) -> str:
        return f"<Proof: {self.summary}>"


@dataclass(frozen=True)
class Ran:
    """What running both sides said.

    Attributes
    ----------
    proved : bool
        Whether the outputs agree under the mapping that is suggested.
    difference : float
        How far they are apart; see `treealign.run.outputs`.
    precision : str
        ``"float64"`` or ``"float32"``.
    runs : int
        How often one of the two was run.
    hints : tuple of str
        The answers that were found where the best guess was not right.
    reason : str
        Why nothing is proved, or empty.
    """

    proved: bool
    difference: float = math.inf
    precision: str = "float64"
    runs: int = 0
    hints: tuple[str, ...] = ()
    reason: str = ""

    @property
    def answers(self) -> list[str]:
        """What it settled, for the mapping to carry."""
        if not self.proved:
            return []
        return [f"run: {self}", *(f"run: {hint}" for hint in self.hints)]

    def __str__(self) -> str:
        if self.proved:
            return f"outputs of original and model agree within {self.difference:.1e}, {self.precision}"
        return f"the run settles nothing: {self.reason}"


def agrees(difference: float, precision: str) -> bool:
    """Whether outputs are equal but for rounding."""
    return precision == "float64" and difference <= EXACT
