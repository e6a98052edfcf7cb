"""A ViT that takes images of any size, its positions resampled as they come.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n tokens   d width   k classes
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.family.resample import resampled
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer


class AnySizeViT(VisionTransformer):
    """The lecture's model for images of any size; `resampling` is one of `family.resample.WAYS`.

    An image is padded at the right and below to whole patches. Positions are resampled for every image, also for one of
    the trained size, where that changes nothing: so a traced model has no branch on the size.

    Raises `ConfigError` for parts that know their grid (rotary positions, windows, convolutions).
    """

    def __init__(self, *sizes: Any, resampling: str = "timm", **named: Any):
        super().__init__(*sizes, **named)
        if not isinstance(self.position, LearnedPosition):
            raise ConfigError(f"{type(self.position).__name__} is no table that could be resampled to another grid.")
        if placed := [type(part).__name__ for part in self.modules() if hasattr(part, "place")]:
            raise ConfigError(f"{placed[0]} is made for one grid, so the model cannot take images of any size.")
        self.resampling = resampling
        self.config["resampling"] = resampling
        self.config["family"] = "any_size"

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.patch_embed.patch_size))
        maps = self.patch_embed.proj(F.pad(images, (0, right, 0, below)))
        grid = maps.shape[2], maps.shape[3]
        prefix = [getattr(self, name).expand(images.shape[0], -1, -1) for name in self.token_names]
        tokens = torch.cat([*prefix, rearrange(maps, "b d gy gx -> b (gy gx) d")], dim=1)
        assert self.pos_embed is not None
        return self.position(tokens, resampled(self.pos_embed, self.grid, grid, self.resampling, always=True))
