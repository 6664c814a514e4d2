"""Real packages are imported here, of which some want a little help."""

from __future__ import annotations

import torch

# torchvision's compiled operators are made for one build of torch; timm needs none of them, but the import their names
POOLING = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
OPERATORS = ("nms", "qnms", *POOLING, *(f"_{name}_backward" for name in POOLING))
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for operator in OPERATORS:
    LIBRARY.define(f"{operator}(Tensor a) -> Tensor")
