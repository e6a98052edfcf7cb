"""Operators that are not PyTorch's own, such as the kernels of a company: whether they mix tokens, as attention does.

What PyTorch's operators compute is known, and attention is found among them. Of another operator (`torch.library`) only
its arguments and results are seen, so it is measured: it runs again with one vector of one argument changed. An
operator that treats each vector by itself, such as a fused norm, then changes one vector of its result. One that
changes more may be attention.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vitral.recording.operators import arguments_of, tensors_in

# The libraries whose operators are known: PyTorch's own, and torchvision's, none of which is attention.
KNOWN_LIBRARIES = {"aten", "prim", "prims", "rngprims", "higher_order", "inductor", "profiler", "torchvision"} | {
    *("quantized", "_quantized", "onednn", "mkldnn", "mkldnn_prepacked", "prepacked", "xnnpack", "sparse"),
    *("c10d", "_c10d_functional", "c10d_functional", "_dtensor", "fsdp", "symm_mem", "static_runtime"),
}


def is_hidden(operator: Any) -> bool:
    """Whether it is not known what an operator computes."""
    return getattr(operator, "namespace", "aten") not in KNOWN_LIBRARIES


def written_by(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that a hidden operator writes its results into."""
    given = arguments_of(operator, args, kwargs)
    names = [one.name for one in operator._schema.arguments if one.alias_info is not None and one.alias_info.is_write]
    return list(tensors_in([given.get(name) for name in names]))


def may_attend(
    operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any, constant: Callable[[Tensor], bool]
) -> bool:
    """Whether a hidden operator mixes the vectors of an argument that depends on the image (not `constant`)."""
    outputs = [one for one in tensors_in(result) if one.is_floating_point()]
    tensors = [one for one in tensors_in((args, kwargs)) if one.is_floating_point() and one.ndim and one.numel()]
    given = [one for one in tensors if not constant(one)]
    if written_by(operator, args, kwargs):  # it cannot run again
        return bool(given)
    if not (given and outputs):
        return False
    # The last argument first: those of attention are most often q, k and v, and a change of q moves one vector only.
    return any(mixes(operator, args, kwargs, outputs[0], one) for one in reversed(given))


def mixes(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], output: Tensor, argument: Tensor) -> bool:
    """Whether a change of the last vector of an argument changes more than one vector of the operator's result."""
    changed = argument.detach().clone(memory_format=torch.contiguous_format)
    vector = changed.view(-1, changed.shape[-1])[-1]
    # Not the same for all values: a norm would take it away again.
    vector += torch.linspace(-1, 2, len(vector), dtype=vector.dtype, device=vector.device) * (1 + vector.abs().max())
    try:
        again = operator(*tree_map(lambda one: changed if one is argument else one, tuple(args)), **kwargs)
    except Exception:  # a stranger's operator may raise anything
        return True
    other = next(one for one in tensors_in(again) if one.is_floating_point())
    if other.shape != output.shape or output.ndim < 2:
        return True
    return int((other != output).any(dim=-1).sum()) > 1
