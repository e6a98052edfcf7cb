"""What a model says of its images and classes, and the pixels that it saw.

Axes:  b images   c channels   y x pixels
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.preprocessing import Preprocessing
from vitral.base.record import number_classes


def preprocessing_of(model: nn.Module) -> Preprocessing | None:
    """What a model says of how it takes images; None if it does not say, or calls something else by that name."""
    said = getattr(model, "preprocessing", None)
    return said if isinstance(said, Preprocessing) else None


def classes_of(model: nn.Module) -> tuple[str, ...] | None:
    """What a model calls its classes; None if nobody has named them."""
    said = getattr(model, "classes", None)
    if not isinstance(said, list | tuple) or not all(isinstance(name, str) for name in said):
        return None
    return None if tuple(said) == number_classes(len(said)) else tuple(said)


@torch.no_grad()
def pixels_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> UInt8[np.ndarray, "b y x 3"]:
    """The pixels that the model saw, back in 0..255; without a `preprocessing`, from least to largest."""
    if (preprocessing := preprocessing_of(model)) is None:
        least = images.min()
        span = (images.max() - least).clamp_min(1e-12)
        pixels = (images - least).div_(span)
    else:
        mean, std = (
            torch.tensor(value, device=images.device)[:, None, None]
            for value in (preprocessing.mean, preprocessing.std)
        )
        pixels = (images * std).add_(mean)
    pixels = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1]  # of other channels the first are drawn
    pixels = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)  # in place: images may be large
    return rearrange(pixels.expand(-1, 3, -1, -1), "b c y x -> b y x c").cpu().numpy()
