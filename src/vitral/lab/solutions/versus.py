"""Station 12: ViT against CNN.

    mixing      attention: a weighted mean of all tokens, with weights computed from the tokens
                depthwise convolution: a sum over 3 x 3 patches, with learned weights, the same at every position
    reach       attention: all patches at once; convolutions of 3 x 3: one patch further with every block
    cost        of a block for n tokens of width d, in multiply-adds: 12 n d² for its linear layers (MLP of 4 d)
                and 2 n² d for attention's products of tokens with tokens

Replace attention by a convolution and keep everything else: then any difference comes from that part. You write the
convolution for tokens, the reach of a stack of blocks, and attention's share of the cost of a block.

Tokens (b, n, d) become a feature map (b, d, rows, columns), each channel is convolved by itself
(`F.conv2d(..., padding=1, groups=d)`, with zeros beyond the edge), and the feature map becomes tokens again.
`x.flatten(axis)` joins axes; `x.unflatten(axis, (rows, columns))` splits one.

Before you write: ViT-B/16 at 224 pixels, n = 197, d = 768. What share of a block's multiply-adds is the n² part?
    a  nearly all        b  31%        c  4%
"""

import torch.nn.functional as F
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Patch tokens (b, rows x columns, d) and a kernel (d, 1, 3, 3) -> tokens (b, rows x columns, d)."""
    # Yours: to a feature map, convolve each channel, back to tokens.
    images = tokens.mT.unflatten(2, grid)
    return F.conv2d(images, weight, padding=1, groups=len(weight)).flatten(2).mT


def reach(blocks: int, kernel: int) -> int:
    """Return on how many patches along one axis a token depends: 1 without a block, 3 after one of 3 x 3."""
    # Yours: each block adds half a kernel on either side.
    return 1 + blocks * (kernel - 1)


def attention_share(n: int, d: int) -> float:
    """Return the share of 2 n² d in all multiply-adds of a block, 12 n d² + 2 n² d."""
    # Yours: the fraction.
    return 2 * n**2 * d / (12 * n * d**2 + 2 * n**2 * d)
