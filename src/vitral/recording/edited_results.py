"""What a function returns, whose call of attention now has another output, because its weights were edited.

Axes:  b batch   h heads   n query tokens   e channels of a head
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitral.base.errors import WatchError
from vitral.recording.operators import storage_of
from vitral.recording.recognizer import Seen


def changed_result(result: Any, seen: Sequence[Seen], outputs: Sequence[Tensor]) -> Any:
    """What a function returned, whose call of attention now has another output. Raises `WatchError` if it cannot be."""
    if len(seen) == 1 and isinstance(result, Tensor):
        before, after = seen[0].call.out, outputs[0]
        if storage_of(before) == storage_of(result):  # the function only viewed the output
            return after.as_strided(result.shape, result.stride(), result.storage_offset() - before.storage_offset())
    raise WatchError(
        f"The attention of {seen[0].name} cannot be edited while gradients are recorded: use torch.no_grad()."
    )


def projected(result: Any, seen: Sequence[Seen], outputs: Sequence[Tensor], args: Any, kwargs: Any) -> Any:
    """What `multi_head_attention_forward` returns for another output of its attention, which it projects."""
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
    joined_heads = rearrange(seen[0].call.view(outputs[0]), "b h n e -> n b (h e)")
    out = F.linear(joined_heads, given["out_proj_weight"], given["out_proj_bias"])
    return (out.reshape(result[0].shape), result[1])
