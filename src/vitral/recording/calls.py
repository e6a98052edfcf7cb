"""Recognise the calls that compute attention, each as: how to form some rows of its weights, and what they must yield.

Three forms are recognised: `scaled_dot_product_attention`, the function behind `nn.MultiheadAttention`, and a softmax
whose result multiplies values, for models that write the product out.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows   e width of one head   d width
"""

import inspect
import math
from collections import deque
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
# A softmax result that went through these is still the weights: other type, other memory, dropout (none in eval mode).
SAME_VALUES = (Tensor.to, Tensor.type_as, Tensor.float, Tensor.bfloat16, Tensor.half, Tensor.contiguous, F.dropout)
RECENT_SOFTMAXES = 4  # results that may still be multiplied by values

OWN_PAGES = 2**16  # bytes from which a detached copy gets memory pages of its own

Queries = Sequence[int] | slice


@runtime_checkable
class Rows(Protocol):
    """Computes the rows of some queries; `detached` does so from copies, without the graph or the model's buffers."""

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]: ...
    def detached(self) -> "Rows": ...


@dataclass(frozen=True)
class Scores:
    """softmax(q kᵀ · scale + bias), in single precision at least; a boolean bias is True where attention is allowed."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h m e"]
    bias: Tensor | None
    scale: float

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        wanted = queries if isinstance(queries, slice) else list(queries)
        return attention_rows(self.q, self.k, self.bias, self.scale, wanted)

    def detached(self) -> "Scores":
        return replace(self, q=detached_copy(self.q), k=detached_copy(self.k))


@dataclass(frozen=True)
class ExplicitWeights:
    """Weights that the model formed itself."""

    weights: Float[Tensor, "b h n m"]

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        return self.weights[..., queries if isinstance(queries, slice) else list(queries), :]

    def detached(self) -> "ExplicitWeights":
        return ExplicitWeights(self.weights.detach())


@dataclass(frozen=True)
class Call:
    """One call of attention that returned `out`.

    `product(rows)` is rows · v in the call's own layout; `view` brings `out`, or a tensor of its shape, into that
    layout, with the queries along `query_axis`. `heads_in_batch` marks tensors without an axis of heads, whose batch
    may hold the heads.
    """

    out: Tensor
    num_queries: int
    num_keys: int
    rows: Rows
    product: Callable[[Float[Tensor, "b h r m"]], Tensor]
    view: Callable[[Tensor], Tensor]
    query_axis: int
    heads_in_batch: bool = False

    @property
    def batch_size(self) -> int:
        """The items that the call attends over: images, or windows, or images times heads."""
        shaped = self.view(self.out)
        return shaped.shape[1] if self.query_axis == 0 else len(shaped)

    def split_heads(self, batch: int) -> "Call":
        """The same call with heads on their own axis, where they stood in the batch, image by image."""

        def split(x: Tensor) -> Tensor:
            return rearrange(x, "(b h) 1 n e -> b h n e", b=batch)

        source = self.rows
        if isinstance(source, Scores):
            bias = source.bias if source.bias is None or source.bias.ndim < 4 else split(source.bias)
            source = replace(source, q=split(source.q), k=split(source.k), bias=bias)
        elif isinstance(source, ExplicitWeights):
            source = ExplicitWeights(split(source.weights))

        def product(rows: Float[Tensor, "b h r m"]) -> Tensor:
            return split(self.product(rearrange(rows, "b h r m -> (b h) 1 r m")))

        return replace(self, rows=source, product=product, view=lambda x: split(self.view(x)), heads_in_batch=False)

    def output_rows(self, queries: Queries, tensor: Tensor | None = None) -> Tensor:
        """What the call returned for these queries, or their part of another tensor of the output's shape."""
        shaped = self.view(self.out if tensor is None else tensor)
        wanted = queries if isinstance(queries, slice) else list(queries)
        return shaped[wanted] if self.query_axis == 0 else shaped[..., wanted, :]

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        """Results of `product` for all queries, in order, as one tensor like the call's output."""
        return torch.cat(list(parts), dim=self.query_axis).reshape(self.out.shape).to(self.out.dtype)

    def weight_gradients(self, out_gradient: Tensor, queries: Queries) -> Float[Tensor, "b h r m"]:
        """∂y/∂A of these rows, from ∂y/∂out: rows · v is linear in the rows, so ∂y/∂A = ∂y/∂(A v) · vᵀ."""
        # Autograd applies vᵀ, since `product` may hold more than a product: nn.MultiheadAttention's output projection.
        with torch.inference_mode(False), torch.enable_grad():
            rows = self.rows(queries).detach().requires_grad_()
            return torch.autograd.grad(self.product(rows), rows, self.output_rows(queries, out_gradient))[0]


