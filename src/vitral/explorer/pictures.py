"""The pictures of one image in a page: as the model saw it, sharper, and the whole photograph with what was cut out.

Axes:  y x pixels
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.base.preprocessing import Preprocessing
from vitral.data.preprocess import window_of
from vitral.report.style import data_uri

SHARP = 896  # pixels of the longer side of the sharp picture
WHOLE = 240  # of the whole photograph
EXACT = 256  # a model input of at most so many pixels per side is kept without loss
QUALITY = 84  # of WebP, 0 to 100


@dataclass(frozen=True)
class Pictures:
    """WebP images of one photograph.

    seen    as the model saw it
    sharp   the same part of the photograph with more pixels; None if it has no more
    whole   all of the photograph; None if the model saw all of it, or if it is not known
    window  what the model saw of the whole: left, top, right, bottom, as shares of its sides
    """

    seen: bytes
    size: tuple[int, int]
    sharp: bytes | None = None
    whole: bytes | None = None
    window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        def uri(content: bytes | None) -> str | None:
            return None if content is None else data_uri(content, "image/webp")

        sides = {"height": self.size[0], "width": self.size[1]}
        return sides | {
            "seen": uri(self.seen),
            "sharp": uri(self.sharp),
            "whole": uri(self.whole),
            "window": list(self.window),
        }


def pictures_of(
    seen: UInt8[np.ndarray, "y x 3"], photo: UInt8[np.ndarray, "_ _ 3"] | None, preprocessing: Preprocessing
) -> Pictures:
    """The pictures of what the model saw, and of the photograph that it was cut from, where that is known."""
    height, width = seen.shape[:2]
    exact = max(height, width) <= EXACT
    own = webp(Image.fromarray(seen), lossless=exact)
    if photo is None:
        return Pictures(own, (height, width))
    whole = Image.fromarray(photo)
    left, top, right, bottom = box = window_of(photo.shape[:2], preprocessing)
    sharp = None
    scale = SHARP / max(height, width)
    larger = round(width * scale), round(height * scale)
    if right - left > width and bottom - top > height and scale > 1 and len(preprocessing.mean) == 3:
        sharp = webp(whole.resize(larger, Image.Resampling.LANCZOS, box=box))
    share = (left / whole.width, top / whole.height, right / whole.width, bottom / whole.height)
    if min(share[2] - share[0], share[3] - share[1]) > 0.995:
        return Pictures(own, (height, width), sharp)
    whole.thumbnail((WHOLE, WHOLE))
    return Pictures(own, (height, width), sharp, webp(whole), share)


def webp(image: Image.Image, lossless: bool = False) -> bytes:
    content = io.BytesIO()
    image.save(content, "webp", lossless=lossless, quality=QUALITY)
    return content.getvalue()
