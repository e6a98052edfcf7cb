"""Station 10: attention maps, rollout and occlusion.

    weights of a block (b, heads, n, n)      row 0: how much the class token attends to every token
    map        row 0, the mean over heads, without column 0 (CLS itself), as (rows, columns) of patches
    rollout    R = Â_L ... Â_2 Â_1           Â = (A + 1) / 2, A: the mean over heads, 1: the identity

An attention map of one block shows what the class token attends to in that block. But by then each patch is already a
mixture with others. Rollout follows the mixing back to the patches of the image. It assumes that half of each block's
output is the residual stream, hence the identity, and ignores the MLPs. Every later block mixes what earlier ones
mixed, hence the product, with the last block leftmost.

Both show where information could flow, not what the prediction depends on: they use no values, classes or gradients.
The third function, `occlusion`, tests that: it covers a patch with zeros and measures how much probability the
predicted class loses. Zero is the mean colour of a normalised image.

`torch.eye(n, dtype=...)` is the identity, `x.unflatten(axis, (rows, columns))` splits an axis, `x.clone()` is a copy.
A model returns logits: apply the softmax yourself. `p.gather(1, answer)` takes one class for each image from
p (b, classes), where answer is (b, 1).

Before you write: there are two blocks. In the first, every token attends only to itself; in the second, the class token
attends only to patch 7. What is the rollout's row of the class token?
    a  patch 7: 1        b  patch 7: 1/2, CLS: 1/2        c  the same for all
"""

import torch
from torch import Tensor, nn

prediction = ""  # "a", "b" or "c"


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    # Yours: the class token's row, the mean over heads, the patches only, as rows and columns.
    return weights[:, :, 0, 1:].mean(dim=1).unflatten(1, grid)


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, in order -> (b, n, n): row i is the mixture that token i consists of."""
    # Yours: the product of (A + 1) / 2 over the blocks.
    n = layers[0].shape[-1]
    mixed = torch.eye(n, dtype=layers[0].dtype)
    for weights in layers:
        mixed = (weights.mean(dim=1) + torch.eye(n, dtype=weights.dtype)) / 2 @ mixed
    return mixed


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """Return how much the probability of the predicted class falls when a patch is set to zero: (b, rows, columns).

    The predicted class is that of the highest logit of the whole image.
    """
    # Yours: two loops over rows and columns, with a fresh copy of the images for each patch.
    before = model(images).softmax(dim=-1)
    answer = before.argmax(dim=-1, keepdim=True)
    rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
    lost = torch.zeros(len(images), rows, columns, dtype=images.dtype)
    for row in range(rows):
        for column in range(columns):
            covered, top, left = images.clone(), row * patch_size, column * patch_size
            covered[:, :, top : top + patch_size, left : left + patch_size] = 0
            after = model(covered).softmax(dim=-1)
            lost[:, row, column] = (before.gather(1, answer) - after.gather(1, answer))[:, 0]
    return lost
