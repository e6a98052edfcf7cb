"""A small residual network to compare the ViT with (He et al. 2016, "Deep Residual Learning", §3).

Axes:  b batch   c channels   y x pixels, or rows and columns of a feature map   d width   k classes
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import plain
from vitral.nn.patch import Size, check_sizes, pair


class Residual(nn.Module):
    """x + conv(relu(conv(x))), with 3 x 3 convolutions and batch norm; x is projected where its shape changes."""

    def __init__(self, narrow: int, wide: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        same = stride == 1 and narrow == wide
        self.skip = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(narrow, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide))
        )

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d y2 x2"]:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(x) + self.norm2(self.conv2(inner)))


class ResNet(nn.Module):
    """Images (B, C, H, W) -> logits (B, num_classes); features (B, D) when `num_classes` is 0.

    Stage i has `depths[i]` blocks; from stage to stage widths double and feature maps halve. Raises `ConfigError` for
    sizes that do not fit together.
    """

    grid: tuple[int, int]  # rows, columns of the last stage
    config: dict[str, Any]  # enough to build the model again, untrained

    def __init__(
        self,
        img_size: Size = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 64,
        depths: Sequence[int] = (2, 2, 2, 2),
    ):
        super().__init__()
        check_sizes(img_size=min(pair(img_size)), in_channels=in_channels, embed_dim=embed_dim)
        check_sizes(depths=min(depths, default=0))
        check_sizes(0, num_classes=num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, embed_dim, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(embed_dim), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        width, (rows, columns) = embed_dim, (-(-side // 2) for side in pair(img_size))
        for stage, depth in enumerate(depths):
            wide, stride = embed_dim << stage, 2 if stage else 1
            self.stages.append(
                nn.Sequential(*(Residual(wide if b else width, wide, 1 if b else stride) for b in range(depth)))
            )
            width, rows, columns = wide, -(-rows // stride), -(-columns // stride)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.grid, self.num_prefix_tokens = (rows, columns), 0
        self.init_weights()
        self.preprocessing = plain(pair(img_size), in_channels)
        self.config = dict(
            family="resnet",
            img_size=pair(img_size),
            in_channels=in_channels,
            num_classes=num_classes,
            embed_dim=embed_dim,
            depths=tuple(depths),
        )

    def init_weights(self) -> None:
        """Convolutions as in He et al. 2015; blocks start as the identity, and all classes as equally likely."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Residual):
                nn.init.zeros_(module.norm2.weight)
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """The feature map after each of the given stages, in this order; -1 is the last."""
        if wrong := [layer for layer in layers if not -len(self.stages) <= layer < len(self.stages)]:
            raise ConfigError(f"layers={wrong} do not exist: there are {len(self.stages)} stages.")
        after, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            after.append(x)
        return [after[layer] for layer in layers]

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean(dim=(2, 3)))
