"""The Vision Transformer: patches, positions, blocks, CLS, head (Dosovitskiy et al. 2021, §3.1, figure 1).

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   n tokens   d width   k classes
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.base.lookup import part_path
from vitral.base.preprocessing import plain_preprocessing
from vitral.nn.attention import Attention
from vitral.nn.block import Block, LayerNorm
from vitral.nn.head import CLSPool
from vitral.nn.mlp import MLP
from vitral.nn.patch import PatchEmbedding, Size, check_sizes
from vitral.nn.position import LearnedPosition

CLS = MappingProxyType({"cls_token": 1})
DEFAULTS = dict(
    patch_embed=PatchEmbedding,
    position=LearnedPosition,
    mixer=Attention,
    mlp=MLP,
    norm=LayerNorm,
    block=Block,
    pool=CLSPool,
    head=nn.Linear,
)


class VisionTransformer(nn.Module):
    """Images (B, C, H, W) -> logits (B, num_classes); features (B, D) when `num_classes` is 0.

    Each keyword after the sizes is a part, replaced by any other that fits its slot:

        patch_embed(img_size, patch_size, in_channels, embed_dim)   images -> patch tokens, with a `grid`
        tokens      {parameter name: how many}                      learned tokens put before the patches
        position    .table(num_prefix_tokens, grid, embed_dim)      makes `pos_embed` (or None) and adds it
        mixer(embed_dim, num_heads)                                 where tokens meet
        mlp(embed_dim, hidden_dim)                                  where each thinks for itself
        norm(embed_dim)
        block(attn, mlp, embed_dim, norm)                           how a mixer and an MLP make a layer
        pool(embed_dim, num_heads, hidden_dim)                      tokens, num_prefix_tokens -> (B, D)
        head(embed_dim, num_classes)

    A part that must know where the tokens stand has a method `place(grid, num_prefix_tokens)`; one that draws its own
    weights has `init_weights()`; a pool with `norms = True` reads the tokens before the final norm.

    Raises `ConfigError` for sizes that do not fit together.
    """

    grid: tuple[int, int]  # rows, columns of patches
    config: dict[str, Any]  # enough to build the model again, untrained

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        *,
        patch_embed=PatchEmbedding,
        tokens: Mapping[str, int] = CLS,
        position=LearnedPosition,
        mixer=Attention,
        mlp=MLP,
        norm=LayerNorm,
        block=Block,
        pool=CLSPool,
        head=nn.Linear,
    ):
        super().__init__()
        sizes = dict(in_channels=in_channels, embed_dim=embed_dim, depth=depth, num_heads=num_heads)
        check_sizes(**sizes)
        check_sizes(0, num_classes=num_classes)
        hidden_dim = int(embed_dim * mlp_ratio)
        if hidden_dim < 1:
            raise ConfigError(f"mlp_ratio={mlp_ratio} of embed_dim={embed_dim} must be at least 1.")

        self.patch_embed = patch_embed(img_size, patch_size, in_channels, embed_dim)
        self.grid = self.patch_embed.grid
        self.token_names, self.num_prefix_tokens = tuple(tokens), sum(tokens.values())
        if pool is CLSPool and not self.num_prefix_tokens:
            raise ConfigError("Without tokens there is no class token to read: take another pool, such as MeanPool.")
        for name, count in tokens.items():
            self.register_parameter(name, nn.Parameter(torch.empty(1, count, embed_dim)))
        self.position = position()
        table = self.position.table(self.num_prefix_tokens, self.grid, embed_dim)
        self.pos_embed = None if table is None else nn.Parameter(table)
        self.blocks = nn.ModuleList(
            block(mixer(embed_dim, num_heads), mlp(embed_dim, hidden_dim), embed_dim, norm) for _ in range(depth)
        )
        self.pool = pool(embed_dim, num_heads, hidden_dim)
        self.norm = nn.Identity() if getattr(pool, "norms", False) else norm(embed_dim)
        self.head = head(embed_dim, num_classes) if num_classes else nn.Identity()
        self.each_part_with("place", self.grid, self.num_prefix_tokens)
        self.init_weights()

        self.preprocessing = plain_preprocessing(self.patch_embed.img_size, in_channels)
        parts = dict(patch_embed=patch_embed, position=position, mixer=mixer, mlp=mlp)
        parts |= dict(norm=norm, block=block, pool=pool, head=head)
        self.config = sizes | {
            "img_size": self.patch_embed.img_size,
            "patch_size": self.patch_embed.patch_size,
            "num_classes": num_classes,
            "mlp_ratio": mlp_ratio,
            "tokens": dict(tokens),
            "parts": {slot: part_path(part) for slot, part in parts.items() if part is not DEFAULTS[slot]},
        }

    def init_weights(self) -> None:
        """Draw the weights.

        patch projection             normal, variance 1 / inputs: pixels of unit variance give tokens of unit variance
        attn.proj, mlp.fc2, head     zero: blocks start as the identity, and every class as likely
        other linear maps            normal, deviation 0.02
        learned tokens               normal, deviation 0.02 (positions: by their part)
        biases                       zero
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                deviation = 0.02 if isinstance(module, nn.Linear) else module.weight[0].numel() ** -0.5
                nn.init.trunc_normal_(module.weight, std=deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for part in (*(block.get_submodule(name) for block in self.blocks for name in ("attn", "mlp")), self.head):
            linear = [module for module in part.modules() if isinstance(module, nn.Linear)]
            if linear:
                nn.init.zeros_(linear[-1].weight)
        for name in self.token_names:
            nn.init.trunc_normal_(getattr(self, name), std=0.02)
        self.each_part_with("init_weights")

    def each_part_with(self, method: str, *arguments: Any) -> None:
        """Call a method of all the parts that have it."""
        for part in self.modules():
            if part is not self and hasattr(part, method):
                getattr(part, method)(*arguments)

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        """The sequence that enters the first block: prefix tokens, then patches, positions added."""
        patches = self.patch_embed(images)
        prefix = [getattr(self, name).expand(images.shape[0], -1, -1) for name in self.token_names]
        return self.position(torch.cat([*prefix, patches], dim=1), self.pos_embed)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x), self.num_prefix_tokens))

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """What the patches hold after the given blocks, as maps, in the order asked; -1 is the last block."""
        depth = len(self.blocks)
        if wrong := [layer for layer in layers if not -depth <= layer < depth]:
            raise ConfigError(
                f"layers={wrong} do not exist: there are {depth} blocks, 0 to {depth - 1} (or -{depth} to -1)."
            )
        after, x = [], self.embed(images)
        for block in self.blocks:
            x = block(x)
            after.append(x)
        rows, columns = self.grid
        patches = (after[layer][:, self.num_prefix_tokens :] for layer in layers)
        return [rearrange(x, "b (gy gx) d -> b d gy gx", gy=rows, gx=columns) for x in patches]
