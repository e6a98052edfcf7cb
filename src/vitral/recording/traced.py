"""Rows of attention as tensors, while a model is traced for another runtime.

`watch` checks each row against what the kernel returned, and refuses what differs: a decision about values, which a
graph that is being traced does not have. Here the rows and how far they are off leave with the model's answer, so that
whoever runs the graph can decide. Only what passes through `F.scaled_dot_product_attention` is seen, as in all of
Vitral's models; nothing is hooked or left behind.

Axes:  b batch   h heads   n m query, key tokens   e width of one head
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitral.base.errors import WatchError
from vitral.recording.calls import Call, Queries, call_of_kernel

# Of F.scaled_dot_product_attention, a built-in function without a signature.
SIGNATURE = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in (
            *(("query", None), ("key", None), ("value", None), ("attn_mask", None), ("dropout_p", 0.0)),
            *(("is_causal", False), ("scale", None), ("enable_gqa", False)),
        )
    ]
)


class trace_rows(TorchFunctionMode):
    """Inside the block, forms for each call of fused attention the mean row of some of its queries, and its residual.

    `wanted` are the queries of each call, in the order in which the calls run; none for all of them. After the block
    `rows` are the mean rows (b, h, m), `residuals` how far each is off (b), see `residual_of`.

    Raises `WatchError` where the model attends more often than that.
    """

    def __init__(self, wanted: Sequence[Sequence[int]]):
        super().__init__()
        self.wanted = wanted
        self.rows: list[Float[Tensor, "b h m"]] = []
        self.residuals: list[Float[Tensor, " b"]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            if len(self.rows) == len(self.wanted):
                raise WatchError(f"The model attends more than {len(self.wanted)} times, once per layer.")
            # Now, while q and k are at hand: a runtime then need not keep them until the end.
            call = call_of_kernel(out, SIGNATURE.bind(*args, **kwargs).arguments)
            queries = as_slice(self.wanted[len(self.rows)])
            row = call.rows(queries).mean(dim=2)
            self.rows.append(row)
            self.residuals.append(residual_of(call, row, queries))
        return out


def residual_of(call: Call, row: Float[Tensor, "b h m"], queries: Queries) -> Float[Tensor, " b"]:
    """How far row · v is from what the kernel returned for these queries, over the largest value of that.

    Both sides are linear in the rows, so the mean row gives the mean of what the queries got.
    """
    expected = call.output_rows(queries).mean(dim=2)
    found = call.product(row[:, :, None])[:, :, 0]
    return (found - expected).abs().amax(dim=(1, 2)) / expected.abs().amax(dim=(1, 2)).clamp_min(1e-12)


def as_slice(queries: Sequence[int]) -> Queries:
    """Queries as a slice where they follow one another, which a graph reads without copying; all, if none are given."""
    if not queries:
        return slice(None)
    first, last = queries[0], queries[-1]
    return slice(first, last + 1) if list(queries) == list(range(first, last + 1)) else list(queries)
