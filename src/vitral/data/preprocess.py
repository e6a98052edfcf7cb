"""What a model's `preprocessing` says, done: to a file's pixels, and to a batch.

Axes:  b batch   y x pixels
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Num, UInt8
from PIL import Image
from torch import Tensor

from vitral.base.errors import ShapeError
from vitral.base.preprocessing import Preprocessing

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601), as Pillow weighs them


def fit(image: UInt8[np.ndarray, "y x 3"], preprocessing: Preprocessing) -> UInt8[np.ndarray, "h w 3"]:
    """Cut the centred window with the shape of `size`, `crop` of the largest there is, and resize it to `size`.

    With a `crop_mode` of "squash" the window has the shape of the image.
    """
    height, width = image.shape[:2]
    target_height, target_width = preprocessing.size
    if (height, width) == preprocessing.size and preprocessing.crop == 1:
        return image
    scales = height / target_height, width / target_width
    down, across = scales if preprocessing.crop_mode == "squash" else (min(scales),) * 2
    half_height, half_width = (
        preprocessing.crop * target_height * down / 2,
        preprocessing.crop * target_width * across / 2,
    )
    left, top = max(0.0, width / 2 - half_width), max(0.0, height / 2 - half_height)  # rounding may give -1e-15
    window = (left, top, min(width, width / 2 + half_width), min(height, height / 2 + half_height))
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    resized = Image.fromarray(image).resize((target_width, target_height), resampling, box=window)
    return np.asarray(resized)


def normalise(pixels: UInt8[Tensor, "b y x 3"], preprocessing: Preprocessing) -> Float[Tensor, "b c y x"]:
    """(pixel / 255 - mean) / std per channel, in float32; for a model of one channel, of the luminance.

    Raises `ShapeError` for a model of another number of channels.
    """
    mean, std = (
        255 * torch.tensor(value, device=pixels.device)[:, None, None]
        for value in (preprocessing.mean, preprocessing.std)
    )
    channels_first = rearrange(as_channels(pixels, len(preprocessing.mean)), "b y x c -> b c y x")
    # In place, on memory laid out as the model reads it: a tenth of the time of the plain formula.
    return channels_first.to(torch.float32, memory_format=torch.contiguous_format).sub_(mean).div_(std)


def as_channels(pixels: UInt8[Tensor, "b y x 3"], channels: int) -> Num[Tensor, "b y x c"]:
    """Colours as they are, or their luminance as the one channel."""
    if channels not in (1, 3):
        raise ShapeError(
            f"The model takes {channels} channels, and an image has three, or its luminance alone. Prepare a tensor "
            f"(batch, {channels}, height, width) of your own for it."
        )
    return pixels if channels == 3 else (pixels.float() @ torch.tensor(LUMINANCE, device=pixels.device))[..., None]


def batch_of(images: list[UInt8[np.ndarray, "_ _ 3"]], preprocessing: Preprocessing) -> Float[Tensor, "b c y x"]:
    """Loaded images of any size as one batch for the model."""
    return normalise(torch.from_numpy(np.stack([fit(image, preprocessing) for image in images])), preprocessing)
