"""Which tokens are merged, and which patches each token then holds.

Bolya et al. 2023, "Token Merging: Your ViT But Faster" (ToMe), §3. Unlike in the paper's code the tokens that are left
keep their order, so that prefix tokens stay in front; none of them is merged.

Axes:  b batch   gy gx rows, columns of patches   n tokens (m: after merging)   t tokens that entered the first block
       r tokens that are merged away   e width of a key   d width
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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
