"""The three ways a model computes attention, each read as: some rows of its weights, and what they must give.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows   e width of one head   d width
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from vitral.base.errors import WatchError

SOFTMAX = (F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax)
PRODUCT = (torch.matmul, torch.bmm, torch.einsum, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)

RESHAPED = (Tensor.to, Tensor.type_as, Tensor.float, Tensor.bfloat16, Tensor.half, Tensor.contiguous, F.dropout)

PAGES = 2**16  # bytes from which a tensor that is kept gets memory of its own

Queries = Sequence[int] | slice


@runtime_checkable
class Rows(Protocol):
    """Computes the rows of some queries; `alone` is the same, holding no memory but what it needs."""

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]: ...
    def alone(self) -> "Rows": ...


@dataclass(frozen=True)
class Scores:
    """softmax(q kᵀ · scale + bias), in single precision at least; a boolean bias says what may be."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h m e"]
    bias: Tensor | None
    scale: float

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        wanted = queries if isinstance(queries, slice) else list(queries)
        return weights_of(self.q, self.k, self.bias, self.scale, wanted)

    def alone(self) -> "Scores":
        return replace(self, q=apart(self.q), k=apart(self.k))


@dataclass(frozen=True)
class Written:
    """Weights that the model formed itself."""

    weights: Float[Tensor, "b h n m"]

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        return self.weights[..., queries if isinstance(queries, slice) else list(queries), :]

    def alone(self) -> "Written":
        return Written(self.weights.detach())


@dataclass(frozen=True)
class Call:
    """One call of attention that returned `out`.

    `product(rows)` is rows · v as the call returns it, and `view` brings `out`, or a tensor like it, into that layout,
    with the queries along `axis`.
    """

    out: Tensor
    num_queries: int
    num_keys: int
    rows: Rows
    product: Callable[[Float[Tensor, "b h r m"]], Tensor]
    view: Callable[[Tensor], Tensor]
    axis: int
    flat: bool = False  # its tensors had no axis of heads

    def unfolded(self, batch: int) -> "Call":
        """The same with the heads that stood in the batch, each image's one after the other, on their own axis."""

        def apart_again(x: Tensor) -> Tensor:
            return rearrange(x, "(b h) 1 n e -> b h n e", b=batch)

        rows = self.rows
        if isinstance(rows, Scores):
            bias = rows.bias if rows.bias is None or rows.bias.ndim < 4 else apart_again(rows.bias)
            rows = replace(rows, q=apart_again(rows.q), k=apart_again(rows.k), bias=bias)
        elif isinstance(rows, Written):
            rows = Written(apart_again(rows.weights))

        def product(own: Float[Tensor, "b h r m"]) -> Tensor:
            return apart_again(self.product(rearrange(own, "b h r m -> (b h) 1 r m")))

        return replace(self, rows=rows, product=product, view=lambda x: apart_again(self.view(x)), flat=False)

    def made(self, queries: Queries, like: Tensor | None = None) -> Tensor:
        """What the call returned for these queries, or their part of another tensor of its shape."""
        seen = self.view(self.out if like is None else like)
        wanted = queries if isinstance(queries, slice) else list(queries)
        return seen[wanted] if self.axis == 0 else seen[..., wanted, :]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Results of `product` for all queries in their order, as the call would return them."""
        return torch.cat(list(parts), dim=self.axis).reshape(self.out.shape).to(self.out.dtype)

    def weight_gradients(self, out_gradient: Tensor, queries: Queries) -> Float[Tensor, "b h r m"]:
        """∂y/∂A of these rows, from ∂y/∂out: rows · v is linear in the rows, so ∂y/∂A = ∂y/∂(A v) · vᵀ."""
        with torch.inference_mode(False), torch.enable_grad():
            rows = self.rows(queries).detach().requires_grad_()
            return torch.autograd.grad(self.product(rows), rows, self.made(queries, out_gradient))[0]


def apart(x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """A copy that needs no more memory than its own.

    On the CPU it gets pages of its own, if it fills some: left on the heap, among all that the model makes and frees,
    it would keep holes open that nothing fits (30 MB beside 72 in 12 layers of 4,097 tokens).
    """
    if x.device.type != "cpu" or x.nbytes < PAGES:
        return x.detach().clone(memory_format=torch.contiguous_format)
    return torch.frombuffer(mmap(-1, x.nbytes), dtype=x.dtype).view(x.shape).copy_(x.detach())


def relative(again: Tensor, out: Tensor) -> float:
    """The largest difference, as a fraction of the largest value of `out`."""
    exact = torch.promote_types(out.dtype, torch.float32)
    again, out = again.detach().to(exact), out.detach().to(exact)
    return float((again - out).abs().max() / out.abs().max().clamp_min(1e-12))


def weights_of(
    q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h m e"], bias: Tensor | None, scale: float, queries: Queries
) -> Float[Tensor, "b h r m"]:
    exact = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        logits = (q[..., queries, :].to(exact) * scale) @ k.to(exact).mT
    if bias is not None:
        bias = bias.expand(*bias.shape[:-2], q.shape[-2], k.shape[-2])[..., queries, :]
        logits = logits.masked_fill(~bias, -math.inf) if bias.dtype == torch.bool else logits + bias
    return logits.softmax(dim=-1)


def with_heads(x: Shaped[Tensor, "*b n e"]) -> Shaped[Tensor, "b h n e"]:
    """Tensors of attention with one axis of batches and one of heads; without one of heads there is one head."""
    return x.flatten(0, -4) if x.ndim > 3 else x.reshape(-1, 1, *x.shape[-2:])


def from_sdpa(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call:
    """The arguments and the result of `torch.nn.functional.scaled_dot_product_attention`."""
    q, k, v = (with_heads(x) for x in (query, key, value))
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    bias = attn_mask
    if bias is not None and query.ndim != 4 and bias.ndim > 2:
        bias = with_heads(bias.expand(*query.shape[:-1], key.shape[-2]))
    if is_causal:
        bias = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    scaled = q.shape[-1] ** -0.5 if scale is None else scale
    scores = Scores(q, k, bias, scaled)
    flat = query.ndim == 3
    return Call(out, q.shape[-2], k.shape[-2], scores, lambda rows: rows @ v.to(rows.dtype), with_heads, -2, flat)


def from_softmax(weights: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """The result of a softmax that may be attention weights: over the last axis, tokens by tokens or one query's."""
    dim = kwargs.get("dim", next((arg for arg in args[1:] if isinstance(arg, int)), None))
    over_last = dim is not None and dim % weights.ndim == weights.ndim - 1
    tokens = weights.ndim in (3, 4) and weights.shape[-1] > 1 and weights.shape[-2] in (1, weights.shape[-1])
    return weights if over_last and tokens else None