def detached_copy(x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """A contiguous copy without the graph.

    On the CPU a large copy gets memory pages of its own. On the heap, between tensors that the model allocates and
    frees, it would leave holes that nothing fits (measured: 30 MB lost beside 72 MB kept, 12 layers of 4,097 tokens).
    """
    if x.device.type != "cpu" or x.nbytes < OWN_PAGES:
        return x.detach().clone(memory_format=torch.contiguous_format)
    return torch.frombuffer(mmap(-1, x.nbytes), dtype=x.dtype).view(x.shape).copy_(x.detach())


def relative_difference(tensor: Tensor, reference: Tensor) -> float:
    """The largest difference, as a fraction of the largest value of `reference`."""
    exact = torch.promote_types(reference.dtype, torch.float32)
    tensor, reference = tensor.detach().to(exact), reference.detach().to(exact)
    return float((tensor - reference).abs().max() / reference.abs().max().clamp_min(1e-12))


def attention_rows(
    q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h m e"], bias: Tensor | None, scale: float, queries: Queries
) -> Float[Tensor, "b h r m"]:
    # Kernels for bfloat16 and float16 accumulate in float32; an autocast region around the model must not undo that.
    exact = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        logits = (q[..., queries, :].to(exact) * scale) @ k.to(exact).mT
    if bias is not None:
        bias = bias.expand(*bias.shape[:-2], q.shape[-2], k.shape[-2])[..., queries, :]
        logits = logits.masked_fill(~bias, -math.inf) if bias.dtype == torch.bool else logits + bias
    return logits.softmax(dim=-1)


class CallRecognizer:
    """Finds the calls of attention among all functions that a model calls, in order.

    `unmatched` counts softmaxes over tokens that were not seen to multiply values: attention, perhaps, in a form that
    is not recognised.
    """

    def __init__(self) -> None:
        self.softmaxes: deque[Tensor] = deque(maxlen=RECENT_SOFTMAXES)
        self.unmatched = 0

    def recognize(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Call | None:
        """The call of attention that a function call is; None for any other."""
        if func is F.scaled_dot_product_attention:
            return from_sdpa(result, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return from_multi_head_attention(result[0], args, kwargs)
        if func in SOFTMAX:
            if (weights := from_softmax(result, args, kwargs)) is not None:
                self.softmaxes.append(weights)
                self.unmatched += 1
        elif func in PRODUCT:
            call = from_product(result, args, self.softmaxes)
            self.unmatched -= call is not None
            return call
        elif func in SAME_VALUES and any(args[0] is weights for weights in self.softmaxes):
            self.softmaxes.append(result)
        return None

    def forget(self) -> None:
        """Let go of the tensors held."""
        self.softmaxes.clear()


def with_heads(x: Shaped[Tensor, "*b n e"]) -> Shaped[Tensor, "b h n e"]:
    """A tensor with one batch axis and one axis of heads, added where the call had none."""
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
    """A call of `torch.nn.functional.scaled_dot_product_attention`, from its result and arguments."""
    q, k, v = (with_heads(x) for x in (query, key, value))
    if enable_gqa:  # grouped queries: one key and value head serves several query heads
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    bias = attn_mask
    if bias is not None and query.ndim != 4 and bias.ndim > 2:  # as many axes as the queries, before they are merged
        bias = with_heads(bias.expand(*query.shape[:-1], key.shape[-2]))
    if is_causal:
        bias = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    scores = Scores(q, k, bias, q.shape[-1] ** -0.5 if scale is None else scale)
    return Call(
        out, q.shape[-2], k.shape[-2], scores, lambda rows: rows @ v.to(rows.dtype), with_heads, -2, query.ndim == 3
    )


def from_softmax(weights: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """The result of a softmax if it may be attention: over the last axis, of shape (tokens, tokens) or (1, tokens)."""
    dim = kwargs.get("dim", next((arg for arg in args[1:] if isinstance(arg, int)), None))
    over_last = dim is not None and dim % weights.ndim == weights.ndim - 1
    over_tokens = weights.ndim in (3, 4) and weights.shape[-1] > 1 and weights.shape[-2] in (1, weights.shape[-1])
    return weights if over_last and over_tokens else None


def from_product(out: Tensor, args: Sequence[Any], candidates: Sequence[Tensor]) -> Call | None:
    """A call written out by the model, softmax(...) · v, if one of `candidates` itself multiplies values."""
    # `is`, not equal values: a copy that the model scaled or masked in between would no longer be what multiplies v.
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    if len(tensors) != 2 or not any(tensors[0] is weights for weights in candidates):
        return None
    weights, v = (with_heads(x) for x in tensors)
    if v.shape[:-1] != (*weights.shape[:-2], weights.shape[-1]) or with_heads(out).shape[:-1] != weights.shape[:-1]:
        return None
    n, m = weights.shape[-2:]
    rows, heads_in_batch = ExplicitWeights(weights), tensors[0].ndim == 3
    return Call(out, n, m, rows, lambda rows: rows @ v.to(rows.dtype), with_heads, -2, heads_in_batch)


def from_multi_head_attention(
    out: Float[Tensor, "n b d"] | Float[Tensor, "n d"], args: Sequence[Any], kwargs: dict[str, Any]
) -> Call:
    """A call of `torch.nn.functional.multi_head_attention_forward`, from its result and arguments.

    q, k and v are projected again as the function does. `product` includes the output projection, since the function
    does not return what enters it.
    """
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
    if given.get("bias_k") is not None or given.get("add_zero_attn"):
        raise WatchError(
            "nn.MultiheadAttention with add_bias_kv or add_zero_attn attends to tokens that are not in the image, so "
            "it cannot be watched. Create it without these two options."
        )
    batched = given["query"].ndim == 3
    query, key, value = (x if batched else x[:, None] for x in (given["query"], given["key"], given["value"]))
    biases = given["in_proj_bias"].chunk(3) if given["in_proj_bias"] is not None else (None,) * 3
    if given.get("use_separate_proj_weight"):
        weights = given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]
    else:
        weights = given["in_proj_weight"].chunk(3)
    q, k, v = (
        rearrange(F.linear(x, weight, bias), "n b (h e) -> b h n e", h=given["num_heads"])
        for x, weight, bias in zip((query, key, value), weights, biases)
    )
    # Both masks of the function become one additive bias, in the layout of q kᵀ.
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
    """A mask of this function as numbers to add; its True forbids attention, SDPA's True allows it."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
