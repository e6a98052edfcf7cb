"""A light convolutional segmentation model for `benchmarks/tiles.py`, which loads this file: half a million parameters.

They are random: speed and memory do not depend on them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS, FINE, CLASSES = (24, 48, 96, 160), 32, 9


class Pyramid(nn.Module):
    """Convolutions at 1/2 to 1/16 of the size; their maps, projected to one width, are added up from coarse to fine."""

    task = "segmentation"
    class_names = ("background", *(f"shape {number}" for number in range(1, CLASSES)))
    img_size = 128
    origin = "The weights are random, with a fixed seed."

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stages, self.lateral = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip((3, *WIDTHS), WIDTHS):
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(wide),
                    nn.ReLU(),
                    nn.Conv2d(wide, wide, 3, padding=1, bias=False),
                    nn.BatchNorm2d(wide),
                    nn.ReLU(),
                )
            )
            self.lateral.append(nn.Conv2d(wide, FINE, 1))
        self.head = nn.Sequential(nn.Conv2d(FINE, FINE, 3, padding=1), nn.ReLU(), nn.Conv2d(FINE, CLASSES, 1))

    def forward(self, images: Tensor) -> Tensor:
        x, maps = images, []
        for stage, lateral in zip(self.stages, self.lateral):
            x = stage(x)
            maps.append(lateral(x))
        top = maps.pop()
        for finer in reversed(maps):
            top = finer + F.interpolate(top, scale_factor=2, mode="bilinear", align_corners=False)
        return F.interpolate(self.head(top), scale_factor=2, mode="bilinear", align_corners=False)
