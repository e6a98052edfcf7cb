"""A mask, weights or queries that the model changes after it has used them: what is shown is what was used."""

import pytest
import torch
import torch.nn.functional as F

import vitral
from handmade import Attention, Plain, made
from vitral.base.errors import WatchError


class Masked(Attention):
    """Fused, with a mask for all blocks that each changes after use, as where tokens are pruned block by block."""

    def __init__(self, change):
        super().__init__()
        self.change, self.mask, self.truth = change, None, None

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        self.truth = (q @ k.mT / 2 + self.mask).softmax(-1).detach()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask).transpose(1, 2).flatten(2)
        self.change(self.mask)
        return out


class Pruned(Plain):
    def __init__(self, change):
        super().__init__()
        for block in self.blocks:
            block.attention = Masked(change)

    def through(self, x):
        mask = torch.zeros(len(x), 1, 1, x.shape[1])
        for block in self.blocks:
            block.attention.mask = mask
            x = block(x)
        return x


CHANGES = {
    "pruned": lambda mask: mask[..., 1:3].fill_(-torch.inf),
    "softened": lambda mask: mask[..., 1:3].sub_(3),
    "halved": lambda mask: mask.add_(torch.arange(mask.shape[-1]) / 4),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("graph", [False, True], ids=["without a graph", "with one"])
def test_a_mask_is_that_of_its_block(name, graph):
    model = made(Pruned, CHANGES[name])
    images = torch.randn(2, 3, 16, 24)
    with torch.set_grad_enabled(graph), vitral.watch(model, rows="all") as seen:
        model(images)
    for number, (layer, block) in enumerate(zip(seen.layers, model.blocks, strict=True)):
        if graph and number == 0:
            with pytest.raises(WatchError, match="changed its weights, or what they are formed of, in place"):
                layer.weights()
        elif not graph:
            assert torch.allclose(layer.weights(), block.attention.truth, atol=1e-6)


class Overwritten(Attention):
    def __init__(self, overwrite):
        super().__init__()
        self.overwrite, self.truth = overwrite, None

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        weights = self.weights(q, k)
        self.truth = weights.detach().clone()
        out = (weights @ v).transpose(1, 2).flatten(2)
        self.overwrite(weights)
        return out


class Overwriting(Plain):
    def __init__(self, overwrite):
        super().__init__()
        for block in self.blocks:
            block.attention = Overwritten(overwrite)


OVERWRITING = {
    "detached": lambda weights: weights.detach().zero_(),
    "data": lambda weights: weights.data.mul_(0.5),
    "nothing": lambda weights: None,
}


@pytest.mark.parametrize("name", OVERWRITING)
@pytest.mark.parametrize("graph", [False, True], ids=["without a graph", "with one"])
def test_weights_are_those_of_the_product_or_refused(name, graph):
    model = made(Overwriting, OVERWRITING[name])
    with torch.set_grad_enabled(graph), vitral.watch(model, rows="all") as seen:
        model(torch.randn(2, 3, 16, 24))
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        if graph and name != "nothing":
            with pytest.raises(WatchError, match=r"Watch it within torch\.no_grad\(\), where copies are kept"):
                layer.weights()
        else:
            assert torch.equal(layer.weights(), block.attention.truth)
