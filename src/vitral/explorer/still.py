"""One picture per image, for readers without JavaScript: what CLS attends to in the last layer.

Axes:  y x pixels   gy gx rows, columns of patches
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import Normalize
from PIL import Image

from vitral.explorer.payload import ExploredImage
from vitral.explorer.pictures import webp
from vitral.explorer.shown_layer import ShownLayer
from vitral.report.colours import DIVERGING, UNIFORM, describe_scales, shade_of
from vitral.report.style import data_uri

SIDE = 448  # pixels of the longer side
MOST_ROWS = 14  # rows and columns of patches whose mean is shown where there is no CLS


@dataclass(frozen=True)
class Still:
    """A picture, its alternative text, and what it shows."""

    content: bytes
    alt: str
    caption: str

    @property
    def uri(self) -> str:
        return data_uri(self.content, "image/webp")


@dataclass(frozen=True)
class StillMap:
    """A map in multiples of uniform attention, whose attention it is, and its image."""

    values: Float[np.ndarray, "gy gx"]
    who: str
    layer: str
    name: str
    answer: str
    pixels: UInt8[np.ndarray, "y x 3"]

    def drawn(self, norm: Normalize) -> Still:
        """The picture with the colours of its page."""
        rows, columns = self.values.shape
        row, column = np.unravel_index(int(self.values.argmax()), self.values.shape)
        shown = f"what {self.who} attends to in the last layer, {self.layer}, heads averaged"
        alt = (
            f"{self.name}: {shown}. Highest at row {row}, column {column} of {rows} rows and {columns} columns of "
            "patches."
        )
        return Still(
            webp(over_image(self.pixels, self.values, norm)),
            alt,
            f"{self.name}: {shown}. The answer: {self.answer}. {describe_scales({UNIFORM: norm})}",
        )


def over_image(pixels: UInt8[np.ndarray, "y x 3"], values: Float[np.ndarray, "gy gx"], norm: Normalize) -> Image.Image:
    """One colour per patch, darkened by the photograph."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    colours = Image.fromarray((DIVERGING(norm(values))[..., :3] * 255).round().astype(np.uint8))
    coloured = np.asarray(colours.resize(size, Image.Resampling.NEAREST), dtype=np.float32)
    light = 1 - shade_of(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)))
    return Image.fromarray((coloured * light[..., None]).round().astype(np.uint8))


def still_map(image: ExploredImage) -> StillMap:
    """What CLS attends to in the last layer of an image, or what its patches do on average."""
    layer = image.layers[-1]
    values, who = mean_values(layer)
    return StillMap(values, who, layer.name, image.label, image.answer, image.pixels)


def mean_values(layer: ShownLayer) -> tuple[Float[np.ndarray, "gy gx"], str]:
    """The map of the layer's first token that is no patch, or the mean of its patches, and whose attention it is."""
    if layer.prefix_queries:
        values = layer.rows(layer.prefix_queries[:1])[:, 0].mean(axis=0)[len(layer.prefix) :]
        first = layer.prefix[0] if layer.prefix else ""
        query = "the query" if layer.own_queries == 1 else "query 0"
        who = query if layer.own_queries else "CLS" if first == "cls" else first
    else:
        patches, who = layer.patch_queries(max(1, max(layer.grid) // MOST_ROWS)), "the mean of the patches"
        rows = layer.rows(patches).mean(axis=0)
        values = np.zeros(layer.grid[0] * layer.grid[1] + 1, np.float32)  # the last place takes what is on padding
        for row, patch in zip(rows, patches):
            np.add.at(values, layer.places_of(patch), row)
        values = values[:-1]
    return (values * values.size / max(float(values.sum()), 1e-30)).reshape(layer.grid), who
