"""One call of attention: how to form some rows of its weights, the values that they multiply, and what came out.

    out = A v        A: weights of n queries over m keys, for each head of each item of a batch

A fused kernel never forms A; its rows are computed from q and k when they are wanted. Where the model formed A itself,
its rows are taken from it. Either way rows · v must be what the call returned.

Axes:  b batch   h heads   n m query, key tokens   r wanted rows   e width of one head
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from mmap import mmap
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vitral.base.errors import WatchError
from vitral.recording.lazy_copy import lazy_copy

OWN_PAGES = 2**16  # bytes from which a detached copy gets memory pages of its own
MOST_ADDED = 4  # keys that are no tokens, such as a null key

Queries = Sequence[int] | slice


@runtime_checkable
class Rows(Protocol):
    """Computes the rows of some queries; `detached` does so from copies, without the graph or the model's buffers.

    `tensors` are those of the model's from which rows are formed.
    """

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]: ...
    def detached(self) -> "Rows": ...
    @property
    def tensors(self) -> tuple[Tensor, ...]: ...


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
        bias = None if self.bias is None else lazy_copy(self.bias.detach())
        return replace(self, q=detached_copy(self.q), k=detached_copy(self.k), bias=bias)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.q, self.k, *(() if self.bias is None else (self.bias,)))


@dataclass(frozen=True)
class ExplicitWeights:
    """Weights that the model formed itself."""

    weights: Float[Tensor, "b h n m"]

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        return self.weights[..., queries if isinstance(queries, slice) else list(queries), :]

    def detached(self) -> "ExplicitWeights":
        # A model may change its weights, or a mask, after it has used them.
        return ExplicitWeights(lazy_copy(self.weights.detach()))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.weights,)


@dataclass(frozen=True)
class Unchanged:
    """Rows that keep the graph of gradients, of tensors that are as they were when `layer` used them, or refused."""

    rows: Rows
    layer: str
    before: tuple[Tensor, ...]

    @classmethod
    def now(cls, rows: Rows, layer: str) -> "Unchanged":
        return cls(rows, layer, tuple(lazy_copy(one.detach()) for one in rows.tensors))

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        """Raises `WatchError` if the model has changed one of the tensors in place."""
        if not all(map(torch.equal, self.rows.tensors, self.before)):
            raise WatchError(
                f"{self.layer} changed its weights, or what they are formed of, in place after it had used them. Watch "
                "it within torch.no_grad(), where copies are kept."
            )
        return self.rows(queries)


@dataclass(frozen=True)
class Grouping:
    """How the units along a call's axes (b, h) are images, windows of an image, and heads.

    Along b come `outer` units, then the images, then `inner` units; along h come `heads`. The units of an image, outer
    ones first, are put into `order`, window by window; there are `windows` of them, each with as many heads. `swapped`
    calls have the images along h, and these along b.
    """

    outer: int
    images: int
    inner: int
    heads: int
    order: tuple[int, ...]
    windows: int = 1
    swapped: bool = False

    def apply(self, x: Shaped[Tensor, "b h n e"]) -> Shaped[Tensor, "bw h2 n e"]:
        """A tensor of the call's own units as one of windows, image by image, and heads."""
        x = x.transpose(0, 1) if self.swapped else x
        x = x.unflatten(0, (self.outer, self.images, self.inner)).movedim(1, 0).flatten(1, 3)
        if self.order != tuple(range(len(self.order))):
            x = x[:, list(self.order)]
        return x.unflatten(1, (self.windows, -1)).flatten(0, 1)

    def undo(self, x: Shaped[Tensor, "bw h2 n e"]) -> Shaped[Tensor, "b h n e"]:
        """The opposite of `apply`."""
        x = x.unflatten(0, (self.images, self.windows)).flatten(1, 2)
        x = x[:, [self.order.index(unit) for unit in range(len(self.order))]]
        x = x.unflatten(1, (self.outer, self.inner, self.heads)).movedim(0, 1).flatten(0, 2)
        return x.transpose(0, 1) if self.swapped else x


@dataclass(frozen=True)
class Grouped:
    """Rows whose units are grouped otherwise."""

    rows: Rows
    grouping: Grouping

    def __call__(self, queries: Queries) -> Float[Tensor, "b h r m"]:
        return self.grouping.apply(self.rows(queries))

    def detached(self) -> "Grouped":
        return replace(self, rows=self.rows.detached())

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows.tensors


