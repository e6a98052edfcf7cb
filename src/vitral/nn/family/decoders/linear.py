"""`linear`: one linear layer on the last feature map, the probe by which dense features are judged.

Oquab et al. 2024, "DINOv2", §7.4.

Axes:  b batch   c channels   y x pixels   d width   gy gx rows, columns of a feature map   k classes
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.family.map_norm import MapNorm


class LinearDecoder(nn.Module):
    """The normalized last map -> logits at its own resolution."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], num_classes: int, in_channels: int = 3):
        super().__init__()
        self.norm = MapNorm(widths[-1])
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b k gy gx"]:
        return self.head(self.norm(maps[-1]))


linear = LinearDecoder
