"""Station 11: fused attention, the same numbers faster.

    written out     softmax(q kᵀ / √e) v forms the (n, n) weights in memory: memory and time of n²
    fused           F.scaled_dot_product_attention(q, k, v): the same output, without the weights in memory
    one row         softmax(q_0 kᵀ / √e): the class token's row alone costs n numbers, not n²

Your attention of station 4 forms the weights. PyTorch's kernel takes (b, heads, n, e), goes over the keys in pieces
with a running sum, and divides by √e itself, so the weights need no memory. Every fast ViT uses it, but it does not
return the weights. If only the class token's row is needed, that row can be computed separately: this is how
`vitral.watch` observes a running model.

Your functions must return the same numbers as the written-out one, to rounding; form no tensor of n² numbers on the way
(this is counted with 512 tokens); and use no loop over the tokens.

Before you write: 4,096 tokens, one head, float32. How large is the matrix of weights?
    a  64 MiB        b  64 million numbers        c  16 KiB
"""

import torch.nn.functional as F
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def fast_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries, keys and values (b, heads, n, e) -> output (b, heads, n, e)."""
    # Yours: the fused kernel.
    return F.scaled_dot_product_attention(q, k, v)


def cls_row(q: Tensor, k: Tensor) -> Tensor:
    """Queries and keys (b, heads, n, e) -> the first token's weights (b, heads, n), without those of the others."""
    # Yours: the first query alone.
    return (q[:, :, :1] @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)[:, :, 0]
