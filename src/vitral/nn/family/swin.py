"""Swin: attention in windows that shift from block to block, on a map that is halved from stage to stage.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", §3, figure 3.

Axes:  b batch   c channels   y x pixels, or rows and columns of a map   d width   k classes
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError, ShapeError
from vitral.base.preprocessing import Preprocessing
from vitral.nn.block import Block
from vitral.nn.family.block import LayerNorm5, stochastic_depth
from vitral.nn.family.window import ShiftedWindows
from vitral.nn.mlp import MLP
from vitral.nn.patch import Size, pair


class MapEmbedding(nn.Module):
    """Patches as a map of tokens (B, rows, columns, D), each normed; an image is padded to whole patches."""

    def __init__(self, patch_size: Size, in_channels: int, embed_dim: int):
        super().__init__()
        self.patch_size = pair(patch_size)
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=self.patch_size, stride=self.patch_size)
        self.norm = LayerNorm5(embed_dim)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b gy gx d"]:
        if images.ndim != 4 or images.shape[1] != self.proj.in_channels:
            raise ShapeError(
                f"The model takes images of (batch, {self.proj.in_channels} channels, height, width), but was given "
                f"{tuple(images.shape)}."
            )
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.patch_size))
        return self.norm(rearrange(self.proj(F.pad(images, (0, right, 0, below))), "b d y x -> b y x d"))


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the width; a map of odd sides is padded."""

    def __init__(self, embed_dim: int):
        super().__init__()
        self.norm = LayerNorm5(4 * embed_dim)
        self.reduction = nn.Linear(4 * embed_dim, 2 * embed_dim, bias=False)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y2 x2 e"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        return self.reduction(self.norm(rearrange(x, "b (y dy) (x dx) d -> b y x (dx dy d)", dy=2, dx=2)))


class Stage(nn.Module):
    """Perhaps a merging of patches, then blocks of which every second one has its windows shifted by a half."""

    def __init__(self, embed_dim: int, depth: int, num_heads: int, window_size: int, mlp_ratio: float, merge: bool):
        super().__init__()
        self.downsample = PatchMerging(embed_dim // 2) if merge else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                ShiftedWindows(embed_dim, num_heads, window_size, shift=number % 2 * (window_size // 2)),
                MLP(embed_dim, int(embed_dim * mlp_ratio)),
                embed_dim,
                LayerNorm5,
            )
            for number in range(depth)
        )

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y2 x2 e"]:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class SwinTransformer(nn.Module):
    """Images (B, C, H, W) of any size -> logits (B, num_classes); features (B, D) when `num_classes` is 0.

    `img_size` is what the model is trained at; `grid` is that of its last stage. Raises `ConfigError` for sizes that do
    not fit together.
    """

    grid: tuple[int, int]  # rows, columns of the last stage
    config: dict[str, Any]  # enough to build the model again, untrained

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 4,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        if len(depths) != len(num_heads) or not depths:
            raise ConfigError(f"depths={tuple(depths)} and num_heads={tuple(num_heads)} must name the same stages.")
        if window_size < 1 or min(*pair(img_size), *pair(patch_size), in_channels, embed_dim, *depths) < 1:
            raise ConfigError("Every size of a Swin must be at least 1.")
        self.patch_embed = MapEmbedding(patch_size, in_channels, embed_dim)
        self.layers = nn.ModuleList(
            Stage(embed_dim << stage, depth, heads, window_size, mlp_ratio, merge=stage > 0)
            for stage, (depth, heads) in enumerate(zip(depths, num_heads))
        )
        width = embed_dim << (len(depths) - 1)
        self.norm = LayerNorm5(width)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.num_prefix_tokens = 0
        rows, columns = (-(-side // patch) for side, patch in zip(pair(img_size), pair(patch_size)))
        for _ in depths[1:]:
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.grid = rows, columns
        self.init_weights()
        stochastic_depth([part for part in self.modules() if isinstance(part, Block)], drop_path_rate)
        self.preprocessing = Preprocessing(size=pair(img_size))
        self.config = dict(
            family="swin",
            img_size=pair(img_size),
            patch_size=pair(patch_size),
            in_channels=in_channels,
            num_classes=num_classes,
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
        )

    def init_weights(self) -> None:
        """Linear maps and bias tables normal of deviation 0.02, biases zero; every class as likely at the start."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ShiftedWindows):
                module.init_weights()
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """The map after the given stages, in the order asked; -1 is the last."""
        depth = len(self.layers)
        if wrong := [layer for layer in layers if not -depth <= layer < depth]:
            raise ConfigError(f"layers={wrong} do not exist: there are {depth} stages, 0 to {depth - 1}.")
        after, x = [], self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
            after.append(rearrange(x, "b y x d -> b d y x"))
        return [after[layer] for layer in layers]

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))
