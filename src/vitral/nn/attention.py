"""Multi-head self-attention (Vaswani et al. 2017, §3.2; Dosovitskiy et al. 2021, appendix A).

    Attention(q, k, v) = softmax(q kᵀ / √e) v

Axes:  b batch   h heads   n tokens   d width   e width of one head (d = h e)
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError


class Attention(nn.Module):
    """Every token asks (q) all tokens (k) and takes a weighted mean of what they hold (v), once per head.

    The kernel never forms the (n, n) weights; `vitral.watch` computes the rows one wants to see.

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

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))
