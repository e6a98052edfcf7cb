"""Station 10: attention maps, rollout, and when they mislead.

    weights of a block (b, heads, n, n)      row 0: what the class token takes from every token
    map        row 0, the mean over heads, without column 0 (CLS itself), as (rows, columns) of patches
    rollout    R = Â_L ... Â_2 Â_1           Â = (A + 1) / 2, A: the mean over heads, 1: the identity

A map of one block says what the class token took there. But a patch has by then been mixed with others. Rollout follows
the mixing back to the images. It assumes that half of each block's output is what went past it, hence the identity, and
leaves the MLPs out. Every later block reads what earlier ones mixed, hence the product, the last block leftmost.

Both say where information could flow, not what the answer hangs on: no values, no classes, no gradients are in them.
The third function, `occlusion`, asks the model itself: what is lost of the answer's probability when a patch is covered
with zeros. Zero is the mean colour of a normalised image.

`torch.eye(n, dtype=...)` is the identity, `x.unflatten(axis, (rows, columns))` splits an axis, `x.clone()` is a copy.
A model gives logits: the softmax is yours. `p.gather(1, answer)` takes from p (b, classes) one class for each image,
where answer is (b, 1).

Before you write: two blocks. In the first, every token takes everything from itself; in the second, the class token
takes everything from patch 7. What is the rollout's row of the class token?
    a  patch 7: 1        b  patch 7: a half, CLS: a half        c  even over all
"""

import torch
from torch import Tensor, nn

prediction = ""  # "a", "b" or "c"


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    # Yours: the class token's row, the mean over heads, only patches, as a map.
    return weights[:, :, 0, 1:].mean(dim=1).unflatten(1, grid)


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, the first first -> (b, n, n): row i says what token i is mixed of."""
    # Yours: the product of (A + 1) / 2 over the blocks.
    n = layers[0].shape[-1]
    mixed = torch.eye(n, dtype=layers[0].dtype)
    for weights in layers:
        mixed = (weights.mean(dim=1) + torch.eye(n, dtype=weights.dtype)) / 2 @ mixed
    return mixed


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """For each patch, by how much the answer's probability falls when it is set to zero: (b, rows, columns).

    The answer is the class of the highest logit of the whole image.
    """
    # Yours: two loops over rows and columns; a copy of the images for each, so that the next starts whole.
    before = model(images).softmax(dim=-1)
    answer = before.argmax(dim=-1, keepdim=True)
    rows, columns = images.shape[2] // patch_size, images.shape[3] // patch_size
    lost = torch.zeros(len(images), rows, columns, dtype=images.dtype)
    for row in range(rows):
        for column in range(columns):
            covered = images.clone()
            covered[
                :,
                :,
                row * patch_size : (row + 1) * patch_size,
                column * patch_size : (column + 1) * patch_size,
            ] = 0
            after = model(covered).softmax(dim=-1)
            lost[:, row, column] = (before.gather(1, answer) - after.gather(1, answer))[:, 0]
    return lost
