"""Weights that were stored as whole numbers or 8-bit floats, with their scales: read where one product gives them back.

    weight = (stored - zero point) · scale        one scale for all, or one per output

Formats that pack several numbers into a byte, or whose scales have blocks, are refused.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitral.base.errors import StoreError

EIGHT_BITS = (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = ("weight_scale", "scale_weight")  # of one weight, beside it
BITSANDBYTES, LARGEST = "SCB", 127  # the largest of each row, which its 8-bit format stores as 127
ZERO = "weight_zero_point"
OTHERS = ("weight_format", "input_scale", "scale_input", "input_zero_point")  # of activations, or a tag
# Last words of names in formats that pack numbers, and whose they are.
PACKED = {"qweight": "GPTQ or AWQ", "absmax": "bitsandbytes' 4 bits", "weight_packed": "compressed-tensors"}
PACKED |= {"weight_scale_inv": "float8 in blocks", "_packed_params": "PyTorch's quantised layers"}
WAY_OUT = (
    "Supported: float16, bfloat16, float32, float64, and 8 bits with one scale, or one per output. Save it dequantised "
    "with the library that wrote it (transformers: model.dequantize(); model.save_pretrained('float')), or load the "
    "checkpoint that it was made from."
)


def dequantise(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors of real numbers, and what was done in words. Raises `StoreError` where the file does not show how."""
    for name in tensors:
        if (kind := PACKED.get(name.rpartition(".")[2])) is not None:
            raise StoreError(f"{path} is quantised ({kind}: {name}), which Vitral does not read. {WAY_OUT}")
    found = {name: each.dequantize() if each.is_quantized else each for name, each in tensors.items()}
    used: set[str] = set()
    done = [name for name, each in tensors.items() if each.is_quantized]
    for name, stored in found.items():
        if stored.dtype in EIGHT_BITS and name.endswith("weight"):
            layer = name.removesuffix("weight")
            found[name] = restore(name, stored, found, path)
            used |= {layer + word for word in (*SCALES, BITSANDBYTES, ZERO, *OTHERS)} & found.keys()
            done.append(name)
    if not done:
        return dict(tensors), ()
    rounded = " and activations, which its library rounds as well, stay as they are" if used_for_inputs(used) else ""
    words = f"{len(done)} weights of 8 bits multiplied by their scales{rounded}"
    return {name: each for name, each in found.items() if name not in used}, (words,)


def used_for_inputs(names: set[str]) -> bool:
    """Whether a file also says how its library rounds activations; bitsandbytes always does."""
    return any(name.endswith((BITSANDBYTES, *OTHERS[1:])) for name in names)


def restore(name: str, stored: Tensor, tensors: Mapping[str, Tensor], path: Path) -> Tensor:
    """The real numbers of a weight. Raises `StoreError` without a scale, or for one of another shape."""
    layer = name.removesuffix("weight")
    scales = [tensors[layer + word] for word in SCALES if layer + word in tensors]
    if (largest := tensors.get(layer + BITSANDBYTES)) is not None and stored.dtype == torch.int8:
        scales = [largest / LARGEST]
    if len(scales) != 1:
        kind = str(stored.dtype).removeprefix("torch.")
        raise StoreError(f"{path} is quantised: {name} has dtype {kind} and no scale beside it. {WAY_OUT}")
    shape = (-1, *[1] * (stored.ndim - 1))
    zero = tensors.get(layer + ZERO, torch.zeros(1))
    if any(each.numel() not in (1, len(stored)) for each in (scales[0], zero)):
        raise StoreError(
            f"{path} is quantised: {name} has scales of shape {tuple(scales[0].shape)} for a weight of shape "
            f"{tuple(stored.shape)}. {WAY_OUT}"
        )
    return (stored.float() - zero.float().reshape(shape)) * scales[0].float().reshape(shape)
