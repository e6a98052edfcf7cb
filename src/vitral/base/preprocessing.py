"""How an image becomes a model's input; it travels with every model, so that training and use cannot differ."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocessing:
    """Resize so that `crop` of the image fills `size`, cut out the centre, then (pixel / 255 - mean) / std per channel.

    `size` is (height, width) in pixels; `crop` is the fraction of the shorter side that is kept, in (0, 1].
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
