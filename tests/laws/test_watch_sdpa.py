"""`watch` reads every argument of `scaled_dot_product_attention` as the kernel does."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitral import watch
from vitral.base.errors import UsageError

BATCH, HEADS, TOKENS, KEYS, WIDTH = 2, 4, 10, 7, 6
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2}
GENERATOR = torch.Generator().manual_seed(0)
ALLOWED = torch.rand(BATCH, 1, TOKENS, KEYS, generator=GENERATOR) > 0.4
ALLOWED[..., 2] = True  # no query without a key


def numbers(*shape):
    return torch.randn(shape, generator=GENERATOR)


CALLS = {
    "plain": {},
    "float mask of its own for each head": dict(attn_mask=numbers(BATCH, HEADS, TOKENS, KEYS)),
    "float mask shared by all": dict(attn_mask=numbers(TOKENS, KEYS)),
    "float mask that bars": dict(attn_mask=torch.zeros(TOKENS, KEYS).masked_fill(~ALLOWED[0, 0], -math.inf)),
    "float mask over keys": dict(attn_mask=numbers(BATCH, 1, 1, KEYS)),
    "float mask for each head alike": dict(attn_mask=numbers(HEADS, TOKENS, KEYS)),
    "boolean mask": dict(attn_mask=ALLOWED),
    "boolean mask over keys": dict(attn_mask=ALLOWED[:, :, :1]),
    "causal": dict(is_causal=True),
    "scale": dict(scale=1.7),
    "scale of zero": dict(scale=0.0),
    "scale and mask": dict(scale=0.3, attn_mask=numbers(TOKENS, KEYS)),
}


def weights_of(q, k, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """softmax(q kᵀ · scale + mask), query by query, from PyTorch's description."""
    if enable_gqa:
        k = torch.stack([k[:, head * k.shape[1] // q.shape[1]] for head in range(q.shape[1])], dim=1)
    logits = torch.einsum("...ne,...me->...nm", q, k) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    for query in range(q.shape[-2]):
        if is_causal:
            logits[..., query, query + 1 :] = -math.inf
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = torch.where(attn_mask, logits, -math.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    exponential = logits.exp()
    return exponential / exponential.sum(-1, keepdim=True)


class Calls(nn.Module):
    """A model that is one call of the kernel."""

    num_prefix_tokens = 1

    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.how)


def check(q, k, v, dtype=torch.float32, **how):
    """The watched matrix is the written-out one, and gives the kernel's output."""
    q, k, v = (x.to(dtype) for x in (q, k, v))
    mask = how.get("attn_mask")
    how = how if mask is None or mask.dtype == torch.bool else how | {"attn_mask": mask.to(dtype)}
    model = Calls(**how)
    plain = model(q, k, v)
    with watch(model, rows="all") as seen:
        watched = model(q, k, v)
    assert torch.equal(watched, plain)
    (layer,) = seen.layers
    exact = {key: x.double() if isinstance(x, torch.Tensor) and x.dtype != torch.bool else x for key, x in how.items()}
    expected = weights_of(q.double(), k.double(), **exact)
    heads, shared = (1, 1) if q.ndim <= 3 else (q.shape[-3], v.shape[-3])
    expected = expected.reshape(-1, heads, *expected.shape[-2:])
    values = v.double().reshape(-1, shared, *v.shape[-2:])
    assert (layer.num_queries, layer.num_tokens) == (q.shape[-2], k.shape[-2])
    torch.testing.assert_close(layer.weights().double(), expected, rtol=0, atol=max(CLOSE[dtype], 1e-12) / 4)
    values = values.repeat_interleave(heads // shared, dim=1)
    product = (layer.weights().double() @ values).reshape(plain.shape)
    torch.testing.assert_close(product, plain.double(), rtol=0, atol=CLOSE[dtype])
    for rows in ([0], [9, 3]):
        with watch(model, rows=rows) as some:
            model(q, k, v)
        torch.testing.assert_close(some.layers[0].rows(rows), layer.rows(rows))


def drawn(*shapes):
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("how", CALLS.values(), ids=CALLS)
def test_the_kernels_arguments_are_read_as_the_kernel_reads_them(how, dtype):
    shapes = (BATCH, HEADS, TOKENS, WIDTH), (BATCH, HEADS, KEYS, WIDTH), (BATCH, HEADS, KEYS, WIDTH)
    check(*drawn(*shapes), dtype=dtype, **how)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("mask", [None, numbers(TOKENS, KEYS)], ids=["plain", "mask"])
def test_heads_that_share_keys_and_values(mask, dtype):
    shapes = (BATCH, 4, TOKENS, WIDTH), (BATCH, 2, KEYS, WIDTH), (BATCH, 2, KEYS, WIDTH)
    check(*drawn(*shapes), dtype=dtype, enable_gqa=True, attn_mask=mask)


@pytest.mark.parametrize(
    "how", [{}, dict(attn_mask=ALLOWED[:, 0]), dict(is_causal=True)], ids=["plain", "mask", "causal"]
)
def test_tensors_without_an_axis_of_heads(how):
    check(*drawn((BATCH, TOKENS, WIDTH), (BATCH, KEYS, WIDTH), (BATCH, KEYS, WIDTH)), **how)


@pytest.mark.parametrize(
    "how", [{}, dict(attn_mask=ALLOWED[0, 0]), dict(is_causal=True)], ids=["plain", "mask", "causal"]
)
def test_a_single_sequence_is_a_batch_of_one(how):
    check(*drawn((TOKENS, WIDTH), (KEYS, WIDTH), (KEYS, WIDTH)), **how)


@pytest.mark.parametrize(
    "how",
    [{}, dict(attn_mask=ALLOWED), dict(attn_mask=numbers(3, 1, TOKENS, KEYS)), dict(attn_mask=numbers(TOKENS, KEYS))],
    ids=["plain", "mask for each batch", "mask for each window", "mask shared by all"],
)
def test_windows_are_batches(how):
    """Five axes: batch, window, head, token, width."""
    if how and how["attn_mask"] is ALLOWED:
        how = dict(attn_mask=ALLOWED[:, None])
    check(*drawn((BATCH, 3, HEADS, TOKENS, WIDTH), *[(BATCH, 3, HEADS, KEYS, WIDTH)] * 2), **how)


def test_values_of_another_width_than_queries():
    check(*drawn((BATCH, HEADS, TOKENS, WIDTH), (BATCH, HEADS, KEYS, WIDTH), (BATCH, HEADS, KEYS, 3)))


def test_arguments_given_by_place_or_by_name():
    q, k, v = (x.float() for x in drawn(*[(1, 1, 5, 4)] * 3))

    class ByName(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=None, is_causal=True)

    class ByPlace(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, None, 0.0, True)

    for model in (ByName(), ByPlace()):
        with watch(model, rows="all") as seen:
            model(q, k, v)
        torch.testing.assert_close(seen.layers[0].weights(), weights_of(q, k, is_causal=True))


def test_without_an_image_no_prefix_and_no_grid_is_invented():
    """17 tokens of no image may be one and 4 x 4 patches, or anything else; CLS is one if the model has it."""
    q, k, v = torch.randn(3, 1, 1, 17, 4)
    model = Calls()
    with watch(model, rows=[0]) as seen:
        model(q, k, v)
    with pytest.raises(UsageError, match="attends to 17 tokens whose places in the image are not known"):
        _ = seen.layers[0].roles
    for said, role in ((1, "cls"), (None, "prefix 0")):
        model.num_prefix_tokens = said
        with watch(model, num_prefix_tokens=1) as seen:
            model(q, k, v)
        assert seen.layers[0].roles[:2] == (role, "patch 0")


@pytest.mark.parametrize("n", [18, 23, 32], ids=str)
def test_tokens_that_are_no_grid_are_not_made_one_by_calling_the_rest_a_prefix(n):
    q, k, v = torch.randn(3, 1, 1, n, 4)
    model = Calls()
    model.num_prefix_tokens = None
    with watch(model, rows=[0]) as seen:
        model(q, k, v)
    with pytest.raises(UsageError, match=f"attends to {n} tokens whose places in the image are not known"):
        _ = seen.layers[0].roles
