"""Other ways for tokens to meet, or not to.

Axes:  b batch   h heads   n tokens   d width   e width of one head
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.attention import Attention


class QKNormAttention(Attention):
    """Attention between normalised queries and keys (Dehghani et al. 2023, "Scaling ViT to 22B", §2).

    Logits can then neither start too flat nor grow too sharp, whatever the learning rate.
    """

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dim, num_heads, qkv_bias)
        self.q_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))


class NoMixing(nn.Module):
    """Tokens never meet: with a mean pool, the model is a bag of patches. The baseline that attention must beat."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return torch.zeros_like(x)
