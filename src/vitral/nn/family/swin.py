"""Swin: attention in windows that shift from block to block, on a grid that is halved from stage to stage.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", §3, figure 3.

Axes:  b batch   c channels   y x pixels, or rows and columns of patches   d width   k classes
"""

from collections.abc import Sequence
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import plain
from vitral.nn.block import Block
from vitral.nn.family.block import stochastic_depth
from vitral.nn.family.stage import MapEmbedding, Stage
from vitral.nn.family.window import ShiftedWindows
from vitral.nn.parts import check_layers
from vitral.nn.patch import Size, check_sizes, pair


class SwinTransformer(nn.Module):
    """Images (B, C, H, W) of any size -> logits (B, num_classes); features (B, D) when `num_classes` is 0.

    `img_size` is the size of training images; `grid` that of the last stage. Raises `ConfigError` for sizes that do not
    fit together.
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
            raise ConfigError(f"depths={tuple(depths)} and num_heads={tuple(num_heads)} must have one entry per stage.")
        check_sizes(img_size=min(pair(img_size)), patch_size=min(pair(patch_size)), window_size=window_size)
        check_sizes(in_channels=in_channels, embed_dim=embed_dim, depths=min(depths), num_heads=min(num_heads))
        check_sizes(0, num_classes=num_classes)
        self.patch_embed = MapEmbedding(patch_size, in_channels, embed_dim)
        self.layers = nn.ModuleList(
            Stage(embed_dim << stage, depth, heads, window_size, mlp_ratio, merge=stage > 0)
            for stage, (depth, heads) in enumerate(zip(depths, num_heads))
        )
        width = embed_dim << (len(depths) - 1)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        self.num_prefix_tokens = 0
        rows, columns = (-(-side // patch) for side, patch in zip(pair(img_size), pair(patch_size)))
        for _ in depths[1:]:
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.grid = rows, columns
        self.init_weights()
        stochastic_depth([part for part in self.modules() if isinstance(part, Block)], drop_path_rate)
        self.preprocessing = plain(pair(img_size), in_channels)
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
        """Linear layers and bias tables normal with deviation 0.02, biases zero, all classes as equally likely."""
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
        """The feature map after each of the given stages, in this order; -1 is the last."""
        check_layers(layers, len(self.layers), "stages")
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
