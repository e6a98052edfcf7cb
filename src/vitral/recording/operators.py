"""The operators that a model's functions become, and which of them can be part of attention.

Whatever a model calls and however it passes arguments (`@`, `torch.matmul(input=...)`, any `einsum`, a traced
function), PyTorch turns it into a few operators with one list of arguments each. So attention is looked for there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

FUSED = "_scaled_dot_product_"  # how the names of fused kernels of attention begin
FLEX = "flex_attention"
SOFTMAX = {"_softmax", "_safe_softmax", "_masked_softmax", "softmax"}  # `softmax(..., out=)` arrives by this name
LOG_SOFTMAX = {"_log_softmax", "log_softmax"}
OTHER_SOFTMAX = {"_sparse_softmax", "_sparse_log_softmax"}  # their weights are not followed
# What may make rows that sum to one by hand: e / e.sum(), e * (1 / e.sum()), exp(x - logsumexp(x)).
NORMALISING = {"div", "div_", "mul", "mul_", "exp", "exp_"}
PRODUCTS = {"mm", "bmm", "mv", "addmm", "baddbmm", "addbmm", "addmv", "_sparse_addmm"}
ADDING = {"addmm", "baddbmm", "addbmm", "addmv", "_sparse_addmm"}  # products to which something is added
PROJECTIONS = PRODUCTS | {"convolution"}  # what turns the input into tokens
SUMS = {"add", "add_", "sub", "sub_"}
NOT_LINEAR = {"native_batch_norm", "_native_batch_norm_legit_no_training", "native_layer_norm", "gelu", "relu", "silu"}
REDUCTIONS = {"sum", "mean"}
SAME_AXES = {"clone", "_to_copy", "copy_", "lift_fresh", "native_dropout", "bernoulli_", "cat", "constant_pad_nd"} | {
    *("convolution", "native_batch_norm", "_native_batch_norm_legit_no_training", "native_layer_norm"),
    *("flip", "roll", "index", "index_select", "gather", "tril", "triu", "slice_scatter", "select_scatter"),
}  # besides pointwise operators
# Their results have the shape or type of a tensor, and none of its values.
OF_SHAPE = {f"{what}_like" for what in ("empty", "zeros", "ones", "full", "rand", "randn", "randint")} | {
    f"new_{what}" for what in ("empty", "empty_strided", "zeros", "ones", "full")
}


def name_of(operator: Any) -> str:
    """`bmm` for `aten.bmm.default`; for a higher-order operator its own name."""
    packet = getattr(operator, "overloadpacket", None)
    return str(operator.name()) if packet is None else str(packet.__name__)


def arguments_of(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operator by the names in its schema."""
    schema = getattr(operator, "_schema", None)
    if schema is None:  # a higher-order operator has none
        return {str(place): value for place, value in enumerate(args)} | kwargs
    return {argument.name: value for argument, value in zip(schema.arguments, args)} | kwargs


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Every tensor among arguments or results, in lists and mappings too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(tuple(values.values()))


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor lies in one piece of memory, which a sparse one does not."""
    return tensor.layout is torch.strided


def storage_of(tensor: Tensor) -> int:
    """A number for the memory that a tensor lies in: the same for all of its views, as long as one of them lives."""
    return int(tensor.untyped_storage()._cdata) if has_memory(tensor) else id(tensor)


def keeps_axes(operator: Any, name: str) -> bool:
    """Whether the axes of the result are those of its inputs, counted from the last."""
    return name in SAME_AXES or torch.Tag.pointwise in getattr(operator, "tags", ())


def is_composite(operator: Any) -> bool:
    """Whether an operator is only a name for other operators, such as `linear`."""
    key = "CompositeImplicitAutograd"
    return hasattr(operator, "decompose") and torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key)
