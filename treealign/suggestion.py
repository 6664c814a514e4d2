"""The main job: two trees in, a proven minimal conversion mapping out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from treealign.align.alignment import Alignment, align
from treealign.align.asking.answering import answered, refusals
from treealign.align.asking.marks import probe_answers, unasked
from treealign.align.asking.probing import Probed
from treealign.align.asking.question import Option, Question, expand_matches
from treealign.align.asking.questions import ambiguity, find_questions
from treealign.align.correspondence import correspondence
from treealign.align.hints import Hints, listed, parse
from treealign.align.holes import align_as_if_whole, lacks
from treealign.align.links import Ambiguity, Match, keys_of
from treealign.align.patterns import Pattern
from treealign.align.reading_hints import read
from treealign.checkpoint.adapters.sides import in_scope
from treealign.errors import TreealignError
from treealign.formats.cached import cached_property
from treealign.formats.collector import collector_paused
from treealign.mapping.arguments import check_arguments, check_hints
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.marking import AnyQuestion, mapping_with_questions
from treealign.mapping.mismatches import Mismatch, mismatch_of
from treealign.shown import Shown
from treealign.synthesize import Synthesis
from treealign.synthesize.aligned import synthesize_alignment
from treealign.tree.reading import read_tree

if TYPE_CHECKING:
    import networkx

    from treealign.run.results import Ran

__all__ = ["Ambiguity", "Match", "Suggestion", "suggest"]


@dataclass(frozen=True, eq=False)
class Suggestion(Shown):
    """What corresponds to what, the mapping that realises it, and what is left open.

    Everything below is derived from the finished alignment and synthesis when it is first asked for.

    Attributes
    ----------
    alignment : Alignment
        The correspondence, folded.
    probed : Probed or None
        What a probe was asked and what it said, where one was given and something was open.
    hints : tuple of str
        What has been said so far, to be given again.
    asked : Alignment or None
        What evidence alone makes of the two trees, before any answer.
    absent : frozenset of str
        Keys that the checkpoint lacks although all others of their lists are there, as which the alignment takes them.
    ran : Ran or None
        What running the original beside the model said, where that was asked for.
    """

    alignment: Alignment
    probed: Probed | None = None
    hints: tuple[str, ...] = ()
    asked: Alignment | None = None
    absent: frozenset[str] = frozenset()
    ran: Ran | None = None

    @cached_property
    def synthesis(self) -> Synthesis:
        """The mapping made from the alignment, with its proof of minimality or the bound; it carries what is open."""
        with collector_paused():
            found = synthesize_alignment(self.alignment)
        left_open: tuple[AnyQuestion, ...] = *self.questions, *unasked(self.alignment, self.questions)
        answers = *self.hints, *probe_answers(self.probed), *(self.ran.answers if self.ran else ())
        return replace(found, mapping=mapping_with_questions(found.mapping, left_open, answers))

    @property
    def mapping(self) -> ConversionMapping:
        """Realises all of `matches`, the uncertain ones as the best guess; it carries what is open."""
        return self.synthesis.mapping

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """All matches that the mapping makes, key by key; none names a tied alias."""
        lacking = self.absent.union(self.synthesis.lost)
        return tuple(match for match in self._all_matches if lacking.isdisjoint(match.checkpoint))

    @cached_property
    def _all_matches(self) -> tuple[Match, ...]:
        sides = self.alignment.checkpoint, self.alignment.model
        return tuple(m for link in self.alignment.links for m in expand_matches(link, sides))

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """What evidence leaves open, in the order in which to ask; empty when nothing is."""
        return find_questions(self.alignment)

    @cached_property
    def _left_out(self) -> tuple[Match, ...]:
        """What corresponds, but lacks a key or could not be written."""
        lacking = self.absent.union(self.synthesis.lost)
        return tuple(m for m in self._all_matches if not lacking.isdisjoint(m.checkpoint))

    @cached_property
    def ambiguous(self) -> tuple[Ambiguity, ...]:
        """The questions as the keys among which the truth is, one for each."""
        return tuple(map(ambiguity, self.questions))

    def answer(self, question: Question, option: Option | None) -> Suggestion:
        """The suggestion with one question answered.

        Parameters
        ----------
        question : Question
            One of `questions`.
        option : Option or None
            One of its options: the same as giving its hint to `suggest`. None says that none of these is so: the keys
            in question belong to nothing, and become missing or unexpected.

        Raises
        ------
        TreealignError
            The question is none of this suggestion.
        """
        if question not in self.questions or (option is not None and option not in question.options):
            way_out = "answer one of its `questions` by one of the question's `options`, or by None"
            raise TreealignError("no question of this suggestion", hint=way_out)
        said = refusals(self.alignment, question) if option is None else (option.hint,)
        alignment = answered(self.alignment, [hint for text in said for hint in parse(text)])
        return replace(self, alignment=alignment, hints=(*self.hints, *said))

    @cached_property
    def missing_keys(self) -> tuple[str, ...]:
        """Model keys that nothing fills, in the order of the model; tied aliases do not count.

        Nor do counters of batch norms, which torch fills; but where the checkpoint has some left over, they are lost.
        """
        model = self.alignment.model
        filled = frozenset() if self.alignment.checkpoint.counters & set(self.unexpected_keys) else model.counters
        keys = {*keys_of(model, self.alignment.right), *(k for m in self._left_out for k in m.model)}
        return tuple(key for key in model.keys if key in keys and key not in filled)

    @cached_property
    def unexpected_keys(self) -> tuple[str, ...]:
        """Checkpoint keys that the model has no place for."""
        keys = keys_of(self.alignment.checkpoint, self.alignment.left)
        return keys + tuple(key for match in self._left_out for key in match.checkpoint if key not in self.absent)

    @cached_property
    def mismatched_keys(self) -> tuple[Mismatch, ...]:
        """Keys that correspond by name but whose tensors no operation reconciles, with both shapes or both dtypes."""
        left, right = self.alignment.checkpoint.leaves, self.alignment.model.leaves
        groups = [group for link in self.alignment.resized for group in link.expand()]
        return tuple(mismatch_of(left[group.left[0]], right[group.right[0]]) for group in groups)

    @property
    def tied(self) -> Mapping[str, str]:
        """Model key to the key whose storage it shares."""
        return self.alignment.model.tied

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What a person should know, one sentence each."""
        lacking = tuple(lacks(m, self.absent) for m in self._left_out if not self.absent.isdisjoint(m.checkpoint))
        return lacking + self.alignment.findings + tuple(str(f) for f in self.synthesis.findings)

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
        given = self.alignment
        return correspondence([*given.links, *given.copies, *given.resized], given.left, given.right)

    @property
    def ok(self) -> bool:
        """Nothing is missing, unexpected, mismatched or ambiguous, and no law is broken."""
        open_ends = self.missing_keys or self.unexpected_keys or self.mismatched_keys or self.mapping.questions
        return not open_ends and not self.findings

    def __repr__(self) -> str:
        counts = f"{len(self.matches)} matches, {len(self.ambiguous)} ambiguous, {len(self.missing_keys)} missing"
        return f"<Suggestion: {len(self.mapping)} transforms, {counts}, {len(self.unexpected_keys)} unexpected>"


