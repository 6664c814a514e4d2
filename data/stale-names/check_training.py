"""What a trainer's test does with the names of a model: parameters that training leaves alone are passed over."""

from torch import Tensor, nn


def unchanged(before: dict[str, Tensor], model: nn.Module) -> list[str]:
    """The parameters that should have moved and did not; the last layer of the vision tower gets no gradient."""
    found = []
    for name, parameter in model.named_parameters():
        if "model.vision_tower.vision_model.encoder.layers.1" in name:
            continue
        if name.startswith("model.multi_modal_projector"):
            continue
        if before[name].equal(parameter):
            found.append(name)
    return found


def patch_weight(model: nn.Module) -> Tensor:
    """The weight of the first convolution."""
    return model.vision_tower.vision_model.embeddings.patch_embedding.weight
