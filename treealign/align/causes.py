"""What is the matter with a checkpoint as a whole, told by its keys: the cause, not each of its consequences."""

from __future__ import annotations

from collections.abc import Iterator

from treealign.tree.keytree import KeyTree

# as torch's FSDP calls the parameter that holds all of a block (FLAT_PARAM in its module _flat_param)
_FLAT = ("_flat_param", "flat_param", "_flat_param_0")
# how the parts of adapters begin: `BaseTuner.prefix` of peft/tuners/*/model.py, those that nothing else begins with
_ADAPTER = (
    *("lora_", "hada_", "lokr_", "ia3_", "oft_", "boft_", "vera_lambda_", "pvera_lambda_", "randlora_", "vblora_"),
    *("fourierft_", "hra_", "shira_", "c3a_", "delora_", "gralora_", "glora_", "tinylora_", "unilora_", "waveft_"),
)


def causes(checkpoint: KeyTree, model: KeyTree) -> tuple[str, ...]:
    """One sentence for each cause that keeps the checkpoint as a whole from fitting; none where there is none."""
    return (*_flat_parameters(checkpoint, model), *_adapter(checkpoint, model))


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


def _adapter(checkpoint: KeyTree, model: KeyTree) -> Iterator[str]:
    """That the checkpoint is an adapter, and the model has none."""

    def parts(tree: KeyTree) -> dict[str, int]:
        found: dict[str, int] = {}
        for fold in tree.folds:
            for part in (s for s in fold.template.split(".") if s.startswith(_ADAPTER)):
                found[part] = found.get(part, 0) + len(fold.positions)
        return found

    held = parts(checkpoint)
    if 2 * sum(held.values()) >= len(checkpoint) > 0 and not parts(model):
        yield (
            f"the checkpoint is an adapter ({', '.join(sorted(held)[:4])}): it changes weights that it does not hold; "
            "load it into a model that has one, as peft.get_peft_model makes it, or convert it with the mapping of its "
            "base model"
        )
