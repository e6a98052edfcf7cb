"""`blur`: each image is blurred, from not at all to a Gaussian of a sixteenth of its side.

For images whose outlines tell the class: fine texture comes and goes (Hermann et al. 2020, "The Origins and Prevalence
of Texture Bias", §5).

Axes:  b images   c channels   y x pixels   i j pixels along a side
"""

import torch
from jaxtyping import Float
from torch import Tensor


def blur(images: Float[Tensor, "b c y x"], seed: int) -> Float[Tensor, "b c y x"]:
    """Each image by its own amount."""
    most = min(images.shape[-2:]) / 16
    return blurred(images, most * torch.rand(len(images), generator=torch.Generator().manual_seed(seed)))


def blurred(images: Float[Tensor, "b c y x"], width: Float[Tensor, " b"]) -> Float[Tensor, "b c y x"]:
    """Gaussian means of these deviations, in pixels, over what is in the image."""
    down, right = (means(side, width).to(images) for side in images.shape[-2:])
    return torch.einsum("biy,bcyx,bjx->bcij", down, images, right)


def means(side: int, width: Float[Tensor, " b"]) -> Float[Tensor, "b i j"]:
    """How much pixel j of a side counts for pixel i."""
    place = torch.arange(side, dtype=torch.float32)
    apart = (place - place[:, None]) / width.clamp_min(1e-3)[:, None, None]
    return torch.softmax(-(apart**2) / 2, dim=2)
