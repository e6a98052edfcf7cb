"""cls_map goes through NumPy, ready for drawing: it returns an array, without gradients, instead of a tensor.
Shows for every input by its type; the numbers are right."""

import torch
from torch import Tensor, nn

prediction = "b"


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    from_cls = weights.detach().cpu().numpy()[:, :, 0, 1:]
    return from_cls.mean(axis=1).reshape(-1, *grid)


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, the first first -> what each token is mixed of (b, n, n)."""
    heads_mean = [layer.mean(dim=1) for layer in layers]
    n = heads_mean[0].shape[-1]
    total = torch.eye(n, dtype=heads_mean[0].dtype).expand_as(heads_mean[0])
    for m in heads_mean:
        total = torch.matmul((m + torch.eye(n, dtype=m.dtype)) / 2, total)
    return total


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """For each patch, by how much the answer's probability falls when it is set to zero: (b, rows, columns).

    The answer is the class of the highest logit of the whole image.
    """
    probabilities = torch.softmax(model(images), dim=-1)
    confidence, winner = probabilities.max(dim=-1)
    b, _, height, width = images.shape
    loss = torch.zeros(b, height // patch_size, width // patch_size, dtype=images.dtype)
    for i in range(height // patch_size):
        for j in range(width // patch_size):
            keep = torch.ones_like(images)
            keep[:, :, i * patch_size : (i + 1) * patch_size, j * patch_size : (j + 1) * patch_size] = 0
            new = torch.softmax(model(images * keep), dim=-1)
            loss[:, i, j] = confidence - new[torch.arange(b), winner]
    return loss
