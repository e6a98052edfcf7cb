"""Rows of attention as tensors, while a model is traced for another runtime.

`watch` checks each row against what the kernel returned, and refuses what differs: a decision about values, which a
graph that is being traced does not have. Here the rows and how far they are off leave with the model's answer, so that
whoever runs the graph can decide. Only what passes through `F.scaled_dot_product_attention` is seen, as in all of
Vitral's models; nothing is hooked or left behind.

Axes:  b images   w windows   h heads   n m query, key tokens   g patches of the image   e width of one head
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitral.base.errors import WatchError
from vitral.recording.calls import Call, Queries, call_of_kernel
from vitral.recording.windows import Windows

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


@dataclass(frozen=True)
class WindowMean:
    """Each token's part in the mean over the tokens of the image, and where each patch stands among all windows'."""

    share: Float[Tensor, "w n"]
    order: Int[Tensor, " g"]

    @classmethod
    def of(cls, windows: Windows) -> "WindowMean":
        """Padding attends too, but is not counted."""
        number = windows.grid[0] * windows.grid[1]
        return cls((windows.places >= 0).float() / number, windows.places.flatten().argsort()[-number:])


class trace_rows(TorchFunctionMode):
    """Inside the block, forms for each call of fused attention the mean row of some of its queries, and its residual.

    `wanted` are the queries of each call, in the order in which the calls run; none for all of them; `WindowMean` for
    all in attention within windows. After the block `rows` are the mean rows (b, h, m), those of windows over the
    patches of the image, and `residuals` how far each is off (b), see `residual_of`.

    Raises `WatchError` where the model attends more often than that.
    """

    def __init__(self, wanted: Sequence[Sequence[int] | WindowMean]):
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
            wanted = self.wanted[len(self.rows)]
            row, residual = row_of_windows(call, wanted) if isinstance(wanted, WindowMean) else mean_row(call, wanted)
            self.rows.append(row)
            self.residuals.append(residual)
        return out


def mean_row(call: Call, wanted: Sequence[int]) -> tuple[Float[Tensor, "b h m"], Float[Tensor, " b"]]:
    """The mean row of some queries, and its residual.

    Both sides of it are linear in the rows, so the mean row, times the values, is the mean of what the queries got.
    """
    queries = as_slice(wanted)
    row = call.rows(queries).mean(dim=2)
    return row, residual_of(call.product(row[:, :, None])[:, :, 0], call.output_rows(queries).mean(dim=2))


def row_of_windows(call: Call, windows: WindowMean) -> tuple[Float[Tensor, "b h g"], Float[Tensor, " b"]]:
    """The mean over the tokens of the image of what they attend to in their windows, per patch, and its residual.

    What is on padding is left out, so that the row may sum to less than one.
    """
    share = windows.share.to(call.out.dtype)[:, None, None]
    inside, values, out = (
        x.unflatten(0, (-1, share.shape[0]))
        for x in (call.rows(slice(None)), call.values, call.output_rows(slice(None)))
    )
    row = share.to(inside.dtype) @ inside
    residual = residual_of(row @ values.to(row.dtype), share @ out)
    return row[..., 0, :].transpose(1, 2).flatten(2)[..., windows.order], residual


def residual_of(found: Float[Tensor, "b *n e"], expected: Float[Tensor, "b *n e"]) -> Float[Tensor, " b"]:
    """How far row · v is, image by image, from what the kernel returned, over the largest value of that."""
    return (found - expected).abs().flatten(1).amax(1) / expected.abs().flatten(1).amax(1).clamp_min(1e-12)


def as_slice(queries: Sequence[int]) -> Queries:
    """Queries as a slice where they follow one another, which a graph reads without copying; all, if none are given."""
    if not queries:
        return slice(None)
    first, last = queries[0], queries[-1]
    return slice(first, last + 1) if list(queries) == list(range(first, last + 1)) else list(queries)
