"""`colour_jitter`: changes brightness, contrast and saturation of each image, each by a factor of 0.6 to 1.4.

For photographs under different light and from different cameras (Howard 2013, "Some Improvements on Deep Convolutional
Neural Network Based Image Classification", §2.2). The hue stays.

Axes:  b images   c channels   y x pixels
"""

import torch
from einops import rearrange

from vitral.data.augment import Images, Masks
from vitral.data.operations.crop import uniform
from vitral.data.preprocess import LUMINANCE

STRENGTH = 0.4


def colour_jitter(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Brightness first, then contrast around the mean luminance, then saturation around each pixel's luminance.

    All three are linear in the colours, so they are one matrix per image, and only their result is rounded and cut off
    at black and white.
    """
    factors = uniform((len(images), 3), 1 - STRENGTH, 1 + STRENGTH, generator)
    luminance = torch.tensor(LUMINANCE)
    changed = torch.empty_like(images)
    for index, (brightness, contrast, saturation) in enumerate(factors.tolist()):
        pixels = rearrange(images[index].contiguous(), "c y x -> c (y x)").float()
        offset = (1 - contrast) * brightness * (luminance @ pixels.mean(dim=1))
        colours = saturation * torch.eye(3) + (1 - saturation) * luminance  # a row per colour of the result
        pixels = torch.addmm(offset, brightness * contrast * colours, pixels).round_().clamp_(0, 255)
        changed[index] = rearrange(pixels, "c (y x) -> c y x", y=images.shape[2])
    return changed, masks
