"""Which optimizer updates each parameter, with which weight decay, and at which learning rate over a run.

Muon (Jordan et al. 2024) makes each update of a weight matrix orthogonal, so that all its directions learn equally
fast. It updates the matrices inside the blocks; AdamW (Loshchilov & Hutter 2019) updates embeddings, position tables,
norms, biases and the head. AdamW updates the factors of a low-rank update, too: an orthogonal step of each factor is
not an orthogonal step of their product.
"""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vitral.training.recipe import Recipe

MUON_TO_ADAMW = 10.0  # ratio of the two learning rates, from the trials in benchmarks/
# The same for the factors of low-rank updates, from single runs with 2,000 validation images. On five classes of
# Fashion-MNIST (1,000 images, 10 epochs) factors and head at 1, 3 and 10 times the rate gave 83.3, 84.9 and 87.1 %, the
# factors alone at 10 times 87.6 %; full fine-tuning 88.0 %. Factors at 30 times, the head at 3, fell to 34.8 %. On
# shapes (1,000 images, 6 epochs), factors and head at 1, 3 and 10 times: 19.0, 19.0 and 18.0 %, which do not differ.
LOW_RANK_TO_ADAMW = 10.0


def optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW alone, or Muon and AdamW; each trainable parameter is in exactly one group of one of them."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = {name: p for name, p in trained.items() if is_weight_matrix(model, name)}
    alone = recipe.optimizer == "adamw"
    inner = {
        name: p
        for name, p in matrices.items()
        if not alone and p.ndim == 2 and not is_outer(model, name) and not is_low_rank(name)
    }
    low_rank = {name: p for name, p in trained.items() if is_low_rank(name)}
    outer = {name: p for name, p in trained.items() if name not in inner and name not in low_rank}
    fractions = layer_fractions(model, recipe.layer_decay)
    blocks = groups(inner, matrices, fractions, recipe.lr * MUON_TO_ADAMW, recipe.weight_decay)
    rest = groups(outer, matrices, fractions, recipe.lr, recipe.weight_decay)
    rest += groups(low_rank, matrices, fractions, recipe.lr * LOW_RANK_TO_ADAMW, recipe.weight_decay)
    muon = torch.optim.Muon(blocks) if blocks else None
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.99 if alone else 0.95), fused=True) if rest else None
    return [optimizer for optimizer in (muon, adamw) if optimizer]


def layer_fractions(model: nn.Module, decay: float) -> dict[str, float]:
    """Each parameter's fraction of the learning rate: 1 for the head, times `decay` for each block below it.

    Clark et al. 2020, "ELECTRA", §3.1 and appendix A; for ViTs, Bao et al. 2022, "BEiT", appendix H. What comes before
    the first block counts as one more layer; what stands between two blocks counts as part of the second. The decoder
    of a segmenter is its head.
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
    """The modules of each `ModuleList` that have no `ModuleList` inside: the blocks, whatever the model is.

    A model without any may have its blocks in an `nn.Sequential`. A segmenter's decoder has none: it is its head.
    """
    own = {name: part for name, part in model.named_modules() if not name.startswith("decoder.")}
    return innermost(own, lambda part: isinstance(part, nn.ModuleList)) or innermost(own, is_sequence_of_blocks)


def innermost(modules: Mapping[str, nn.Module], is_list: Callable[[nn.Module], bool]) -> list[str]:
    """The names of the children of each list among these modules, but for those with a list inside."""
    return [
        f"{name}.{number}".removeprefix(".")
        for name, part in modules.items()
        if is_list(part)
        for number, child in part.named_children()
        if not any(is_list(inner) for inner in child.modules())
    ]


def is_sequence_of_blocks(part: nn.Module) -> bool:
    """Whether this is an `nn.Sequential` of several modules of one type, each with parts of its own."""
    children = list(part.children())
    alike = len({type(child) for child in children}) == 1 and all(any(child.children()) for child in children)
    return isinstance(part, nn.Sequential) and len(children) > 1 and alike


def is_weight_matrix(model: nn.Module, name: str) -> bool:
    """Whether this is the weight of a linear layer or a convolution, not a bias, norm, position table or token.

    So are the factors of a low-rank update: their weight decay draws the layer back to the one that was trained before.
    """
    if is_low_rank(name):
        return True
    owner, _, kind = name.rpartition(".")
    module = model.get_submodule(owner)
    if isinstance(module, nn.MultiheadAttention):
        return kind == "in_proj_weight"
    return kind == "weight" and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def is_low_rank(name: str) -> bool:
    """Whether this is a factor of a low-rank update; see `vitral.training.lora`."""
    return name.endswith((".lora_a", ".lora_b"))


def is_outer(model: nn.Module, name: str) -> bool:
    """Whether a matrix reads the pixels or gives the logits: the first or the last weight matrix of the model."""
    matrices = [other for other, _ in model.named_parameters() if is_weight_matrix(model, other)]
    return name in (matrices[0], matrices[-1])


def groups(
    parameters: Mapping[str, nn.Parameter],
    decayed: Container[str],
    fractions: Mapping[str, float],
    lr: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """An optimizer's parameter groups: one per learning rate and weight decay, which only weight matrices have."""
    found: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        found.setdefault((name not in decayed, fractions[name]), []).append(parameter)
    return [
        dict(params=found[key], lr=lr * key[1], weight_decay=0.0 if key[0] else weight_decay) for key in sorted(found)
    ]


def schedule(step: int, total: int, warmup: float) -> float:
    """The fraction of the peak learning rate at a step in 0..total-1: it rises linearly, then falls along a cosine."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, total - rising)))


def set_lr(optimizers: Sequence[torch.optim.Optimizer], fraction: float) -> None:
    """Set each group to a fraction of its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * fraction
