"""Windows in models whose patches overlap, so that no place is measured: heads and windows are told apart anyway."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import redraw, see_attention

HEADS, WIDTH, WINDOW = 4, 16, 4


class Nested(nn.Module):
    """Attention in windows, with sequences (b, heads, windows, n, e), or (b, windows, heads, n, e)."""

    def __init__(self, heads_first, fused):
        super().__init__()
        self.heads_first, self.fused = heads_first, fused
        self.norm, self.qkv, self.proj = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.truth = None

    def forward(self, x):  # (b, windows, n, d)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).unbind(3)  # (b, w, n, h, e)
        order = (0, 3, 1, 2, 4) if self.heads_first else (0, 1, 3, 2, 4)
        q, k, v = (one.permute(order) for one in (q, k, v))
        weights = (q @ k.mT / 2).softmax(-1)
        self.truth = weights.transpose(1, 2) if self.heads_first else weights  # (b, w, h, n, m)
        out = F.scaled_dot_product_attention(q, k, v) if self.fused else weights @ v
        back = (0, 2, 3, 1, 4) if self.heads_first else (0, 1, 3, 2, 4)
        return x + self.proj(out.permute(back).flatten(3))


class NestedViT(nn.Module):
    def __init__(self, heads_first, fused, kernel):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, kernel, 4, (kernel - 4 + 1) // 2)
        self.blocks, self.head = nn.ModuleList(Nested(heads_first, fused) for _ in range(2)), nn.Linear(WIDTH, 5)

    def forward(self, images):
        x = self.stem(images)  # (b, d, y, x)
        x = x.unflatten(3, (-1, WINDOW)).unflatten(2, (-1, WINDOW)).permute(0, 2, 4, 3, 5, 1)  # (b, wy, wx, y, x, d)
        x = x.flatten(3, 4).flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


@pytest.mark.parametrize("heads_first", [True, False], ids=["heads, windows", "windows, heads"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kernel", [4, 7])
@pytest.mark.parametrize(("batch", "size"), [(1, (32, 32)), (2, (32, 32)), (3, (32, 16)), (2, (16, 48))])
def test_each_sequence_is_a_window_and_has_its_heads(heads_first, fused, kernel, batch, size):
    model = redraw(NestedViT(heads_first, fused, kernel))
    seen = see_attention(model, torch.randn(batch, 3, *size))
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        assert layer.num_heads == HEADS
        assert torch.allclose(layer.weights(), block.truth.flatten(0, 1), atol=1e-5)
