"""Whoever follows the advice of a refusal gets a map."""

import ast
import re

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain
from vitral.base.errors import UsageError


class Experts(nn.Module):
    """Soft mixture of experts (Puigcerver et al. 2024, "From Sparse to Soft Mixtures of Experts", §2.1)."""

    def __init__(self, experts: int = 2, slots: int = 2):
        super().__init__()
        self.phi = nn.Parameter(torch.randn(16, experts, slots))
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("bnd,des->bnes", x, self.phi)
        slots = torch.einsum("bnd,bnes->besd", x, scores.softmax(1))
        slots = torch.stack([expert(slots[:, number]) for number, expert in enumerate(self.experts)], 1)
        return torch.einsum("besd,bnes->bnd", slots, scores.flatten(2).softmax(-1).view_as(scores))


class Latents(nn.Module):
    """Few learned tokens collect the patches and hand them back (Jaegle et al. 2021, "Perceiver")."""

    def __init__(self, heads: int = 1):
        super().__init__()
        self.heads, self.own = heads, nn.Parameter(torch.randn(1, 5, 16))

    def forward(self, x: Tensor) -> Tensor:
        own = self.own.expand(len(x), -1, -1)
        own = own + (own @ x.mT / 4).softmax(-1) @ x
        q, k = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (x, own))
        return ((q @ k.mT / 4).softmax(-1) @ k).transpose(1, 2).flatten(2)


class Mixed(ViT):
    def __init__(self, *blocks: nn.Module):
        super().__init__(has_cls=False)
        self.blocks = nn.ModuleList(blocks)


MODELS = [
    Mixed(Attention(), Experts()),
    Mixed(Attention(), Experts(), Attention(), Experts(3, 1)),
    Mixed(Attention(), Latents()),
    Mixed(Attention(16, 4), Attention(16, 2), Latents(2)),
]


@pytest.mark.parametrize("model", MODELS)
def test_advice_is_not_refused_in_turn(model):
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(UsageError, match="places in the image are not known") as refusal:
        explain.attention(made(model), images)
    choices = [ast.literal_eval(one) for one in re.findall(r"layers=(\[\d[^]]*\])", str(refusal.value))]
    assert choices
    for layers in choices:
        assert explain.attention(model, images, layers=layers).values.any()
    # Together, the choices are all layers whose tokens are known.
    with torch.no_grad():
        known = explain.observe(model, images)
    for number in {*range(len(known.layers))}.difference(*choices):
        with pytest.raises(UsageError, match="places in the image are not known"):
            _ = known.layers[number].tokens
