"""A ViT for images of any size, which resamples its positions for each image.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n tokens   d width   k classes
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.family.resample import resample_positions
from vitral.nn.high_resolution.windows import on_grid
from vitral.nn.parts import KnowsGrid, check_layers
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer


class AnySizeViT(VisionTransformer):
    """A `VisionTransformer` for images of any size; `resampling` is one of `family.resample.WAYS`.

    An image is padded at the right and at the bottom to whole patches. Positions are resampled for each image, even one
    of the trained size, where the result is the same: so a traced model has no branch that depends on the size. Images
    of several sizes at once: `high_resolution.mixed_sizes`.

    Raises `ConfigError` for parts that depend on their grid (rotary positions, windows with biases, convolutions).
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

    def grid_of(self, images: Float[Tensor, "b c y x"]) -> tuple[int, int]:
        """Rows and columns of patches of these images."""
        rows, columns = (-(-side // patch) for side, patch in zip(images.shape[2:], self.patch_embed.patch_size))
        return rows, columns

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.patch_embed.patch_size))
        patches = self.patch_embed.proj(F.pad(images, (0, right, 0, below)))
        grid = patches.shape[2], patches.shape[3]
        tokens = self.with_tokens(rearrange(patches, "b d gy gx -> b (gy gx) d"))
        assert self.pos_embed is not None
        return self.position(tokens, resample_positions(self.pos_embed, self.grid, grid, self.resampling, always=True))

    def encode(self, images: Float[Tensor, "b c y x"]) -> Iterator[Float[Tensor, "b n d"]]:
        """The tokens after each block."""
        x, grid = self.embed(images), self.grid_of(images)
        for block in self.blocks:
            x = block(x, **on_grid(block, grid))
            yield x

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """Feature maps: the patch tokens after each of the given blocks, on the grid of these images."""
        check_layers(layers, len(self.blocks), "blocks")
        after, rows = list(self.encode(images)), self.grid_of(images)[0]
        patches = (after[layer][:, self.num_prefix_tokens :] for layer in layers)
        return [rearrange(x, "b (gy gx) d -> b d gy gx", gy=rows) for x in patches]

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        for x in self.encode(images):
            last = x
        return self.head(self.pool(self.norm(last), self.num_prefix_tokens))
