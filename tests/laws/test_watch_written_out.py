"""`watch` sees attention that a model writes out by hand, however it says softmax and times."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import redraw, see_attention
from vitral import watch

SOFTMAX = {
    "F.softmax": lambda module, x: F.softmax(x, dim=-1),
    "F.softmax, last axis by number": lambda module, x: F.softmax(x, x.ndim - 1),
    "torch.softmax": lambda module, x: torch.softmax(x, dim=-1),
    "torch.special.softmax": lambda module, x: torch.special.softmax(x, -1),
    "Tensor.softmax": lambda module, x: x.softmax(dim=-1),
    "nn.Softmax": lambda module, x: module.softmax(x),
}
PRODUCT = {
    "@": lambda a, v: a @ v,
    "torch.matmul": torch.matmul,
    "Tensor.matmul": lambda a, v: a.matmul(v),
    "einsum": lambda a, v: torch.einsum("bhnm,bhme->bhne", a, v),
    "einsum, other letters": lambda a, v: torch.einsum("...ij,...jd->...id", a, v),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


class Written(nn.Module):
    """Multi-head attention as most tutorials write it; it keeps its weights and its product."""

    def __init__(self, softmax, product, dropout):
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.softmax = nn.Softmax(dim=-1)
        self.drop = nn.Dropout(0.5) if dropout else None
        self.say_softmax, self.say_product = softmax, product

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4)
        attn = self.say_softmax(self, q @ k.transpose(-2, -1) * 4**-0.5)
        if self.drop is not None:
            attn = self.drop(attn)
        z = self.say_product(attn, v)
        self.kept, self.values, self.z = attn, v, z
        return self.proj(z.transpose(1, 2).reshape(b, n, d))


class Model(nn.Module):
    num_prefix_tokens = 1

    def __init__(self, *how):
        super().__init__()
        self.first, self.second = (nn.ModuleDict({"attention": Written(*how)}) for _ in range(2))

    def forward(self, x):
        for part in (self.first, self.second):
            x = x + part["attention"](x)
        return x[:, 0].softmax(-1)  # a softmax that is no attention


def model_of(softmax="F.softmax", product="@", dropout=False, dtype=torch.float32):
    model = redraw(Model(SOFTMAX[softmax], PRODUCT[product], dropout), deviation=0.4).to(dtype)
    return model, torch.randn(2, 10, 12, dtype=dtype)


def check(model, x, dtype=torch.float32):
    plain = model(x)
    with watch(model, rows="all") as seen:
        watched = model(x)
    assert torch.equal(watched, plain)
    assert [layer.name for layer in seen.layers] == ["first.attention", "second.attention"]
    for layer, written in zip(seen.layers, (model.first.attention, model.second.attention), strict=True):
        assert written.kept.std() > 0.03
        assert torch.equal(layer.weights(), written.kept)
        product = (layer.weights() @ written.values).float()
        torch.testing.assert_close(product, written.z.float(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("product", PRODUCT)
@pytest.mark.parametrize("softmax", SOFTMAX)
@torch.no_grad()
def test_written_out_attention_is_seen(softmax, product):
    check(*model_of(softmax, product))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@torch.no_grad()
def test_written_out_attention_is_seen_in_any_precision(dtype):
    check(*model_of(dtype=dtype), dtype)


@pytest.mark.parametrize("softmax", ["F.softmax", "nn.Softmax"])
@torch.no_grad()
def test_dropout_that_is_off_does_not_hide_the_product(softmax):
    check(*model_of(softmax, dropout=True))


@pytest.mark.parametrize("rows", ["prefix", [0], [3, 0]])
@torch.no_grad()
def test_chosen_rows_of_a_written_out_product_are_those_of_its_matrix(rows):
    model, x = model_of()
    seen = see_attention(model, x, rows=rows)
    for layer, written in zip(seen.layers, (model.first.attention, model.second.attention), strict=True):
        for row in (0,) if rows == "prefix" else rows:
            assert torch.equal(layer.rows([row]), written.kept[:, :, [row]])


class OneHead(nn.Module):
    """Attention without an axis of heads, by `torch.bmm`."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x):
        self.kept = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        return self.times(self.kept, x)


@pytest.mark.parametrize("times", [torch.bmm, torch.matmul, lambda a, v: a.bmm(v), lambda a, v: a @ v])
@torch.no_grad()
def test_attention_without_an_axis_of_heads_has_one_head(times):
    model = OneHead(times)
    seen = see_attention(model, torch.randn(2, 10, 3))
    assert torch.equal(seen.layers[0].weights(), model.kept[:, None])


class Square(nn.Module):
    """Heads as many as tokens, and tokens as wide as many, so that sizes alone tell nothing apart."""

    def forward(self, x):
        self.kept = (x @ x.transpose(-2, -1)).softmax(-1)
        return torch.einsum("bhij,bhjd->bhid", self.kept, x)


@torch.no_grad()
def test_sizes_that_are_all_alike_are_not_mixed_up():
    model, x = Square(), torch.randn(4, 4, 4, 4)
    with watch(model, rows="all", num_prefix_tokens=0) as seen:
        out = model(x)
    assert torch.equal(seen.layers[0].weights(), model.kept)
    torch.testing.assert_close(seen.layers[0].weights() @ x, out)