@runtime_checkable
class Axes(Protocol):
    """The axes that weights had when the model formed them: their sizes, and their order."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    def rank(self, axis: int) -> float: ...


@dataclass(frozen=True)
class Call:
    """One call of attention, whose operator returned `out`.

    `given` are the values as the operator got them. `view` brings `out`, or a tensor of its shape, into the layout of
    rows · values. `heads_in_batch` marks tensors with one axis before the tokens: it may hold the images, or images and
    heads.
    """

    out: Tensor
    rows: Rows
    values: Float[Tensor, "b h m e"]
    given: Tensor
    num_queries: int
    view: Callable[[Tensor], Tensor]
    heads_in_batch: bool = False
    fill: Callable[[Tensor, Tensor], None] | None = None  # where `view` gives a copy

    @property
    def num_keys(self) -> int:
        return self.values.shape[-2]

    @property
    def batch_size(self) -> int:
        """The items that the call attends over: images, or windows, or images times heads."""
        return len(self.values)

    def product(self, rows: Float[Tensor, "b h r m"]) -> Float[Tensor, "b h r e"]:
        """rows · v, in the precision of the rows."""
        return rows @ self.values.to(rows.dtype)

    def grouped(self, grouping: Grouping) -> "Call":
        """The same call with its units grouped otherwise."""
        return replace(
            self,
            rows=Grouped(self.rows, grouping),
            values=grouping.apply(self.values),
            view=lambda x: grouping.apply(self.view(x)),
            fill=lambda out, product: self.fill_output(out, grouping.undo(product)),
            heads_in_batch=False,
        )

    def split_heads(self, images: int) -> "Call":
        """The same call with heads on their own axis, where they stood in the batch, image by image."""
        heads = self.batch_size // images
        return self.grouped(Grouping(1, images, heads, 1, tuple(range(heads))))

    def fill_output(self, out: Tensor, product: Float[Tensor, "b h n e"]) -> None:
        """Write a product for all queries to a tensor like the call's output."""
        if self.fill is not None:
            self.fill(out, product)
        else:
            self.view(out).copy_(product)  # a view, since it only splits and permutes the output's axes

    def output_rows(self, queries: Queries, tensor: Tensor | None = None) -> Float[Tensor, "b h r e"]:
        """What the call returned for these queries, or their part of another tensor of the output's shape."""
        wanted = queries if isinstance(queries, slice) else list(queries)
        return self.view(self.out if tensor is None else tensor)[..., wanted, :]

    def output_of(self, product: Float[Tensor, "b h n e"]) -> Tensor:
        """The product for all queries as a tensor with the sizes and strides of the call's output."""
        out = torch.empty_strided(self.out.shape, self.out.stride(), dtype=self.out.dtype, device=self.out.device)
        self.fill_output(out, product)
        return out

    def weight_gradients(self, out_gradient: Tensor, queries: Queries) -> Float[Tensor, "b h r m"]:
        """∂y/∂A of these rows, from ∂y/∂out: rows · v is linear in the rows, so ∂y/∂A = ∂y/∂(A v) · vᵀ."""
        gradient = self.output_rows(queries, out_gradient).detach()
        return gradient @ self.values.detach().to(gradient.dtype).mT


def call_of_kernel(out: Tensor, arguments: dict[str, Any]) -> Call:
    """A call of a fused kernel, from its result and its arguments by name: q, k, v of shape (b, h, n, e)."""
    q, k, v = arguments["query"], arguments["key"], arguments["value"]
    if q.shape[1] != k.shape[1]:  # grouped queries: one key and value head serves several query heads
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    bias = arguments.get("attn_mask", arguments.get("attn_bias"))
    if arguments.get("is_causal"):
        bias = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    scale = arguments.get("scale")
    scores = Scores(q, k, bias, q.shape[-1] ** -0.5 if scale is None else scale)
    return Call(out, scores, v, arguments["value"], q.shape[-2], lambda x: x)


