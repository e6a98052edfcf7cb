"""Station 12: ViT against CNN.

    mixing      attention: a weighted mean of all tokens, weights from the tokens themselves
                depthwise convolution: of the 3 x 3 patches around and with it, weights learned, the same everywhere
    reach       attention: everything, at once; convolutions of 3 x 3: one patch further with every block
    cost        of a block for n tokens of width d, in multiply-adds: 12 n d² for its linear maps (MLP of 4 d)
                and 2 n² d where tokens meet

Put one in the other's place and keep everything else: then what differs is due to it. You write the convolution for
tokens, how far a stack of them sees, and how much of a block is attention.

Tokens (b, n, d) become a map (b, d, rows, columns), each channel is convolved by itself
(`F.conv2d(..., padding=1, groups=d)`, zeros beyond the edge), and the map becomes tokens again. What `x.flatten(axis)`
joins, `x.unflatten(axis, (rows, columns))` splits.

Before you write: ViT-B/16 at 224 pixels, n = 197, d = 768. How much of a block's multiply-adds is its n² part?
    a  nearly all        b  31 %        c  4 %
"""

import torch.nn.functional as F
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Patch tokens (b, rows x columns, d) and a kernel (d, 1, 3, 3) -> tokens (b, rows x columns, d)."""
    # Yours: to a map, convolve each channel, back to tokens.
    images = tokens.mT.unflatten(2, grid)
    return F.conv2d(images, weight, padding=1, groups=len(weight)).flatten(2).mT


def reach(blocks: int, kernel: int) -> int:
    """How many patches one token's output depends on along one axis: 1 for no block, 3 for one of 3 x 3."""
    # Yours: each block adds half a kernel on either side.
    return 1 + blocks * (kernel - 1)


def attention_share(n: int, d: int) -> float:
    """The share of 2 n² d in all multiply-adds of a block, 12 n d² + 2 n² d."""
    # Yours: a fraction.
    return 2 * n**2 * d / (12 * n * d**2 + 2 * n**2 * d)
