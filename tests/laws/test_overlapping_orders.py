"""Tokens that see more than one patch: their order is told, or refused, and never another one is shown."""

import pytest
import torch
from torch import nn

from handmade import Block
from tiny import redraw, see_attention
from vitral.base.errors import UsageError

SIDE = 8
ROWS = [[row * SIDE + column for column in range(SIDE)] for row in range(SIDE)]


def joined(rows):
    return [patch for row in rows for patch in row]


OTHER_ORDERS = {
    "snake": joined(row[:: -1 if number % 2 else 1] for number, row in enumerate(ROWS)),
    "one row reversed": joined([*ROWS[:7], ROWS[7][::-1]]),
    "halves of two rows swapped": joined([*ROWS[:6], *(row[4:] + row[:4] for row in ROWS[6:])]),
    "odd rows rolled": joined(row[1:] + row[:1] if number % 2 else row for number, row in enumerate(ROWS)),
}


class Overlapping(nn.Module):
    def __init__(self, kernel, order):
        super().__init__()
        self.order, self.patch = order, nn.Conv2d(3, 12, kernel, 4, (kernel - 4 + 1) // 2)
        self.blocks, self.head = nn.ModuleList([Block()]), nn.Linear(12, 5)

    def forward(self, images):
        x = self.patch(images).flatten(2).mT[:, self.order]
        return self.head(self.blocks[0](x).mean(1))


@pytest.mark.parametrize("kernel", [5, 6, 7])
@pytest.mark.parametrize("order", ["rows", "columns", *OTHER_ORDERS])
def test_an_order_is_right_or_refused(kernel, order):
    known = {"rows": joined(ROWS), "columns": [column + row * SIDE for column in range(SIDE) for row in range(SIDE)]}
    permutation = (known | OTHER_ORDERS)[order]
    layer = see_attention(redraw(Overlapping(kernel, permutation)), torch.randn(1, 3, 32, 32)).layers[0]
    if order in known:
        assert list(layer.tokens.patch_tokens) == [permutation.index(patch) for patch in range(SIDE * SIDE)]
    else:
        with pytest.raises(UsageError, match="places in the image are not known"):
            _ = layer.tokens
