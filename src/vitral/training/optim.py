"""Which parameters decay, which optimiser moves them, and how fast over a run.

Muon (Jordan et al. 2024) makes each update of a weight matrix orthogonal, so that all its directions learn alike. It is
for the matrices inside the blocks; embeddings, tables, norms, biases and the head stay with AdamW (Loshchilov & Hutter
2019).
"""

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vitral.training.recipe import Recipe

MUON_TO_ADAMW = 10.0  # ratio of the two learning rates; settled by the trials in benchmarks/


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One optimiser, or Muon and AdamW; each parameter is in exactly one group."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = {name: p for name, p in trained.items() if is_weight_matrix(model, name)}
    inner = {name: p for name, p in matrices.items() if p.ndim == 2 and not is_outer(model, name)}
    fractions = layer_fractions(model, recipe.layer_decay)
    if recipe.optimizer == "adamw":
        every = groups(trained, matrices, fractions, recipe.lr, recipe.weight_decay)
        return [torch.optim.AdamW(every, betas=(0.9, 0.99), fused=True)]
    outer = {name: p for name, p in trained.items() if name not in inner}
    blocks = groups(inner, matrices, fractions, recipe.lr * MUON_TO_ADAMW, recipe.weight_decay)
    rest = groups(outer, matrices, fractions, recipe.lr, recipe.weight_decay)
    muon = torch.optim.Muon(blocks) if blocks else None
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.95), fused=True) if rest else None
    return [optimizer for optimizer in (muon, adamw) if optimizer]


def layer_fractions(model: nn.Module, decay: float) -> dict[str, float]:
    """The fraction of the learning rate that each parameter has: 1 for the head, less by `decay` for each block below.

    Clark et al. 2020, "ELECTRA", §3.1 and appendix A; for ViTs, Bao et al. 2022, "BEiT", appendix H. What comes before
    the first block counts as one layer more, as does what stands between two blocks with the second of them.
    """
    blocks = [f"{name}." for name in block_names(model)]
    reached, layers = 0, {}
    for name, _ in model.named_parameters():
        within = next((place for place, prefix in enumerate(blocks, 1) if name.startswith(prefix)), None)
        after = within is None and reached == len(blocks)
        reached = within or reached
        layers[name] = len(blocks) + 1 if after else reached
    top = max(layers.values(), default=0)
    return {name: decay ** (top - layer) for name, layer in layers.items()}


def block_names(model: nn.Module) -> list[str]:
    """The parts that follow each other in a list, and have no such list within."""
    lists = {name: part for name, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    return [
        f"{name}.{number}"
        for name, part in lists.items()
        for number, child in part.named_children()
        if not any(isinstance(inner, nn.ModuleList) for inner in child.modules())
    ]


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
    parameters: Mapping[str, nn.Parameter],
    decayed: Container[str],
    fractions: Mapping[str, float],
    lr: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """An optimiser's groups: weight matrices decay, everything else does not; those of a layer learn alike."""
    found: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        found.setdefault((name not in decayed, fractions[name]), []).append(parameter)
    return [
        dict(params=found[key], lr=lr * key[1], weight_decay=0.0 if key[0] else weight_decay) for key in sorted(found)
    ]


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
