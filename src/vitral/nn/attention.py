"""Multi-head self-attention (Vaswani et al. 2017, §3.2; Dosovitskiy et al. 2021, appendix A).

    Attention(q, k, v) = softmax(q kᵀ / √e + bias) v

Axes:  b batch   h heads   n tokens (m queries)   d width   e width of one head (d = h e)
"""

from collections.abc import Callable

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError

Heads = Float[Tensor, "b h n e"]
Attend = Callable[..., Float[Tensor, "b m d"]]


def attend(
    q: Float[Tensor, "b h m e"], k: Heads, v: Heads, bias: Float[Tensor, "#b #h #m #n"] | None = None
) -> Float[Tensor, "b m d"]:
    """Attention in each head, and the results of the heads side by side.

    The one call of the kernel in all of `nn`: `family/` normalises or rotates q and k before it, adds a bias for the
    distance between patches, cuts the tokens into windows, or takes other queries than keys.
    """
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return rearrange(x, "b h n e -> b n (h e)")


class Attention(nn.Module):
    """Each token compares its query with the keys of all tokens and takes the weighted mean of their values, per head.

    The kernel never forms the (n, n) weights; `vitral.watch` computes the rows that are asked for.

    >>> import torch
    >>> from vitral import Attention
    >>> Attention(embed_dim=192, num_heads=3)(torch.zeros(2, 197, 192)).shape
    torch.Size([2, 197, 192])

    Raises `ConfigError` if the width does not split over the heads.
    """

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            works = ", ".join(str(heads) for heads in range(1, embed_dim + 1) if embed_dim % heads == 0)
            raise ConfigError(
                f"embed_dim={embed_dim} cannot be split over num_heads={num_heads}; heads that work: {works}."
            )
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.attend: Attend = attend  # `high_resolution.windows` has another

    def project(self, x: Float[Tensor, "b n d"]) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values of each head."""
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        return q, k, v

    def forward(self, x: Float[Tensor, "b n d"], attend: Attend | None = None) -> Float[Tensor, "b n d"]:
        q, k, v = self.project(x)
        return self.proj((attend or self.attend)(q, k, v))
