"""Rotary positions between normalised queries and keys.

Axes:  b batch   h heads   n tokens   d width   e width of one head
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.family.rope import RotaryAttention


class QKNormRotary(RotaryAttention):
    """First normalised (Dehghani et al. 2023, §2), then turned: a turn leaves lengths as they are."""

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dim, num_heads, qkv_bias)
        self.q_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(self.turn(self.q_norm(q)), self.turn(self.k_norm(k)), v)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))
