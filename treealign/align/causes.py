"""What is the matter with a checkpoint as a whole, told by its keys: the cause, not each of its consequences."""

from __future__ import annotations

from collections.abc import Iterator

from treealign.tree.keytree import KeyTree

# as torch's FSDP calls the parameter that holds all of a block (FLAT_PARAM in its module _flat_param)
_FLAT = ("_flat_param", "flat_param", "_flat_param_0")


def causes(checkpoint: KeyTree, model: KeyTree) -> tuple[str, ...]:
    """One sentence for each cause that keeps the checkpoint as a whole from fitting; none where there is none."""
    return tuple(_flat_parameters(checkpoint, model))


def _flat_parameters(checkpoint: KeyTree, model: KeyTree) -> Iterator[str]:
    def flat(tree: KeyTree) -> list[str]:
        likely = (key for key in tree.keys if "flat_param" in key)  # most have no such name anywhere
        return [key for key in likely if key.rpartition(".")[2].startswith(_FLAT)]

    found = flat(checkpoint)
    if found and not flat(model):
        yield (
            f"the checkpoint holds flattened parameters of FSDP, such as {found[0]}: each is a whole block in one row, "
            "which only the wrapped model can take apart; save it from there with a full state dict "
            "(StateDictType.FULL_STATE_DICT, or get_model_state_dict with full_state_dict=True)"
        )
