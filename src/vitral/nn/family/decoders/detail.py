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

from vitral.base.errors import ConfigError
from vitral.nn.family.decoders.pyramid import Smooth, enlarged
from vitral.nn.family.map_norm import MapNorm

WIDTH = 64
STEM = 24  # channels of the stem at a half of the image's resolution; twice as many at a quarter


class DetailDecoder(nn.Module):
    """Maps of one resolution, concatenated and enlarged to a quarter of the image's, beside those of the stem.

    Logits at a quarter of the image's resolution: at a half, a training step took half as long again (docs/log.md).
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
        if len(set(strides)) > 1:
            raise ConfigError(
                f"The decoder detail reads maps of one resolution; a place of this encoder's stands for "
                f"{', '.join(map(str, strides))} pixels. Use pyramid, or linear."
            )
        self.norms = nn.ModuleList(MapNorm(own) for own in widths)
        self.project = nn.Conv2d(sum(widths), width, 1)
        self.stem = nn.Sequential(Halve(in_channels, STEM), Halve(STEM, 2 * STEM))
        self.join = nn.Sequential(nn.Conv2d(width + 2 * STEM, width, 1, bias=False), Smooth(width))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b k gy gx"]:
        fine = self.stem(images)
        coarse = self.project(torch.cat([norm(own) for norm, own in zip(self.norms, maps)], dim=1))
        return self.head(self.join(torch.cat([enlarged(coarse, fine), fine], dim=1)))


class Halve(nn.Sequential):
    """A 3 x 3 convolution of every second place, a norm and a rectifier."""

    def __init__(self, narrow: int, wide: int):
        super().__init__(nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())


detail = DetailDecoder
