"""Where tokens of windows stand is found from what the model did, whatever the sizes, padding and shift."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tiny import see_attention
from vitral.base.errors import UsageError
from vitral.explain import attention, attention_gradient
from vitral.explain.query_maps import query_grid


class Windowed(nn.Module):
    """One layer of attention in windows of its own size, padded and rolled; its tokens are the patches' pixels."""

    def __init__(self, side, shift, roll_first):
        super().__init__()
        self.side, self.shift, self.roll_first = side, shift, roll_first
        self.project, self.qkv, self.head = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 18), nn.Linear(6, 4)

    def forward(self, images):
        x = self.project(images).permute(0, 2, 3, 1)
        rows, columns = x.shape[1:3]

        def roll(x, way):
            return torch.roll(x, (way * self.shift,) * 2, (1, 2)) if self.shift else x

        def pad(x):
            return F.pad(x, (0, 0, 0, -columns % self.side, 0, -rows % self.side))

        x = pad(roll(x, -1)) if self.roll_first else roll(pad(x), -1)
        high, wide = x.shape[1:3]
        cut = x.unflatten(1, (-1, self.side)).unflatten(3, (-1, self.side)).transpose(2, 3)
        q, k, v = self.qkv(cut.flatten(0, 2).flatten(1, 2)).chunk(3, -1)
        made = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        made = made.reshape(*cut.shape).transpose(2, 3).reshape(len(images), high, wide, 6)
        return self.head(made.mean((1, 2)))


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 4), st.integers(0, 1), st.booleans(), st.integers(1, 2))
def test_each_place_is_found_where_it_is(rows, columns, side, shift, roll_first, batch):
    torch.manual_seed(0)
    model = Windowed(side, shift, roll_first)
    images = torch.randn(batch, 3, 2 * rows, 2 * columns)
    seen = see_attention(model, images)
    (layer,) = seen.layers
    if rows == columns == side and not shift:
        assert layer.windows is None and layer.tokens.grid == (side, side)  # one window is the whole image
        return
    assert layer.windows is not None and layer.windows.grid == (rows, columns)
    places = layer.windows.places
    present = places[places >= 0]
    assert sorted(present.tolist()) == list(range(rows * columns))
    tokens = model.project(images).flatten(2)[0]
    given_tokens = model.qkv(tokens.mT).chunk(3, -1)[0]
    q = layer.compute.q[: len(places), 0]
    torch.testing.assert_close(q[places >= 0], given_tokens[present])
    spread = layer.windows.spread(torch.ones(batch * len(places), 1, side * side))
    assert torch.equal(spread, torch.ones(batch, 1, rows * columns))


@pytest.mark.parametrize("written_out", [False, True], ids=["fused", "written out"])
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (2, 2), (5, 7), (7, 7)])
def test_padding_of_one_window_is_not_shown(rows, columns, written_out, monkeypatch):
    """A window of 7 x 7 over fewer tokens, as in the last stage of a Swin whose image is small."""
    if written_out:
        monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: (q @ k.mT / 6**0.5).softmax(-1) @ v)
    model = Windowed(7, 0, True)
    for images in (torch.randn(count, 3, 2 * rows, 2 * columns) for count in (1, 2)):
        seen = see_attention(model, images)
        whole = seen.layers[0].weights()[:, 0].unflatten(2, (7, 7)).unflatten(1, (7, 7))
        real = whole[:, :rows, :columns, :rows, :columns]
        assert (seen.layers[0].windows is None) == (rows == columns == 7)
        maps = attention(model, images)
        expected = real.mean((1, 2))
        np.testing.assert_allclose(maps.merged, expected / expected.mean((1, 2), keepdim=True), rtol=1e-4)
        expected = real[:, 1, 0]
        grid = query_grid(model, images, queries=[(1, 0)])
        np.testing.assert_allclose(grid.values[:, 0], expected / expected.mean((1, 2), keepdim=True), rtol=1e-4)
        assert attention_gradient(model, images).grid == (rows, columns)


def test_a_patch_reads_its_own_window_only():
    model = Windowed(2, 0, True)
    maps = attention(model, torch.randn(1, 3, 8, 12), query=(2, 3))
    inside = maps.values[0, 0, 0] > 0
    assert inside[2:4, 2:4].all() and inside.sum() == 4
    assert maps.values.mean() == pytest.approx(1)
    with pytest.raises(UsageError, match=r"no patch at row 4, column 0: Windowed has rows 0 to 3 and columns 0 to 5"):
        attention(model, torch.randn(1, 3, 8, 12), query=(4, 0))
