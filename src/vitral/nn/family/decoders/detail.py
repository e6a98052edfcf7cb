"""`detail`: several blocks of a plain ViT, refined by a convolutional stem that sees the image at full detail.

A plain ViT has one resolution, that of its patches. What is where within a patch comes from the stem, what it is from
the blocks. Ranftl et al. 2021, "Vision Transformers for Dense Prediction", §3, reads four blocks as well; the stem is
that of Chen et al. 2023, "Vision Transformer Adapter", §3.2, without its attention.

Axes:  b batch   c channels   y x pixels   d width   gy gx rows, columns of a feature map   k classes
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.family.decoders.pyramid import Smooth, enlarged
from vitral.nn.family.map_norm import MapNorm

WIDTH = 64
STEM = 24  # channels of the stem at a half of the image's resolution; twice as many at a quarter


class DetailDecoder(nn.Module):
    """Maps of one resolution, concatenated, then enlarged to a quarter and a half; the stem is added at both.

    Logits at a half of the image's resolution.
    """

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        num_classes: int,
        in_channels: int = 3,
        width: int = WIDTH,
    ):
        super().__init__()
        self.norms = nn.ModuleList(MapNorm(own) for own in widths)
        self.project = nn.Conv2d(sum(widths), width, 1)
        self.stem_half = nn.Sequential(
            nn.Conv2d(in_channels, STEM, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU()
        )
        self.stem_quarter = nn.Sequential(
            nn.Conv2d(STEM, 2 * STEM, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * STEM), nn.ReLU()
        )
        self.join_quarter = nn.Sequential(nn.Conv2d(width + 2 * STEM, width, 1, bias=False), Smooth(width))
        self.join_half = nn.Sequential(nn.Conv2d(width + STEM, width // 2, 1, bias=False), Smooth(width // 2))
        self.head = nn.Conv2d(width // 2, num_classes, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b k gy gx"]:
        half = self.stem_half(images)
        quarter = self.stem_quarter(half)
        x = self.project(torch.cat([norm(own) for norm, own in zip(self.norms, maps)], dim=1))
        x = self.join_quarter(torch.cat([enlarged(x, quarter), quarter], dim=1))
        return self.head(self.join_half(torch.cat([enlarged(x, half), half], dim=1)))


detail = DetailDecoder
