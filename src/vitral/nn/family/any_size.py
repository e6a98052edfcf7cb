"""A ViT for images of any size, which resamples its positions for each image.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n tokens   d width   k classes
"""

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.family.resample import resample_positions
from vitral.nn.parts import KnowsGrid
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer


class AnySizeViT(VisionTransformer):
    """A `VisionTransformer` for images of any size; `resampling` is one of `family.resample.WAYS`.

    An image is padded at the right and at the bottom to whole patches. Positions are resampled for each image, even one
    of the trained size, where the result is the same: so a traced model has no branch that depends on the size.

    Raises `ConfigError` for parts that depend on their grid (rotary positions, windows, convolutions).
    """

    def __init__(self, *sizes: Any, resampling: str = "timm", **named: Any):
        super().__init__(*sizes, **named)
        if not isinstance(self.position, LearnedPosition):
            raise ConfigError(
                f"{type(self.position).__name__} has no position table that can be resampled to another grid."
            )
        if fixed := [type(part).__name__ for part in self.modules() if isinstance(part, KnowsGrid)]:
            raise ConfigError(f"{fixed[0]} is built for one grid, so the model cannot take images of other sizes.")
        self.resampling = resampling
        self.config["resampling"] = resampling
        self.config["family"] = "any_size"

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.patch_embed.patch_size))
        patches = self.patch_embed.proj(F.pad(images, (0, right, 0, below)))
        grid = patches.shape[2], patches.shape[3]
        tokens = self.with_tokens(rearrange(patches, "b d gy gx -> b (gy gx) d"))
        assert self.pos_embed is not None
        return self.position(tokens, resample_positions(self.pos_embed, self.grid, grid, self.resampling, always=True))
