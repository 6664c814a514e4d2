"""The main job: two trees in, a proven minimal conversion mapping out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from treealign.align.alignment import Alignment, align
from treealign.align.asking.probing import Probed, settle_by_probe
from treealign.align.asking.questions import questions
from treealign.align.correspondence import correspondence
from treealign.align.links import Ambiguity, Link, Match, keys_of
from treealign.align.matching.mismatches import Mismatch
from treealign.formats.collector import collector_paused
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import Operation, Reorder
from treealign.mapping.planning import Step
from treealign.synthesize import Conversion, Synthesis, synthesize
from treealign.tree.keys import natural_key
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

if TYPE_CHECKING:
    import networkx

__all__ = ["Ambiguity", "Match", "Suggestion", "suggest"]


@dataclass(frozen=True, eq=False)
class Suggestion:
    """What corresponds to what, the mapping that realises it, and what is left open.

    Everything below is derived from the finished alignment and synthesis when it is first asked for.

    Attributes
    ----------
    alignment : Alignment
        The correspondence, folded.
    synthesis : Synthesis
        The mapping made from it, with its proof of minimality or the bound.
    probed : Probed or None
        What a probe was asked and what it said, where one was given and something was open.
    """

    alignment: Alignment
    synthesis: Synthesis
    probed: Probed | None = None

    @property
    def mapping(self) -> ConversionMapping:
        """Realises all of `matches`, the uncertain ones as the best guess."""
        return self.synthesis.mapping

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """All matches, key by key; none names a tied alias."""
        return tuple(m for link in self.alignment.links for m in _matches(self.alignment, link))

    @cached_property
    def ambiguous(self) -> tuple[Ambiguity, ...]:
        """What evidence does not settle; the truth is among the keys of each."""
        return questions(self.alignment)

    @cached_property
    def missing_keys(self) -> tuple[str, ...]:
        """Model keys that nothing fills, in the order of the model; tied aliases do not count."""
        return keys_of(self.alignment.model, self.alignment.right)

    @cached_property
    def unexpected_keys(self) -> tuple[str, ...]:
        """Checkpoint keys that the model has no place for."""
        return keys_of(self.alignment.checkpoint, self.alignment.left)

    @cached_property
    def mismatched_keys(self) -> tuple[Mismatch, ...]:
        """Keys that correspond by name but whose shapes no operation reconciles, with both shapes."""
        left, right = self.alignment.checkpoint.leaves, self.alignment.model.leaves
        groups = [group for link in self.alignment.resized for group in link.expand()]
        pairs = [(left[group.left[0]], right[group.right[0]]) for group in groups]
        return tuple(Mismatch(a.key, b.key, a.shape or (), b.shape or ()) for a, b in pairs)

    @property
    def tied(self) -> Mapping[str, str]:
        """Model key to the key whose storage it shares: filled by the other."""
        return self.alignment.model.tied

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What a person should know, one sentence each."""
        return self.alignment.findings + tuple(str(f) for f in self.synthesis.findings)

    @cached_property
    def graph(self) -> networkx.Graph:
        """What became of every level and leaf; see `treealign.align.correspondence` for its nodes and edges.

        >>> from treealign import KeyTree, suggest
        >>> keys = ["embeddings.patch.weight", "encoder.attn.weight", "encoder.norm.weight"]
        >>> sides = ([(prefix + key, (8, 8), "float32") for key in keys] for prefix in ("", "vision_model."))
        >>> graph = suggest(*map(KeyTree.from_leaves, sides)).graph
        >>> [path for (_, path), kind in graph.nodes(data="kind") if kind == "inserted"]
        [('vision_model',)]
        """
        found = self.alignment
        return correspondence([*found.links, *found.copies, *found.resized], found.left, found.right)

    @property
    def ok(self) -> bool:
        """Nothing is missing, unexpected, mismatched or ambiguous, and no law is broken."""
        open_ends = self.missing_keys or self.unexpected_keys or self.mismatched_keys or self.ambiguous
        return not open_ends and not self.findings

    def __repr__(self) -> str:
        counts = f"{len(self.matches)} matches, {len(self.ambiguous)} ambiguous, {len(self.missing_keys)} missing"
        return f"<Suggestion: {len(self.mapping)} transforms, {counts}, {len(self.unexpected_keys)} unexpected>"


