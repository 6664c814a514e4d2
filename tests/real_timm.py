"""A wrapper as transformers' TimmWrapperModel, around a vision transformer under timm's names.

timm itself needs torchvision, which the tests do without.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class TimmBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 24), "fc2": nn.Linear(24, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, -1)
        x = x + self.attn["proj"](nn.functional.scaled_dot_product_attention(q, k, v))
        hidden: torch.Tensor = x + self.mlp["fc2"](self.mlp["fc1"](self.norm2(x)).relu())
        return hidden


class TimmViT(nn.Module):
    """A vision transformer under timm's names."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 4, 4)})
        self.blocks = nn.Sequential(TimmBlock(width), TimmBlock(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed["proj"](pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token, patches], 1) + self.pos_embed
        logits: torch.Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


class TimmWrapper(nn.Module):
    """As transformers' TimmWrapperModel: the model of the checkpoint one level down."""

    def __init__(self) -> None:
        super().__init__()
        self.timm_model = TimmViT()

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.timm_model(pixel_values)
