"""Copy a checkpoint's tensors into a model, with every tensor and every parameter accounted for."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitral.base.errors import StoreError


@torch.no_grad()
def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor], format: str) -> None:
    """Put all tensors into the model, into every parameter but those of a new head.

    Raises `StoreError`, naming the source's `format`, for a tensor that is missing, left over, of another shape, or not
    of real numbers.
    """
    own = model.state_dict()
    # Models without a qkv bias (qkv_bias=False) are ours with a bias of zero: the same function.
    zero_biases = {name for name in own if name.endswith("attn.qkv.bias") and name not in tensors}
    has_head = any(name.startswith("head.") for name in tensors)
    new_head = set() if has_head else {name for name in own if name.startswith("head.")}
    missing = [name for name in own if name not in tensors and name not in zero_biases | new_head]
    extra = [name for name in tensors if name not in own]
    if quantised := [tensor.dtype for tensor in tensors.values() if not tensor.is_floating_point()]:
        raise StoreError(f"dtype {str(quantised[0]).removeprefix('torch.')}: quantised checkpoints are not supported.")
    if missing or extra:
        problems = (("lacks", missing), ("has the unused tensors", extra))
        listed = " and ".join(
            f"{verb} {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}" for verb, found in problems if found
        )
        raise StoreError(f"Read as {format}, the checkpoint {listed}.")
    if wrong := next((name for name in tensors if own[name].shape != tensors[name].shape), None):
        raise StoreError(
            f"{wrong} has shape {tuple(tensors[wrong].shape)} in the checkpoint; the model that the other tensors "
            f"describe has {tuple(own[wrong].shape)}."
        )
    for name in zero_biases:
        own[name].zero_()
    if all(tensor.dtype == torch.float64 for tensor in tensors.values()):
        model.double()  # as it was saved: rounding to single precision would change its outputs
    try:
        model.load_state_dict({**own, **tensors}, strict=True)
    except RuntimeError as error:
        raise StoreError(f"The checkpoint does not fit its own model: {str(error).splitlines()[-1].strip()}") from error
