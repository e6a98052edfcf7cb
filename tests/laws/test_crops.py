"""A model that leaves out a margin of its images has another grid than they have: its places are refused."""

import pytest
import torch
from torch import nn

from handmade import Attention, Plain
from tiny import redraw, see_attention
from vitral.base.errors import UsageError


class Cropping(Plain):
    """Cuts so many rows or columns off each side, in the order above, below, left, right."""

    def __init__(self, cut, size):
        above, below, left, right = cut
        super().__init__((size[0] - above - below, size[1] - left - right))
        self.cut = cut

    def forward(self, images):
        above, below, left, right = self.cut
        height, width = images.shape[2:]
        return super().forward(images[:, :, above : height - below, left : width - right])


CUTS = {
    "both sides": (0, 0, 8, 8),
    "left": (0, 0, 8, 0),
    "right": (0, 0, 0, 8),
    "above": (8, 0, 0, 0),
    "below": (0, 8, 0, 0),
    "all": (8, 8, 8, 8),
    "half a patch": (0, 0, 4, 4),
    "a quarter of a patch": (0, 0, 2, 2),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_margin_that_is_not_seen_is_refused(name):
    above, below, left, right = CUTS[name]
    size = (32 + above + below, 32 + left + right)
    layer = see_attention(redraw(Cropping(CUTS[name], size)), torch.randn(1, 3, *size)).layers[0]
    with pytest.raises(UsageError, match=r"only a part of the image|places in the image are not known"):
        _ = layer.tokens


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (32, 48), (64, 32)])
def test_a_model_that_sees_all_is_not_refused(size):
    layer = see_attention(redraw(Plain(size)), torch.randn(1, 3, *size)).layers[0]
    assert layer.tokens.grid == (size[0] // 8, size[1] // 8)


class Stem(nn.Module):
    """Overlapping convolutions without padding, which leave out a pixel at most."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 4, 4)

    def forward(self, images):
        return self.second(self.first(images).relu())


def test_an_overlapping_stem_sees_all():
    model = Plain((32, 48))
    model.patch = Stem()
    layer = see_attention(redraw(model), torch.randn(1, 3, 32, 48)).layers[0]
    assert layer.tokens.grid == (4, 6)


class Cached(Attention):
    """The upper half of the patches attends to itself, then the lower half to all, as with a cache of keys."""

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        half = x.shape[1] // 2
        upper = self.weights(q[:, :, :half], k[:, :, :half]) @ v[:, :, :half]
        return torch.cat([upper, self.weights(q[:, :, half:], k) @ v], 2).transpose(1, 2).flatten(2)


class InBands(Plain):
    def __init__(self):
        super().__init__((16, 32))
        for block in self.blocks:
            block.attention = Cached()

    def embedded(self, images):
        return self.patch(images).flatten(2).mT + self.place[:, 1:]

    def read(self, x):
        return self.head(x.mean(1))


def test_a_call_with_a_part_of_the_patches_is_no_crop():
    upper, every, *_ = see_attention(redraw(InBands()), torch.randn(2, 3, 16, 32)).layers
    with pytest.raises(UsageError, match="Only 4 of 8 patches change a token of"):
        _ = upper.tokens
    assert list(every.tokens.patch_tokens) == list(range(8))
