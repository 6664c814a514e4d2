"""Align two trees: fold, refine, match, judge, convert, one pass after the other."""

from __future__ import annotations

from dataclasses import dataclass

from treealign.align.contents.fingerprints import Contents
from treealign.align.doubting.conventions import Conventions
from treealign.align.hinted import Hint
from treealign.align.hints import Hints
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.pipeline import run_passes
from treealign.align.state import State
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True, eq=False)
class Alignment:
    """What corresponds to what.

    Attributes
    ----------
    checkpoint, model : KeyTree
        The two sides.
    links : tuple of Link
        All matches, folded; the uncertain ones as the best guess.
    copies : tuple of Link
        Checkpoint leaves that are second names of tied weights of the model.
    left, right : tuple of Pattern
        What is left over on either side.
    resized : tuple of Link
        Leaves that correspond by name although a size differs.
    findings : tuple of str
        What a person should know about the two trees.
    hints : tuple of Hint
        What the user said that counted as evidence.
    conventions : Conventions or None
        What the two sides show of their libraries; None where shapes are unknown.
    nothing : tuple of frozenset of int
        Leaves of either side, by position, of which an answer says that they belong to nothing.
    """

    checkpoint: KeyTree
    model: KeyTree
    links: tuple[Link, ...]
    copies: tuple[Link, ...]
    left: tuple[Pattern, ...]
    right: tuple[Pattern, ...]
    resized: tuple[Link, ...] = ()
    findings: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()
    conventions: Conventions | None = None
    nothing: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


def align(checkpoint: KeyTree, model: KeyTree, hints: Hints = None, contents: Contents | None = None) -> Alignment:
    """Find the correspondence of two trees by shapes, structure and names, and by contents where these are known.

    Parameters
    ----------
    checkpoint, model : KeyTree
        Shapes may be unknown on either side; then they are not used on the other either, and names decide alone.
    hints : mapping or sequence of str, optional
        ``{"attn_norm": "input_layernorm"}`` or ``["attn_norm=input_layernorm"]``: runs of segments of the checkpoint
        and of the model that belong together. They settle what they speak of.
    contents : Contents, optional
        Fingerprints of the tensors of both sides. What has equal content is matched first; the rest is matched around
        it.

    Raises
    ------
    TreealignError
        A hint that cannot be read, or that names nothing on one of the sides; a key of more levels than any model has.

    Notes
    -----
    Linear in the number of keys, and in the patterns of a class of equal shapes cubic (assignment) at worst.

    """
    found = run_passes(State.of(checkpoint, model, hints, contents))
    return Alignment(
        checkpoint,
        model,
        found.links,
        found.copies,
        found.left,
        found.right,
        found.resized,
        found.findings,
        found.hints,
        None if found.foreign else found.conventions,
    )
