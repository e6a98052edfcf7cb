"""Rollout multiplies the blocks head by head and takes the mean over heads of the products, not of each block.
Shows for two or more blocks with two or more heads; one block or one head is right."""

import torch
from torch import Tensor, nn


def cls_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Weights (b, heads, 1 + n, 1 + n) of one block -> maps (b, rows, columns)."""
    row = weights.mean(dim=1)[:, 0, 1:]
    return row.reshape(row.shape[0], grid[0], grid[1])


def rollout(layers: list[Tensor]) -> Tensor:
    """Weights (b, heads, n, n) of each block, the first first -> what each token is mixed of (b, n, n)."""
    flow = None
    for attn in layers:
        identity = torch.eye(attn.shape[-1], dtype=attn.dtype, device=attn.device)
        step = 0.5 * attn + 0.5 * identity
        flow = step if flow is None else step @ flow
    return flow.mean(dim=1)


@torch.no_grad()
def occlusion(model: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """For each patch, by how much the answer's probability falls when it is set to zero: (b, rows, columns).

    The answer is the class of the highest logit of the whole image.
    """
    p = patch_size
    start = model(images).softmax(dim=1)
    top = start.argmax(dim=1)
    index = torch.arange(len(images))
    maps = []
    for y in range(0, images.shape[2], p):
        line = []
        for x in range(0, images.shape[3], p):
            hidden = images.clone()
            hidden[:, :, y : y + p, x : x + p] = 0
            now = model(hidden).softmax(dim=1)
            line.append(start[index, top] - now[index, top])
        maps.append(torch.stack(line, dim=1))
    return torch.stack(maps, dim=1)