def suggest(
    checkpoint: Any,
    model: Any,
    hints: Hints = None,
    *,
    values: bool = False,
    probe: Callable[[Any], Any] | str | None = None,
    max_probes: int = 64,
    original: Any = None,
    reference: Any = None,
    run: Any = None,
    inputs: Any = None,
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
        Floats are equal also where one side has them wider. Files are read once: see `treealign.align.contents.equal`.
    probe : callable, "package.module:function" or "text", optional
        ``"text"``: minus the loss of a language model on a text, by the tokenizer beside the checkpoint. A callable
        takes the model with the checkpoint's weights in it and returns how well it does, a number; higher is better (so
        a loss is returned with its sign turned), and ``-inf`` says that it is not good enough, however it compares. It
        is asked only if something is open, and settles that by comparing the alternatives. The model must be a live
        module, the checkpoint must have tensors; keys that nothing fills must not change the score. The model
        is in eval mode meanwhile, and has its own weights, buffers, gradients and modes again afterwards. See
        `treealign.align.asking.probing` for when a probe settles a choice.
    max_probes : int
        How often the probe may be called.
    original : nn.Module, "package.module:factory" or path, optional
        The code that the checkpoint belongs to, or what `treealign.record` wrote of it. Copies of it and of the model,
        which must be a live module, are run with equal random weights; what equal outputs settle is certain, and wrong
        guesses are put right.
    reference : path, optional
        Inputs and outputs of the original with the weights of this checkpoint: written by `treealign.record`, or a dict
        of `inputs` and `outputs` that torch.save wrote. It is asked where no original is given.
    run, inputs : optional
        How to run the two, and with what; see `treealign.prove`.

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
    check_arguments("suggest", checkpoint, model)
    check_hints(hints)
    if probe is not None and probe != "text":  # here, also where nothing is left to ask it
        from treealign.run.text_probe import probe_of

        probe = probe_of(probe, checkpoint, model)
    with collector_paused():
        found, probed = _align(checkpoint, model, hints, values), None
        asked, absent = (found, frozenset[str]()) if values else align_as_if_whole(found, hints)
        alignment = answered(asked, read(hints, *_patterns(asked)))
    ran = None
    if original is not None:
        from treealign.run.preparing import settle_by_run

        alignment, ran = settle_by_run(alignment, model, original, run, inputs)
    elif reference is not None:
        from treealign.run.preparing import settle_by_reference

        alignment, ran = settle_by_reference(alignment, checkpoint, model, reference, run, inputs)
    if probe is not None and not absent and any(not link.certain for link in alignment.links):
        from treealign.run.by_probe import settle_by_scores

        alignment, probed = settle_by_scores(alignment, checkpoint, model, probe, max_probes)
    made = Suggestion(alignment, probed, tuple(listed(hints)), asked, absent, ran)
    _ = made.synthesis  # here, where the time for it is expected, and not when the mapping is first looked at
    return made


def _patterns(alignment: Alignment) -> tuple[list[Pattern], list[Pattern]]:
    links = (*alignment.links, *alignment.copies, *alignment.resized)
    left = [p for link in links for p in link.left] + list(alignment.left)
    return left, [p for link in links for p in link.right] + list(alignment.right)


def _align(checkpoint: Any, model: Any, hints: Hints, values: bool) -> Alignment:
    trees = in_scope((read_tree(checkpoint), read_tree(model)), None if values else model)
    if not values:
        return align(*trees, hints)
    from treealign.values.contents import open_contents

    with open_contents(checkpoint, model, trees) as contents:
        return align(*trees, hints, contents)
