"""Layer norm of a feature map: each place by itself, over its channels.

Axes:  b batch   d width   y x rows, columns
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MapNorm(nn.LayerNorm):
    """`nn.LayerNorm` for maps whose channels come first."""

    def __init__(self, width: int):
        super().__init__(width, 1e-6)

    def forward(self, x: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        last = x.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
