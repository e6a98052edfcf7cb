"""A caption that says why the readout tokens are assumed says what is so."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from plain_vit import ViT, made
from vitral import explain

NO_GRADIENT = "no gradient of the output reaches"


class Windowed(ViT):
    """Windows of 2 x 2, whose blocks run as modules, or whose parts the model calls itself."""

    def __init__(self, by_parts: bool):
        super().__init__(has_cls=False)
        self.by_parts = by_parts

    def through(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            y = rearrange(x, "b (y p x q) d -> (b y x) (p q) d", y=2, x=2, p=2)
            if self.by_parts:
                q, k, v = block.split(y)
                y = block.proj(rearrange(block.attend(q, k, v), "b h n e -> b n (h e)"))
            else:
                y = block(y)
            x = x + rearrange(y, "(b y x) (p q) d -> b (y p x q) d", y=2, x=2, p=2)
        return x


class Whole(Windowed):
    def through(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            q, k, v = block.split(x)
            x = x + block.proj(rearrange(block.attend(q, k, v), "b h n e -> b n (h e)"))
        return x


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", [Windowed(True), Windowed(False), Whole(True)])
@pytest.mark.parametrize("query", ["mean", "first"])
def test_no_caption_denies_a_gradient(model, query, images):
    model.read = lambda x: model.head(x.mean(1) if query == "mean" else x[:, 0])
    for method in (explain.attention, explain.attention_gradient):
        assert NO_GRADIENT not in method(made(model), images).caption


@pytest.mark.parametrize("model", [ViT(has_cls=False), Windowed(False)])
def test_a_zero_head_has_no_gradient(model, images):
    torch.nn.init.zeros_(model.head.weight)
    assert NO_GRADIENT in explain.attention(made(model), images).caption


def test_without_blocks_it_is_not_said_that_none_reaches_the_tokens(images):
    model = Whole(True)
    torch.nn.init.zeros_(model.head.weight)
    caption = explain.attention(made(model), images).caption
    assert "no block of the model returns them" in caption
    assert f"{NO_GRADIENT} what its last attention returned" in caption
