"""Fewer tokens from block to block: the most similar ones are merged, without training.

Bolya et al. 2023, "Token Merging: Your ViT But Faster" (ToMe), §3: bipartite matching on keys, a mean weighted by the
numbers of patches, and attention proportional to these.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   h heads   n tokens (m: after merging)
       r tokens that are merged away   e width of one head   d width   k classes
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.attention import Heads, attend
from vitral.nn.block import Block
from vitral.nn.family.block import ScaledBlock
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.merged_tokens import MergedTokens, match
from vitral.nn.high_resolution.windows import takes_attend
from vitral.nn.parts import KnowsGrid, check_layers
from vitral.nn.vit import VisionTransformer


class Proportional:
    """Attention in which a token counts as often as it holds patches: log size is added to its logits (§3, eq. 1).

    `keys` are then the means over the heads, by which tokens are matched.
    """

    def __init__(self, tokens: MergedTokens):
        self.bias = None if tokens.are_all else tokens.sizes.log()[:, None, None]
        self.keys: Tensor

    def __call__(self, q: Heads, k: Heads, v: Heads) -> Float[Tensor, "b n d"]:
        self.keys = k.mean(dim=1)
        return attend(q, k, v, None if self.bias is None else self.bias.to(q.dtype))


class MergingViT(nn.Module):
    """A ViT, whose weights it shares, that merges `r` tokens in each block, or `r[i]` in block i -> logits (B, k).

    `steps[i]` are the tokens that block i attended between when it ran last, and after the blocks those that were left.
    For inference: raises `ConfigError` in training mode, and for a model whose mixers are not plain attention.

    >>> import torch
    >>> from vitral import create
    >>> from vitral.nn.high_resolution.token_merging import MergingViT
    >>> model = MergingViT(create("vit_tiny_patch16_224", num_classes=3), r=16).eval()
    >>> with torch.no_grad():
    ...     logits = model(torch.zeros(1, 3, 224, 224))
    >>> [step.sizes.shape[1] for step in model.steps]
    [197, 181, 165, 149, 133, 117, 101, 85, 69, 53, 37, 21, 11]
    """

    merges_tokens = True

    def __init__(self, model: VisionTransformer, r: int | Sequence[int] = 8):
        super().__init__()
        if not isinstance(model, VisionTransformer):
            raise ConfigError(f"Token merging takes a VisionTransformer of Vitral's, not a {type(model).__name__}.")
        depth = len(model.blocks)
        self.r = (r,) * depth if isinstance(r, int) else tuple(r)
        if len(self.r) != depth or min(self.r) < 0:
            raise ConfigError(f"r={r} must be a number of tokens from 0, or {depth} of them, one for each block.")
        blocks: list[Any] = list(model.blocks)
        for number, block in enumerate(blocks):
            if type(block) not in (Block, ScaledBlock):
                raise ConfigError(f"Token merging is not defined for a {type(block).__name__}.")
            if not takes_attend(block.attn):
                raise ConfigError(f"{type(block.attn).__name__} is not attention over all tokens, so none are merged.")
            if isinstance(block.attn, KnowsGrid):
                raise ConfigError(
                    f"{type(block.attn).__name__} needs to know where each token stands, and a merged token stands at "
                    "several places. Token merging works with positions that are added to the patches."
                )
            if block.attn.attend is not attend:
                raise ConfigError(f"Block {number} attends in windows, and merged tokens form none. Use r=0.")
        self.model, self.grid, self.num_prefix_tokens = model, model.grid, model.num_prefix_tokens
        self.preprocessing = model.preprocessing
        self.steps: list[MergedTokens] = []
        self.eval()

    def encode(self, images: Float[Tensor, "b c y x"]) -> Iterator[tuple[MergedTokens, Float[Tensor, "b n d"]]]:
        """The tokens after each block, and which these are."""
        if self.training:
            raise ConfigError("Tokens are merged for inference, and the model is in training mode: call eval() first.")
        x, model = self.model.embed(images), self.model
        grid = model.grid_of(images) if isinstance(model, AnySizeViT) else model.grid
        holder = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        sizes = torch.ones(holder.shape, device=x.device)
        tokens = MergedTokens(holder, sizes, grid, self.num_prefix_tokens)
        self.steps = [tokens]
        for block, r in zip(model.blocks, self.r):
            x, tokens = run_block(block, x, tokens, r)
            self.steps.append(tokens)
            yield tokens, x

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        for tokens, x in self.encode(images):
            last = tokens, x
        # A pool of all patches then counts each token as often as it holds patches.
        x = self.model.norm(last[0].unmerge(last[1]))
        return self.model.head(self.model.pool(x, self.num_prefix_tokens))

    def features(self, images: Float[Tensor, "b c y x"], layers: Sequence[int]) -> list[Float[Tensor, "b d gy gx"]]:
        """Feature maps: at each patch, the token that holds it after each of the given blocks."""
        check_layers(layers, len(self.model.blocks), "blocks")
        after = list(self.encode(images))
        patches = (tokens.unmerge(x)[:, self.num_prefix_tokens :] for tokens, x in (after[layer] for layer in layers))
        return [rearrange(x, "b (gy gx) d -> b d gy gx", gy=self.steps[0].grid[0]) for x in patches]


def run_block(
    block: Any, x: Float[Tensor, "b n d"], tokens: MergedTokens, r: int
) -> tuple[Float[Tensor, "b m d"], MergedTokens]:
    """One block, which merges r tokens between its attention and its MLP (§3)."""
    attending = Proportional(tokens)
    mixed = block.attn(block.norm1(x), attend=attending)
    x = x + (block.ls1(mixed) if isinstance(block, ScaledBlock) else mixed)
    source, target = match(attending.keys, tokens.num_prefix_tokens, r)
    if source.shape[1]:
        x, tokens = tokens.merge(x, source, target)
    transformed = block.mlp(block.norm2(x))
    return x + (block.ls2(transformed) if isinstance(block, ScaledBlock) else transformed), tokens
