"""Station 11: the same numbers, fast.

    written out     (n, n) weights are formed, kept and read again: memory and time of N²
    fused           F.scaled_dot_product_attention(q, k, v): the same output, the weights never stand in memory
    one row         softmax(q_0 kᵀ / √e): what the class token attends to costs n numbers, not n²

Your attention of station 4 forms the weights. Given (b, heads, n, e), PyTorch's kernel goes over the keys in pieces,
keeps a running sum, and divides by √e itself: the weights need no room. Every fast ViT calls it, but it gives no
weights to look at. When only the class token's row is wanted, that row alone can be computed beside it: this is how
`vitral.watch` looks into a running model.

Your functions must give the same numbers as the written-out one, to rounding, form no tensor of n² numbers on the way
(it is counted at 512 tokens), and go over the tokens in no loop.

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
    """Queries and keys (b, heads, n, e) -> the first token's weights (b, heads, n), without the others'."""
    # Yours: the first query alone.
    return (q[:, :, :1] @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)[:, :, 0]