def suggest(
    checkpoint: Any,
    model: Any,
    hints: Mapping[str, str] | Sequence[str] | None = None,
    *,
    values: bool = False,
    probe: Callable[[Any], Any] | None = None,
    max_probes: int = 64,
) -> Suggestion:
    """Suggest the conversion mapping from a checkpoint to a model.

    Names, shapes and dtypes are read; no tensor is, except for `values` and for a probe.

    Parameters
    ----------
    checkpoint, model : KeyTree or anything `read_tree` takes
        The two sides.
    hints : mapping or sequence of str, optional
        Names of the checkpoint to names of the model that belong together: ``{"attn_norm": "input_layernorm"}``.
        A whole and its parts in their order settle how it is cut or joined: ``["c_attn=q_proj,k_proj,v_proj"]``.
    values : bool
        Compare contents too, where both sides have weights that were the same once: an original and a converted
        checkpoint of one model. What has equal content under an operation is settled by it, whatever the names; content
        that is nowhere on the other side (a checkpoint trained further), in several leaves, or constant says nothing.
        Floats are equal also where one side holds them in a wider dtype. Each file is read once; see
        `treealign.align.contents.equal`.
    probe : callable, optional
        Takes the model with the checkpoint's weights in it and returns how well it does, a number; higher is better (so
        a loss is returned with its sign turned), and ``-inf`` says that it is not good enough, however it compares. It
        is asked only if something is open, and settles that by comparing the alternatives. The model must be a live
        module, the checkpoint must have tensors; every key of the model must be matched, if only by a guess. The model
        is in eval mode meanwhile, and has its own weights, buffers, gradients and modes again afterwards. See
        `treealign.align.asking.probing` for when a probe settles a choice.
    max_probes : int
        How often the probe may be called.

    Returns
    -------
    Suggestion
        Matches, mapping, and everything that is left open. Nothing is raised for what does not fit: see `ok`.

    Raises
    ------
    TreealignError
        A side cannot be read, or a hint names nothing; values are asked for, and a side has no tensors; or there is a
        probe, and the model cannot be run or the checkpoint has no tensors. What the probe itself raises is not caught,
        the model gets its weights back all the same.

    """
    with collector_paused():
        alignment, probed = _align(checkpoint, model, hints, values), None
    if probe is not None and any(not link.certain for link in alignment.links):
        alignment, probed = _probe(alignment, checkpoint, model, probe, max_probes)
    with collector_paused():
        return Suggestion(alignment, _synthesize(alignment), probed)


def _align(checkpoint: Any, model: Any, hints: Mapping[str, str] | Sequence[str] | None, values: bool) -> Alignment:
    trees = _tree(checkpoint), _tree(model)
    if not values:
        return align(*trees, hints)
    from treealign.checkpoint.contents import open_contents

    with open_contents(checkpoint, model, trees) as contents:
        return align(*trees, hints, contents)


def _synthesize(alignment: Alignment) -> Synthesis:
    left, right = alignment.checkpoint.keys, alignment.model.keys
    pairs, conversions = [], []
    for link in alignment.links + alignment.copies + alignment.resized:
        if link.operations:
            conversions += list(_conversions(alignment, link))
        else:
            pairs += [(left[i], right[j]) for (i,), (j,) in link.expand()]
    return synthesize(pairs, conversions, alignment.checkpoint, alignment.model)


def _probe(
    alignment: Alignment, checkpoint: Any, model: Any, probe: Callable[[Any], Any], max_probes: int
) -> tuple[Alignment, Probed | None]:
    """Settle what is open by loading the model in one way after another."""
    from treealign.checkpoint.source import open_source
    from treealign.checkpoint.trials import head_layouts, rounding, trials

    if alignment.right or alignment.resized:
        text = "the probe was not asked: keys of the model stay without weights, so that its score would mean nothing"
        return replace(alignment, findings=(*alignment.findings, text)), None
    with open_source(checkpoint) as source, trials(model, source, probe) as tried:
        steps: dict[int, tuple[Link, list[Step]]] = {}  # with the link, so that its id stays its own

        def steps_of(link: Link) -> list[Step]:
            if id(link) not in steps:
                found = _conversions(alignment, link)
                steps[id(link)] = link, [Step(c.checkpoint, c.model, c.operations) for c in found]
            return steps[id(link)][1]

        def score(links: Sequence[Link], shuffled: Sequence[Link] = (), seed: int = 0) -> float:
            keys = {key for link in shuffled for step in steps_of(link) for key in step.targets}
            return tried.score([step for link in links for step in steps_of(link)], keys, seed)

        name = getattr(probe, "__name__", type(probe).__name__)
        return settle_by_probe(
            alignment,
            score,
            lambda key: head_layouts(model, key),
            name=name,
            max_probes=max_probes,
            tolerance=rounding(model),
        )


def _tree(source: Any) -> KeyTree:
    return source if isinstance(source, KeyTree) else read_tree(source)


def _conversions(alignment: Alignment, link: Link) -> Iterator[Conversion]:
    left, right = alignment.checkpoint.keys, alignment.model.keys
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), tuple(right[j] for j in group.right)
        yield Conversion(sources, targets, link.operations)


def _matches(alignment: Alignment, link: Link) -> Iterator[Match]:
    left, right = alignment.checkpoint.keys, alignment.model.keys
    operations, order = _listed(link, alignment)
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), [right[j] for j in group.right]
        yield Match(sources, tuple(targets[n] for n in order), operations, link.certain, link.evidence)


def _listed(link: Link, alignment: Alignment) -> tuple[tuple[Operation, ...], Sequence[int]]:
    """Targets of a split stand in the order of the parts if the checkpoint has an order at all, else in natural one."""
    first, keys = next(link.expand()).right, alignment.model.keys
    order = sorted(range(len(first)), key=lambda n: natural_key(keys[first[n]]))
    if len(link.left) > 1 or order == sorted(order) or alignment.checkpoint.ordered:
        return link.operations, range(len(first))
    return (*link.operations, Reorder(tuple(order))), order
