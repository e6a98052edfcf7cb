"""Fewer tokens from block to block: the most similar ones are merged, without training.

Bolya et al. 2023, "Token Merging: Your ViT But Faster" (ToMe), §3: bipartite matching on keys, a mean weighted by the
numbers of patches, and attention proportional to these. Unlike in the paper's code the tokens that are left keep their
order, so that prefix tokens stay in front; none of them is merged.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   h heads   n tokens (m: after merging)
       t tokens that entered the first block   r tokens that are merged away   e width of one head   d width   k classes
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.attention import Heads, attend
from vitral.nn.block import Block
from vitral.nn.family.any_size import AnySizeViT
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.windowed import takes_attend
from vitral.nn.parts import KnowsGrid, check_layers
from vitral.nn.vit import VisionTransformer


@dataclass(frozen=True)
class MergedTokens:
    """Which tokens there are at some block: `holder[b, t]` is the one that holds token t of the first block.

    `sizes` are the numbers of tokens that each one holds, `grid` and `num_prefix_tokens` those of the first block.
    """

    holder: Int[Tensor, "b t"]
    sizes: Float[Tensor, "b n"]
    grid: tuple[int, int]
    num_prefix_tokens: int

    @property
    def are_all(self) -> bool:
        """Whether nothing was merged so far."""
        return self.sizes.shape == self.holder.shape

    def unmerge(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b t d"]:
        """The token that holds it, at each token of the first block."""
        return x if self.are_all else x.gather(1, self.holder[..., None].expand(-1, -1, x.shape[-1]))

    def spread(self, values: Float[Tensor, "b *a n"]) -> Float[Tensor, "b *a gy gx"]:
        """One value per token, such as rows of attention, spread evenly over the patches that each token holds."""
        shape, between = values.shape, [1] * (values.ndim - 2)
        sizes = self.sizes.to(values.dtype).reshape(len(values), *between, -1)
        holder = self.holder.reshape(len(values), *between, -1).expand(*shape[:-1], -1)
        patches = (values / sizes).gather(-1, holder)[..., self.num_prefix_tokens :]
        return patches.unflatten(-1, self.grid)

    def merge(
        self, x: Float[Tensor, "b n d"], source: Int[Tensor, "b r"], target: Int[Tensor, "b r"]
    ) -> "tuple[Float[Tensor, 'b m d'], MergedTokens]":
        """The tokens with each source merged into its target, and which tokens are left."""
        left = torch.ones_like(self.sizes, dtype=torch.bool).scatter(1, source, False)
        order = left.nonzero()[:, 1].reshape(len(x), -1)
        sizes = self.sizes.scatter_add(1, target, self.sizes.gather(1, source)).gather(1, order)
        weighted, width = x * self.sizes[..., None].to(x.dtype), x.shape[-1]
        at, to = (index[..., None].expand(-1, -1, width) for index in (source, target))
        weighted = weighted.scatter_add(1, to, weighted.gather(1, at))
        weighted = weighted.gather(1, order[..., None].expand(-1, -1, width))
        place = left.cumsum(1) - 1
        place = place.scatter(1, source, place.gather(1, target))
        merged = MergedTokens(place.gather(1, self.holder), sizes, self.grid, self.num_prefix_tokens)
        return weighted / sizes[..., None].to(x.dtype), merged


def match(
    keys: Float[Tensor, "b n e"], num_prefix_tokens: int, r: int
) -> tuple[Int[Tensor, "b r"], Int[Tensor, "b r"]]:
    """The r pairs of most similar tokens, one of even and one of odd position, each even one in one pair at most.

    Fewer than r where there are not as many patches of even position, or none of odd.
    """
    first, second = F.normalize(keys, dim=-1)[:, ::2], F.normalize(keys, dim=-1)[:, 1::2]
    firsts, seconds = (num_prefix_tokens + 1) // 2, num_prefix_tokens // 2  # prefix tokens among each
    scores = first[:, firsts:] @ second[:, seconds:].mT
    r = min(r, scores.shape[1]) if scores.shape[2] else 0
    if not r:
        return (torch.empty(len(keys), 0, dtype=torch.long, device=keys.device),) * 2
    similarity, partner = scores.max(dim=-1)
    chosen = similarity.topk(r, dim=-1).indices
    return 2 * (chosen + firsts), 2 * (partner.gather(1, chosen) + seconds) + 1


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
    >>> from vitral.nn.family.token_merging import MergingViT
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