def call_of_product(
    out: Tensor, weights: Tensor, values: Tensor, axes: Sequence[list[int]], known: Axes, transposed: bool
) -> Call:
    """A product of weights (b, n, m) and values (b, m, e), each without b in a product of matrices.

    `axes` are those of `known` that each axis of the weights runs over: heads and images that were merged for the
    product, and the queries. `transposed` says that the result is (b, e, n).
    """
    sizes = known.sizes
    if values.ndim == 1:  # a product of matrix and vector
        values = values[:, None]
    batch = parts_of(weights.shape[0], axes[0], sizes) if weights.ndim == 3 else []
    rows = parts_of(weights.shape[-2], axes[-2], sizes) or [(-1, 1)]
    # Heads beside the queries are merged with them where all share one head of values. The queries may stand before or
    # behind them; or all of these are queries, as on a map of rows and columns: where the heads stand elsewhere.
    lengths, num_keys = [length for _, length in rows], values.shape[-2]
    at, fits = query_axis(lengths, num_keys)
    row_heads, (queries, num_queries) = [*rows[:at], *rows[at + 1 :]], rows[at]
    # An axis of one, such as a batch of one image, has no place in memory, but one among the axes.
    there = {axis for axis, _ in (*batch, *rows)} | set(axes[-1])
    single = [axis for axis, size in enumerate(sizes) if size == 1 and axis not in there]
    is_map = math.prod(lengths) == num_keys or (not fits and len(batch) > 1)
    if row_heads and num_queries != num_keys and is_map:
        row_heads, num_queries, at = [], math.prod(lengths), 0
    elif single and 0 <= queries < single[-1] < max(axes[-1]) and num_queries != num_keys and not (row_heads and fits):
        row_heads, queries, num_queries, at = rows, single.pop(), 1, len(rows)  # a single query of several heads
    is_chosen = any(size > 1 and axis not in there for axis, size in enumerate(sizes))  # one of several queries
    if queries < 0 and single and not is_chosen:
        single.pop()
    # Images and heads are two axes; others of one are left from how the product was written.
    batch = [*((axis, 1) for axis in single[: max(0, 2 - len(batch) - len(row_heads))]), *batch]
    before = [*batch, *row_heads]
    order = sorted(range(len(before)), key=lambda place: known.rank(before[place][0]))
    sizes_before = [length for _, length in before]

    def apart(x: Tensor, count: int, heads: Sequence[int]) -> Tensor:
        """(b, rows, last) with the axes before the `count` tokens apart, in the model's order."""
        of_rows = [*heads[:at], count, *heads[at:]]
        x = x.reshape(*(length for _, length in batch), *of_rows, x.shape[-1])
        x = x.movedim(len(batch) + at, -2).expand(*sizes_before, -1, -1)
        return x.permute(*order, len(before), len(before) + 1)

    own_heads = [length for _, length in row_heads]

    shape = out.shape  # a product of vectors loses its axes of one in place

    def of_output(x: Tensor) -> Tensor:
        x = x.reshape(shape)
        x = x.mT if transposed else x
        return apart(x if x.ndim == weights.ndim else x[..., None], num_queries, own_heads)

    def fill(x: Tensor, product: Tensor) -> None:
        own = of_output(x)
        own.copy_(product.reshape(own.shape))

    explicit = ExplicitWeights(with_heads(apart(weights, num_queries, own_heads)))
    shared = with_heads(apart(values, num_keys, [1 for _ in row_heads]))
    return Call(out, explicit, shared, values, num_queries, lambda x: with_heads(of_output(x)), len(before) == 1, fill)


def query_axis(lengths: Sequence[int], num_keys: int) -> tuple[int, bool]:
    """Which of several axes are the queries, where heads stand beside them, and whether that is by their number: as
    many as there are keys, or nearly, as where keys of no token were added. Else it is the last axis."""
    for most in (0, MOST_ADDED):
        fitting = [axis for axis, length in enumerate(lengths) if 0 <= num_keys - length <= most]
        if len(fitting) == 1:
            return fitting[0], True
    return len(lengths) - 1, False


def call_of_sum(out: Tensor, weights: Tensor, values: Tensor, keys: int) -> Call:
    """A sum over the axis `keys` of weights times values, two tensors of one shape, expanded where they are alike."""
    is_width = [stride == 0 and size > 1 for stride, size in zip(weights.stride(), weights.shape)]
    is_query = [stride == 0 and size > 1 for stride, size in zip(values.stride(), values.shape)]
    axes = [axis for axis in range(weights.ndim) if axis != keys]
    width = [axis for axis in axes if is_width[axis]]
    queries = [axis for axis in axes if is_query[axis]]
    if queries:
        queries = [queries[query_axis([weights.shape[axis] for axis in queries], weights.shape[keys])[0]]]
    if not queries and len(axes) - len(width) > 2:  # a single query has nothing to repeat the values for
        queries = [axis for axis in axes if axis not in width and weights.shape[axis] == 1][-1:]
    before = [axis for axis in axes if axis not in (*width, *queries)]

    def arrange(x: Tensor, rows: list[int], last: list[int]) -> Tensor:
        """Axes in order, with one for the rows and one for the last, 1 long where there is none."""
        x = x.permute(*before, *rows, *last, *(axis for axis in range(x.ndim) if axis not in (*before, *rows, *last)))
        kept = x.flatten(len(before) + len(rows), len(before) + len(rows) + len(last) - 1) if len(last) > 1 else x
        while kept.ndim > len(before) + len(rows) + bool(last):
            kept = kept[..., 0]
        if not rows:
            kept = kept.unsqueeze(len(before))
        return with_heads(kept if last else kept[..., None])

    def view(x: Tensor) -> Tensor:
        whole = x if x.ndim == weights.ndim else x.unsqueeze(keys)
        return arrange(whole, queries, width)

    explicit = ExplicitWeights(arrange(weights, queries, [keys]))
    return Call(
        out, explicit, arrange(values, [keys], width), values, explicit.weights.shape[-2], view, len(before) == 1
    )


def parts_of(size: int, merged: list[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The axes that one axis of a tensor runs over, each with its length; a single one where they are not known."""
    if len(merged) <= 1:
        return [(merged[0] if merged else -1, size)]
    inner = [(axis, sizes[axis]) for axis in merged[1:]]
    return [(merged[0], size // math.prod(length for _, length in inner)), *inner]


def with_heads(x: Shaped[Tensor, "*b n e"]) -> Shaped[Tensor, "b h n e"]:
    """A tensor with one batch axis and one axis of heads, added where the call had none."""
    return x.flatten(0, -4) if x.ndim > 3 else x.reshape(-1, 1, *x.shape[-2:])


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
