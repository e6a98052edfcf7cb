"""LoRA: train a low-rank update of each linear layer in the blocks, and leave its own weight as it is.

    y = W x + b + (α / r) B A x

Hu et al. 2021, "LoRA", §4.1. A is random and B zero, so that training starts at the model as it was. α stays the same
for all ranks, so that another rank needs no other learning rate.

Axes:  i inputs   o outputs   r rank
"""

from copy import deepcopy
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.training.optim import block_names

ALPHA = 16.0

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class LowRankLinear(nn.Linear):
    """A linear layer with its low-rank update; `weight` and `bias` are the layer's own tensors, under the same names.

    `lora_a` (r, i) is uniform within ±1/√i, as in Hu et al.'s code and in peft; `lora_b` (o, r) is zero.
    """

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator):
        nn.Module.__init__(self)  # nn.Linear's own would draw a weight
        self.in_features, self.out_features, self.scale = layer.in_features, layer.out_features, ALPHA / rank
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(layer, name))
        drawn = (2 * torch.rand(rank, layer.in_features, generator=generator) - 1) / layer.in_features**0.5
        self.lora_a = nn.Parameter(drawn.to(layer.weight))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain linear layer that computes the same."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        update = self.scale * (self.lora_b.double() @ self.lora_a.double())
        layer.weight = nn.Parameter((self.weight.double() + update).to(self.weight))
        layer.bias = None if self.bias is None else nn.Parameter(self.bias.clone())
        return layer


def add_low_rank_updates(model: nn.Module, rank: int, seed: int) -> list[str]:
    """Give each linear layer in the blocks an update of this rank; the names of these layers.

    Which parameters are trained stays as it is. Raises `ConfigError`, and changes nothing, if no block has a linear
    layer, or if one has a layer whose weight is used without calling the layer.
    """
    blocks = block_names(model)
    inside = {
        f"{block}.{name}".removesuffix("."): part
        for block in blocks
        for name, part in model.get_submodule(block).named_modules(remove_duplicate=False)
    }
    for name, part in inside.items():
        if isinstance(part, nn.MultiheadAttention) or (isinstance(part, nn.Linear) and type(part) is not nn.Linear):
            raise ConfigError(
                f"LoRA changes layers of type nn.Linear; {name} is a {type(part).__name__}, which may compute "
                "something else. Use --adapt full or --adapt probe."
            )
    layers = {name: part for name, part in inside.items() if isinstance(part, nn.Linear)}
    if not layers:
        raise ConfigError(
            f"LoRA changes the linear layers in a model's blocks, and the blocks of this {type(model).__name__} have "
            "none. Use --adapt full or --adapt probe."
        )
    uses = [id(part.weight) for part in model.modules() if isinstance(getattr(part, "weight", None), Tensor)]
    generator = torch.Generator().manual_seed(seed)
    made: dict[int, LowRankLinear] = {}
    for name, layer in layers.items():
        if uses.count(id(layer.weight)) > 1:
            raise ConfigError(
                f"LoRA cannot merge an update into {name}: another layer has the same weight. Use --adapt full."
            )
    for name, layer in layers.items():  # a layer that is called at two places has one update
        owner, _, own = name.rpartition(".")
        if id(layer) not in made:
            made[id(layer)] = LowRankLinear(layer, rank, generator)
        setattr(model.get_submodule(owner), own, made[id(layer)])
    return list(layers)


def merged(model: AnyModule) -> AnyModule:
    """A plain model that computes the same, with the keys that it had before; the model itself without updates."""
    if not any(isinstance(part, LowRankLinear) for part in model.modules()):
        return model
    plain = deepcopy(model)
    layers: dict[int, nn.Linear] = {}
    for name, part in list(plain.named_modules(remove_duplicate=False)):
        if isinstance(part, LowRankLinear):
            owner, _, own = name.rpartition(".")
            setattr(plain.get_submodule(owner), own, layers.setdefault(id(part), part.merged().train(part.training)))
    return plain.requires_grad_(True)
