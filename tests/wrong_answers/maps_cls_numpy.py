"""cls_map goes through NumPy, ready for drawing: it returns an array, without gradients, instead of a tensor.
Shows for every input by its type; the numbers are right."""

import torch
from torch import Tensor


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
