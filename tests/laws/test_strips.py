"""Whole rows or columns of an image as tokens, as in notebooks on digits: the grid has one column, or one row."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import ViT, made
from tiny import see_attention
from vitral import explain


class Strips(ViT):
    """`per` rows of the image in each token, or columns."""

    def __init__(self, per: int, are_columns: bool, has_cls: bool):
        super().__init__(has_cls=has_cls)
        self.per, self.are_columns = per, are_columns
        self.patch = nn.Linear(28 * per, 16)
        self.pos = nn.Parameter(torch.randn(1, 28 // per + has_cls, 16))

    def tokens(self, images: Tensor) -> Tensor:
        x = images.mean(1)
        x = self.patch((x.mT if self.are_columns else x).unflatten(1, (-1, self.per)).flatten(2))
        return (torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) if self.has_cls else x) + self.pos


@pytest.mark.parametrize("per", [1, 2, 7])
@pytest.mark.parametrize("are_columns", [False, True])
@pytest.mark.parametrize("has_cls", [False, True])
def test_strips_have_their_places(per, are_columns, has_cls):
    torch.manual_seed(0)
    model, images = made(Strips(per, are_columns, has_cls)), torch.randn(2, 1, 28, 28)
    number = 28 // per
    for layer in see_attention(model, images).layers:
        assert layer.tokens.grid == ((1, number) if are_columns else (number, 1))
        assert layer.tokens.patch_tokens == tuple(range(has_cls, number + has_cls))
    assert explain.attention(model, images).grid == layer.tokens.grid
    assert explain.occlusion(model, images[:1]).grid == layer.tokens.grid
