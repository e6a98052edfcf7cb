"""`blur`: blurs each image, from not at all to a Gaussian whose deviation is 1/16 of the image's side.

For images whose class is in their outlines: fine texture comes and goes (Hermann et al. 2020, "The Origins and
Prevalence of Texture Bias", §5).

Axes:  b images   c channels   y x pixels   i j pixels along a side
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment import Images, Masks


def blur(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Each image by its own amount; masks stay, since no object moves."""
    largest = min(images.shape[-2:]) / 16
    blurred = gaussian_blur(images.float(), largest * torch.rand(len(images), generator=generator))
    return blurred.round_().byte(), masks


def gaussian_blur(images: Float[Tensor, "b c y x"], deviation: Float[Tensor, " b"]) -> Float[Tensor, "b c y x"]:
    """Blur each image by its own standard deviation in pixels; weights outside the image are left out."""
    down, right = (averaging_weights(side, deviation).to(images) for side in images.shape[-2:])
    return torch.einsum("biy,bcyx,bjx->bcij", down, images, right)


def averaging_weights(side: int, deviation: Float[Tensor, " b"]) -> Float[Tensor, "b i j"]:
    """Weight of pixel j in the blurred pixel i; each row sums to 1."""
    pixel = torch.arange(side, dtype=torch.float32)
    # A softmax of -distance²/2σ² is a Gaussian normalised over the pixels that exist. σ = 0 would divide 0 by 0.
    distance = (pixel - pixel[:, None]) / deviation.clamp_min(1e-3)[:, None, None]
    return torch.softmax(-(distance**2) / 2, dim=2)
