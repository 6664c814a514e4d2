"""Roles that a run of the model shows, for leaves whose own names say none.

A norm whose output goes to what an attention compares stands before the attention, one whose output goes through an
activation function stands before the feed-forward network; one that takes what either gives stands after it. Of the
feed-forward network, the gate is what goes through the activation function, beside the part that does not.

Only where the flow is unambiguous, and the same in every repeat; see `treealign.tree.tracing` for what a run records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from treealign.align.links import Link
from treealign.align.matching.scoring import Side
from treealign.align.patterns import Pattern
from treealign.align.words import CONTAINERS, Token
from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree
from treealign.tree.tracing import INPUT, Trace

Modules = frozenset[str]


Roles = Mapping[Pattern, tuple[Token, ...]]


def with_traced_roles(side: Side, roles: Roles) -> Side:
    """The side with roles added that only the trace of its tree tells."""
    if not roles:
        return side
    added = [(*ts, *roles.get(p, ())) for p, ts in zip(side.patterns, side.tokens, strict=True)]
    return Side(side.patterns, added)


def with_trace_said(links: Sequence[Link], roles: Roles) -> list[Link]:
    """The links, each whose role was told by a run of the model with that as evidence."""
    return [_said(link, roles) for link in links] if roles else list(links)


def trace_findings(links: Sequence[Link], trees: Sequence[KeyTree]) -> tuple[str, ...]:
    """What a person should know of runs that failed, where they might have settled something."""
    problems = dict.fromkeys(tree.trace.problem for tree in trees if tree.trace is not None and tree.trace.problem)
    if all(link.certain for link in links):
        return ()
    return tuple(f"the model was not traced: {problem}" for problem in problems)


def _said(link: Link, roles: Roles) -> Link:
    found = {t.text[1:] for p in (*link.left, *link.right) for t in roles.get(p, ())}
    texts = tuple(f"a run of the model shows that it is {role}" for role in sorted(found))
    return replace(link, evidence=link.evidence + texts) if texts else link


def traced_roles(side: Side, tree: KeyTree) -> dict[Pattern, tuple[Token, ...]]:
    """Roles that only the trace of its tree tells; none where there is no trace."""
    flow = Flow.of(tree)
    if flow is None:
        return {}
    silent = [p for p, tokens in zip(side.patterns, side.tokens, strict=True) if _says_nothing(p, tokens)]
    found = {p: _traced(p, tree.keys, flow) for p in silent}
    return {p: tokens for p, tokens in found.items() if tokens}


def _says_nothing(p: Pattern, tokens: Sequence[Token]) -> bool:
    """A leaf of a repeat whose module's name and parameter's name have no role."""
    roles = {t.text[1:] for t in tokens if t.text[0] == "@" and t.depth <= 1} - CONTAINERS
    return bool(p.captures) and not roles


def _traced(p: Pattern, keys: Sequence[str], flow: Flow) -> tuple[Token, ...]:
    found = {flow.role(keys[at].rpartition(".")[0]) for at in p.cells.values()}
    role = found.pop() if len(found) == 1 else ""
    return (Token(f"@{role}", 1, True),) if role else ()


class Flow:
    """Who feeds whom in a trace, and what follows from it for one module.

    Parameters
    ----------
    trace : Trace
        A run of the model.
    vectors : frozenset of str
        Modules that hold nothing but vectors: norms and scales.
    norms : frozenset of str
        Those of them that are norms by their class.
    """

    def __init__(self, trace: Trace, vectors: Modules, norms: Modules) -> None:
        self.trace, self.vectors, self.norms = trace, vectors, norms
        self.after, self.before = _neighbours(trace.feeds), _neighbours([(b, a) for a, b in trace.feeds])
        # scores of an attention may be capped by a tanh, which makes no feed-forward network
        self.activated = frozenset(trace.activated) - frozenset(trace.attended)

    @classmethod
    def of(cls, tree: KeyTree) -> Flow | None:
        """The flow of a tree; None if it has no trace."""
        if tree.trace is None or tree.trace.problem:
            return None
        ranks: dict[str, set[int]] = defaultdict(set)
        for leaf in tree.leaves:
            ranks[leaf.key.rpartition(".")[0]].add(-1 if leaf.shape is None else len(leaf.shape))
        vectors = frozenset(module for module, sizes in ranks.items() if sizes <= {0, 1})
        return cls(tree.trace, vectors, frozenset(m for m in vectors if "norm" in tree.modules.get(m, "").lower()))

    @cached_property
    def attended(self) -> Modules:
        """Projections to queries and keys, through norms of these where there are such."""
        direct = frozenset(self.trace.attended)
        through = {m for n in direct & self.vectors for m in self.before.get(n, ()) if len(self.before[n]) == 1}
        return frozenset(direct - self.vectors | through)

    def role(self, module: str) -> str:
        """The one role of a module, or nothing."""
        if module not in self.after and module not in self.before:
            return ""
        return self._norm(module) if module in self.vectors else self._linear(module)

    def _norm(self, module: str) -> str:
        if module in self.trace.attended or module not in self.norms:
            return ""
        after, before = self.after.get(module, frozenset()), self.before.get(module, frozenset())
        if after and not after & self.vectors and self._bypassed(before):
            kinds = bool(after & self.attended), bool(after & self.activated)
            return {(True, False): "pre_attn", (False, True): "pre_mlp"}.get(kinds, "")
        given = [m for m in before - self.vectors - {INPUT} if self._ends(m)]
        alone = len(before) == 1 or (len(before) == 2 and bool(before & self.vectors))
        return f"post_{self._ends(given[0])}" if len(given) == 1 and alone else ""

    def _bypassed(self, before: Modules) -> bool:
        """Whether what a module takes also goes around it, to be added to before a later norm."""
        return any(before < self.before.get(other, frozenset()) for other in self.vectors)

    def _ends(self, module: str) -> str:
        """Whether a module closes an attention or a feed-forward network."""
        before = self.before.get(module, frozenset())
        kinds = bool(before & (self.attended | frozenset(self.trace.attended))), bool(before & self.activated)
        return {(True, False): "attn", (False, True): "mlp"}.get(kinds, "")

    def _linear(self, module: str) -> str:
        if self._ends(module) == "mlp":
            return "down" if self._beside(module) is not None else ""
        for end in self.after.get(module, ()):
            parts = self._beside(end) if self._ends(end) == "mlp" else None
            if parts and module in parts:
                return parts[module] if self.after[module] == {end} else ""
        return ""

    def _beside(self, end: str) -> Mapping[str, str] | None:
        """The parts that a feed-forward network's last module takes: a gate and what it gates, fed by the same."""
        parts = self.before[end]
        gates = parts & self.activated
        if len(parts) != 2 or len(gates) != 1 or parts & self.vectors or INPUT in parts:
            return None
        (gate,), (up,) = gates, parts - gates
        same = self.before.get(gate) == self.before.get(up) and len(self.before.get(gate, ())) == 1
        return {gate: "gate", up: "up"} if same else None


def _neighbours(pairs: Sequence[tuple[str, str]]) -> dict[str, Modules]:
    found: dict[str, set[str]] = defaultdict(set)
    for a, b in pairs:
        found[a].add(b)
    return {a: frozenset(b) for a, b in found.items()}
