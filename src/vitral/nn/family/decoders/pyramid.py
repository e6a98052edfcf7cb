"""`pyramid`: the maps of all stages, from coarse to fine, for encoders whose maps shrink from stage to stage.

Lin et al. 2017, "Feature Pyramid Networks", §3; the sum of all levels as in Kirillov et al. 2019, "Panoptic FPN", §3.

Axes:  b batch   c channels   y x pixels   d width   gy gx rows, columns of a feature map   k classes
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.family.map_norm import MapNorm

WIDTH = 64
FINEST = 4  # pixels per place: a finer map costs four times as much and gains at most 3 points of IoU (docs/log.md)


class PyramidDecoder(nn.Module):
    """Each stage's map is projected to `width` and gets the next coarser level added; logits at the finest level.

    What the coarse levels know of the whole object thus reaches every place that the fine ones outline.
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
        self.read = [stage for stage, stride in enumerate(strides) if stride >= min(FINEST, strides[-1])]
        self.laterals = nn.ModuleList(
            nn.Sequential(MapNorm(widths[own]), nn.Conv2d(widths[own], width, 1)) for own in self.read
        )
        self.smooth = nn.ModuleList(Smooth(width) for _ in self.read)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], images: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b k gy gx"]:
        levels = [lateral(maps[stage]) for lateral, stage in zip(self.laterals, self.read)]
        found = self.smooth[-1](levels[-1])
        for finer, smooth in zip(levels[-2::-1], self.smooth[-2::-1]):
            found = smooth(finer + enlarged(found, finer))
        return self.head(found)


class Smooth(nn.Sequential):
    """A 3 x 3 convolution, a norm and a rectifier: what was enlarged has no detail of its own."""

    def __init__(self, width: int):
        super().__init__(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def enlarged(x: Float[Tensor, "b d y x"], like: Float[Tensor, "b _ gy gx"]) -> Float[Tensor, "b d gy gx"]:
    """A map in the resolution of a finer one."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


pyramid = PyramidDecoder
