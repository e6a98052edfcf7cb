"""How an image becomes a model's input; stored with every model, so that training and use cannot differ."""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
CropMode = Literal["center", "squash"]


@dataclass(frozen=True)
class Preprocessing:
    """Crop the centre, resize it to `size`, then compute (pixel / 255 - mean) / std per channel.

    `size` is (height, width) in pixels. `crop`, in (0, 1], is the fraction of the shorter side that remains. With a
    `crop_mode` of "squash" it is the fraction of both sides, and the image does not keep its aspect ratio.

    `mean` and `std` have one number per channel of the model: three for red, green and blue, or one for luminance.
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 1.0
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    crop_mode: CropMode = "center"


def plain(size: tuple[int, int], channels: int) -> Preprocessing:
    """No cropping beyond the aspect ratio, and pixels from -1 to 1 in this number of channels."""
    return Preprocessing(size, mean=(0.5,) * channels, std=(0.5,) * channels)