def from_product(out: Tensor, args: Sequence[Any], candidates: Sequence[Tensor]) -> Call | None:
    """A product of such weights, as they are, with values: softmax(...) · v written out by the model."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    if len(tensors) != 2 or not any(tensors[0] is weights for weights in candidates):
        return None
    weights, v = (with_heads(x) for x in tensors)
    if v.shape[:-1] != (*weights.shape[:-2], weights.shape[-1]) or with_heads(out).shape[:-1] != weights.shape[:-1]:
        return None
    n, m = weights.shape[-2:]
    flat = tensors[0].ndim == 3
    return Call(out, n, m, Written(weights), lambda rows: rows @ v.to(rows.dtype), with_heads, -2, flat)


def from_multi_head_attention(
    out: Float[Tensor, "n b d"] | Float[Tensor, "n d"], args: Sequence[Any], kwargs: dict[str, Any]
) -> Call:
    """The arguments and the result of `torch.nn.functional.multi_head_attention_forward`.

    Projects as it does; `product` includes its output projection, since what is before is not returned.
    """
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
    if given.get("bias_k") is not None or given.get("add_zero_attn"):
        raise WatchError(
            "nn.MultiheadAttention with add_bias_kv or add_zero_attn attends to tokens that are not there; "
            "it cannot be watched. Make it without."
        )
    batched = given["query"].ndim == 3
    query, key, value = (x if batched else x[:, None] for x in (given["query"], given["key"], given["value"]))
    biases = given["in_proj_bias"].chunk(3) if given["in_proj_bias"] is not None else (None,) * 3
    if given.get("use_separate_proj_weight"):
        maps = given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]
    else:
        maps = given["in_proj_weight"].chunk(3)
    q, k, v = (
        rearrange(F.linear(x, weight, bias), "n b (h e) -> b h n e", h=given["num_heads"])
        for x, weight, bias in zip((query, key, value), maps, biases)
    )
    bias = additive(given.get("attn_mask"), q.dtype)
    if bias is not None and bias.ndim == 3:
        bias = rearrange(bias, "(b h) n m -> b h n m", h=given["num_heads"])
    padding = additive(given.get("key_padding_mask"), q.dtype)
    if padding is not None:
        padding = rearrange(padding if batched else padding[None], "b m -> b 1 1 m")
        bias = padding if bias is None else bias + padding

    def product(rows: Float[Tensor, "b h r m"]) -> Float[Tensor, "r b d"]:
        joined = rearrange(rows @ v.to(rows.dtype), "b h r e -> r b (h e)").to(out.dtype)
        return F.linear(joined, given["out_proj_weight"], given["out_proj_bias"])

    scores = Scores(q, k, bias, q.shape[-1] ** -0.5)
    return Call(out, q.shape[-2], k.shape[-2], scores, product, lambda x: x if batched else x[:, None], 0)


def additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of this function as numbers to add; its True means "may not", the opposite of SDPA's."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
