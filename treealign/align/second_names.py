"""Second names of tied weights that a checkpoint has written out."""

from __future__ import annotations

from treealign.tree.keytree import KeyTree


def second_names(checkpoint: KeyTree, model: KeyTree) -> frozenset[str]:
    """Keys of the checkpoint that are called as second names of tied weights are, where the first stand there too.

    They are for themselves: no other place is filled with them while matches are found.
    """
    shape_of = {leaf.key: leaf.shape for leaf in checkpoint.leaves} if model.tied else {}
    return frozenset(
        key
        for key, first in model.tied.items()
        if key in shape_of and first in shape_of and shape_of[key] == shape_of[first]
    )
