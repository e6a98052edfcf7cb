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
from vitral.base.preprocessing import plain
from vitral.nn.attention import Attention
from vitral.nn.block import Block, LayerNorm
from vitral.nn.head import CLSPool
from vitral.nn.mlp import MLP
from vitral.nn.parts import InitializesWeights, KnowsGrid, NormalizesItself, build_with, check_layers, record_part
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


def prepend(token: Float[Tensor, "1 count d"], x: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
    return torch.cat([token.expand(x.shape[0], -1, -1), x], dim=1)


class VisionTransformer(nn.Module):
    """Images (B, C, H, W) -> logits (B, num_classes); features (B, D) when `num_classes` is 0.

    >>> import torch
    >>> from vitral import VisionTransformer
    >>> model = VisionTransformer(img_size=32, patch_size=8, num_classes=10, embed_dim=64, depth=2, num_heads=4)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Each keyword after the sizes is a part, replaced by any other that fits its slot; `functools.partial` gives a part
    arguments of its own, as in `norm=partial(LayerNorm, eps=1e-12)`:

        patch_embed(img_size, patch_size, in_channels, embed_dim)   images -> patch tokens; has a `grid`
        tokens      {parameter name: how many}                      learned tokens before the patches
        position    .table(num_prefix_tokens, grid, embed_dim)      draws `pos_embed` (or None), and adds it
        mixer(embed_dim, num_heads)                                 exchanges information between tokens
        mlp(embed_dim, hidden_dim)                                  transforms each token by itself
        norm(embed_dim)
        block(attn, mlp, embed_dim, norm)                           combines a mixer and an MLP into a layer
        pool                                                        tokens, num_prefix_tokens -> (B, D)
        head(embed_dim, num_classes)                                (B, D) -> logits

    A position gets those of num_prefix_tokens, grid and embed_dim that its signature names; a pool, of embed_dim,
    num_heads and hidden_dim. What else a part can declare: `vitral.nn.parts`.

    Raises `ConfigError` for sizes that do not fit together.
    """

    grid: tuple[int, int]  # rows, columns of patches
    config: dict[str, Any]  # enough to build the model again, untrained
    cls_token: nn.Parameter | None

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
            raise ConfigError(f"mlp_ratio={mlp_ratio} times embed_dim={embed_dim} must be at least 1.")

        self.patch_embed = patch_embed(img_size, patch_size, in_channels, embed_dim)
        self.grid, self.num_prefix_tokens = self.patch_embed.grid, sum(tokens.values())
        if pool is CLSPool and not self.num_prefix_tokens:
            raise ConfigError(
                "Without prefix tokens there is no class token to pool: choose another pool, such as MeanPool."
            )
        self.register_parameter("cls_token", None)
        for name, count in tokens.items():
            self.register_parameter(name, nn.Parameter(torch.empty(1, count, embed_dim)))
        self.more_tokens = [name for name in tokens if name != "cls_token"]
        places = dict(num_prefix_tokens=self.num_prefix_tokens, grid=self.grid, embed_dim=embed_dim)
        self.position = build_with(position, **places)
        table = self.position.table(**places)
        self.pos_embed = None if table is None else nn.Parameter(table)
        self.blocks = nn.ModuleList(
            block(mixer(embed_dim, num_heads), mlp(embed_dim, hidden_dim), embed_dim, norm) for _ in range(depth)
        )
        self.pool = build_with(pool, embed_dim=embed_dim, num_heads=num_heads, hidden_dim=hidden_dim)
        normalized = isinstance(self.pool, NormalizesItself) and self.pool.replaces_final_norm
        self.norm = nn.Identity() if normalized else norm(embed_dim)
        self.head = head(embed_dim, num_classes) if num_classes else nn.Identity()
        for part in self.modules():
            if isinstance(part, KnowsGrid):
                part.set_grid(self.grid, self.num_prefix_tokens)
        self.preprocessing = plain(self.patch_embed.img_size, in_channels)
        parts = dict(patch_embed=patch_embed, position=position, mixer=mixer, mlp=mlp)
        parts |= dict(norm=norm, block=block, pool=pool, head=head)
        self.config = sizes | {
            "img_size": self.patch_embed.img_size,
            "patch_size": self.patch_embed.patch_size,
            "num_classes": num_classes,
            "mlp_ratio": mlp_ratio,
            "tokens": dict(tokens),
            "parts": {slot: record_part(part) for slot, part in parts.items() if part is not DEFAULTS[slot]},
        }
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the weights.

        patch projection             normal, variance 1 / inputs: pixels of unit variance give tokens of unit variance
        attn.proj, mlp.fc2, head     zero: blocks start as the identity, and all classes as equally likely
        other linear layers          normal, deviation 0.02
        learned tokens               normal, deviation 0.02 (positions: drawn by their part)
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
        for name in self.config["tokens"]:
            nn.init.trunc_normal_(self.get_parameter(name), std=0.02)
        for part in self.modules():
            if part is not self and isinstance(part, InitializesWeights):
                part.init_weights()

    def embed(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        """The sequence that enters the first block: class token, then patches, positions added."""
        return self.position(self.with_tokens(self.patch_embed(images)), self.pos_embed)

    def with_tokens(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b m d"]:
        for name in reversed(self.more_tokens):  # of models in family/: registers, a distillation token
            x = prepend(self.get_parameter(name), x)
        return x if self.cls_token is None else prepend(self.cls_token, x)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x), self.num_prefix_tokens))

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """Feature maps: the patch tokens after each of the given blocks, in this order; -1 is the last block."""
        check_layers(layers, len(self.blocks), "blocks")
        after, x = [], self.embed(images)
        for block in self.blocks:
            x = block(x)
            after.append(x)
        rows, columns = self.grid
        patches = (after[layer][:, self.num_prefix_tokens :] for layer in layers)
        return [rearrange(x, "b (gy gx) d -> b d gy gx", gy=rows, gx=columns) for x in patches]
