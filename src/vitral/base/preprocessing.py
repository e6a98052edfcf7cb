"""How an image becomes a model's input; it travels with every model, so that training and use cannot differ."""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
CropMode = Literal["center", "squash"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize so that `crop` of the image fills `size`, cut out the centre, then (pixel / 255 - mean) / std per channel.

    `size` is (height, width) in pixels; `crop` is the fraction of the shorter side that is kept, in (0, 1]. With a
    `crop_mode` of "squash" it is the fraction of both sides, and the image does not keep its shape.

    `mean` and `std` have a number for each channel that the model takes: three are red, green and blue, and one is the
    luminance. An image has no others.
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 1.0
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    crop_mode: CropMode = "center"


def plain(size: tuple[int, int], channels: int) -> Preprocessing:
    """Whole images, pixels from -1 to 1 in so many channels."""
    return Preprocessing(size, mean=(0.5,) * channels, std=(0.5,) * channels)
