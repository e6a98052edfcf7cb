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

prediction = "b"  # "a", "b" or "c"


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    rows, columns = grid
    row = weights.mean(dim=1)[:, 0, 1:]
    return row.reshape(-1, rows, columns)


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, the first first -> what each token is mixed of (b, n, n)."""
    result = None
    for weights in layers:
        a = weights.mean(dim=1)
        identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        a_hat = (a + identity) / 2
        result = a_hat if result is None else a_hat @ result
    return result


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """For each patch, by how much the answer's probability falls when it is set to zero: (b, rows, columns).

    The answer is the class of the highest logit of the whole image.
    """
    b, _, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    before = model(images).softmax(dim=-1)
    answer = before.argmax(dim=-1)  # (b,)
    picked = torch.arange(b, device=images.device)

    falls = torch.zeros(b, rows, columns, dtype=before.dtype, device=images.device)
    for i in range(rows):
        for j in range(columns):
            covered = images.clone()
            y, x = i * patch_size, j * patch_size
            covered[:, :, y : y + patch_size, x : x + patch_size] = 0
            after = model(covered).softmax(dim=-1)
            falls[:, i, j] = before[picked, answer] - after[picked, answer]
    return falls
