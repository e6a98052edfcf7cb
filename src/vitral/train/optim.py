"""Which parameters decay, which optimiser moves them, and how fast over a run.

Muon (Jordan et al. 2024) makes each update of a weight matrix orthogonal, so that all its directions learn alike. It is
for the matrices inside the blocks; embeddings, tables, norms, biases and the head stay with AdamW (Loshchilov & Hutter
2019).
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from vitral.train.recipe import Recipe

MUON_TO_ADAMW = 10.0  # ratio of the two learning rates; settled by the trials in benchmarks/


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One optimiser, or Muon and AdamW; each parameter is in exactly one group."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = {name: p for name, p in trained.items() if is_weight_matrix(model, name)}
    fused = {"fused": True}
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW(groups(trained, matrices, recipe), betas=(0.9, 0.99), **fused)]
    inner = {name: p for name, p in matrices.items() if p.ndim == 2 and not is_outer(model, name)}
    outer = {name: p for name, p in trained.items() if name not in inner}
    muon = (
        torch.optim.Muon(list(inner.values()), lr=recipe.lr * MUON_TO_ADAMW, weight_decay=recipe.weight_decay)
        if inner
        else None
    )
    adamw = torch.optim.AdamW(groups(outer, matrices, recipe), betas=(0.9, 0.95), **fused) if outer else None
    return [optimizer for optimizer in (muon, adamw) if optimizer]


def is_weight_matrix(model: nn.Module, name: str) -> bool:
    """The weight of a linear map or a convolution, as opposed to a bias, a norm, a table or a learned token."""
    owner, _, kind = name.rpartition(".")
    module = model.get_submodule(owner)
    if isinstance(module, nn.MultiheadAttention):
        return kind == "in_proj_weight"
    return kind == "weight" and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def is_outer(model: nn.Module, name: str) -> bool:
    """Whether a matrix touches the pixels or the classes: the first and the last of the model's."""
    matrices = [other for other, _ in model.named_parameters() if is_weight_matrix(model, other)]
    return name in (matrices[0], matrices[-1])


def groups(
    parameters: dict[str, nn.Parameter], decayed: dict[str, nn.Parameter], recipe: Recipe
) -> list[dict[str, object]]:
    """AdamW's two groups: weight matrices decay, everything else does not."""
    decay = [p for name, p in parameters.items() if name in decayed]
    rest = [p for name, p in parameters.items() if name not in decayed]
    both = ((decay, recipe.weight_decay), (rest, 0.0))
    return [dict(params=params, lr=recipe.lr, weight_decay=value) for params, value in both if params]


def schedule(step: int, total: int, warmup: float) -> float:
    """The fraction of the peak learning rate at a step in 0..total-1: up a line, then down a cosine to zero."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, total - rising)))


def set_lr(optimizers: Sequence[torch.optim.Optimizer], fraction: float) -> None:
    """Set each group to a fraction of the learning rate it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * fraction
