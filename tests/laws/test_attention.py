"""Attention is its equation."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tiny import layer_norm, redraw
from vitral import Attention
from vitral.nn.family.mixer import NoMixing, QKNormAttention

shapes = dict(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 9),
    heads=st.integers(1, 4),
    width=st.integers(1, 6),
    qkv_bias=st.booleans(),
    seed=st.integers(0, 2**16),
)


def written_out(attn, x, normalise=lambda q, k: (q, k)):
    """softmax(q kᵀ / √e) v, head by head, from the weights."""
    width = x.shape[-1]
    e = width // attn.num_heads
    projected = x @ attn.qkv.weight.T + (0 if attn.qkv.bias is None else attn.qkv.bias)
    results = []
    for head in range(attn.num_heads):
        q, k, v = (projected[..., third * width + head * e : third * width + (head + 1) * e] for third in range(3))
        q, k = normalise(q, k)
        weights = torch.exp(q @ k.transpose(1, 2) / math.sqrt(e))
        results.append(weights / weights.sum(-1, keepdim=True) @ v)
    return torch.cat(results, -1) @ attn.proj.weight.T + attn.proj.bias


def agree_with_gradients(attn, x, reference):
    """Both give the same output and the same gradient of x and of every parameter."""
    inputs = [x, *attn.parameters()]
    direction = torch.randn_like(x)
    ours, theirs = attn(x), reference(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    gradients = (torch.autograd.grad(out, inputs, direction) for out in (ours, theirs))
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12 * max(1.0, wanted.abs().max().item()))


def drawn(kind, batch, tokens, heads, width, qkv_bias, seed):
    attn = redraw(kind(heads * width, heads, qkv_bias).double(), seed, 0.5)
    torch.manual_seed(seed)
    return attn, torch.randn(batch, tokens, heads * width, dtype=torch.float64, requires_grad=True)


@given(**shapes)
def test_fused_attention_is_the_equation_written_out_forward_and_backward(**shape):
    attn, x = drawn(Attention, **shape)
    agree_with_gradients(attn, x, lambda x: written_out(attn, x))


@given(**shapes | {"width": st.integers(3, 6)})  # of one or two numbers, a norm leaves only signs
def test_qk_norm_attention_is_the_equation_on_normalised_queries_and_keys(**shape):
    attn, x = drawn(QKNormAttention, **shape)

    def normalise(q, k):
        return layer_norm(q, attn.q_norm), layer_norm(k, attn.k_norm)

    agree_with_gradients(attn, x, lambda x: written_out(attn, x, normalise))


@given(**shapes)
def test_attention_is_torchs_multihead_attention_with_copied_weights(**shape):
    attn, x = drawn(Attention, **shape)
    reference = nn.MultiheadAttention(x.shape[-1], attn.num_heads, bias=True, batch_first=True).double()
    with torch.no_grad():
        reference.in_proj_weight.copy_(attn.qkv.weight)
        reference.in_proj_bias.copy_(torch.tensor(0.0) if attn.qkv.bias is None else attn.qkv.bias)
        reference.out_proj.weight.copy_(attn.proj.weight)
        reference.out_proj.bias.copy_(attn.proj.bias)
    torch.testing.assert_close(attn(x), reference(x, x, x, need_weights=True)[0], rtol=0, atol=1e-12)


@given(**shapes)
def test_permuting_tokens_permutes_what_attention_returns(**shape):
    attn, x = drawn(Attention, **shape)
    order = torch.randperm(x.shape[1])
    torch.testing.assert_close(attn(x[:, order]), attn(x)[:, order], rtol=0, atol=1e-12)


def test_every_token_reaches_every_other_through_attention():
    attn, x = drawn(Attention, batch=1, tokens=5, heads=2, width=3, qkv_bias=True, seed=1)
    reach = torch.autograd.functional.jacobian(lambda x: attn(x)[0].sum(-1), x).abs().sum(-1)[:, 0]
    assert reach.shape == (5, 5)
    assert reach.min() > 1e-6


def test_without_mixing_nothing_is_added_to_any_token():
    x = torch.randn(2, 5, 8)
    assert torch.equal(NoMixing(8, 2)(x), torch.zeros_like(x))
    assert not list(NoMixing(8, 2).parameters())
