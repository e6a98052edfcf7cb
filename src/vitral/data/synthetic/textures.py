"""`textures`: each shape has a texture of its own, so that a model can use either; other sets show which it uses.

In training, the eight shapes and the eight textures go together. With another `cue`, a set of the same seed shows the
shape of one class with the texture of another (as in Geirhos et al. 2019, "ImageNet-Trained CNNs Are Biased Towards
Texture", §2), the shape without a texture, or the texture without a shape. Textures have two tones, each on half of
their area, so that no colour reveals the class.

Axes:  n images   y x pixels
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from vitral.base.preprocessing import Preprocessing
from vitral.data import drawing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import CHUNK, SHAPES, Plane, draw_split, to_bytes

CUES = ("both", "conflict", "shape", "texture")


def stripes(down: int | float, right: int | float) -> Callable[[Plane, Plane, np.random.Generator], Plane]:
    """Stripes that cross this vector at a right angle; its length is the number of stripes per period."""
    return lambda y, x, rng: np.sin(2 * np.pi * (down * y + right * x))


def spots(width: float) -> Callable[[Plane, Plane, np.random.Generator], Plane]:
    """Squares of this width in periods, light or dark at random."""

    def random_squares(y: Plane, x: Plane, rng: np.random.Generator) -> Plane:
        rows, columns = (np.floor(axis / width).astype(int) for axis in (y, x))
        cells = rng.integers(0, 2, (len(y), rows.max() + 1, columns.max() + 1)) - 0.5
        return cells[np.arange(len(y))[:, None, None], rows, columns]

    return random_squares


DIAGONAL = math.sqrt(0.5)
# Rows and columns in periods -> positive for the light tone, negative for the dark.
TEXTURES: dict[str, Callable[[Plane, Plane, np.random.Generator], Plane]] = {
    "stripes lying": stripes(1, 0),
    "stripes standing": stripes(0, 1),
    "stripes falling": stripes(DIAGONAL, -DIAGONAL),
    "stripes rising": stripes(DIAGONAL, DIAGONAL),
    "checks": lambda y, x, rng: np.sin(2 * np.pi * y) * np.sin(2 * np.pi * x),
    "wide stripes": stripes(0.25, 0.25),
    "fine spots": spots(0.25),
    "coarse spots": spots(0.75),
}
assert len(TEXTURES) == len(SHAPES)


def textures(
    size: int = 32,
    n: int = 50_000,
    smallest: float = 0.4,
    largest: float = 0.45,
    rotation: float = 15.0,
    contrast: float = 0.5,
    period: float = 4.0,
    tone: float = 0.2,
    noise: float = 0.02,
    cue: str = "both",
    seed: int = 0,
) -> Dataset:
    """`n` training images of `size` x `size` pixels, and 2,000 images each for validation and testing.

    Options of difficulty: the square root of the shape's area, as a fraction of the image's side, is between `smallest`
    and `largest`; `rotation` is the largest angle of the outline, in degrees either way; `contrast` is the smallest
    distance between the colours (RGB in 0..1) of shape and background; `period` is that of the textures, in pixels;
    `tone` is the difference of their two tones from the shape's colour, in each channel; `noise` is its standard
    deviation. `cue` is what reveals the class: "both", "conflict" (the label is the shape's class, the factor "texture"
    the texture's), "shape" (in one colour), or "texture" (over the whole image).

    The seed determines which texture belongs to which shape, the same for every cue. Raises `ConfigError` for values
    that cannot be drawn.
    """
    options = dict(locals())
    rules = {"0 < tone <= 0.5": 0 < tone <= 0.5, f"cue one of {', '.join(CUES)}": cue in CUES}
    ranges = {"size": (16, 512), "period": (2, 32)}
    drawing.check_options("textures", options, ranges, drawing.one_shape_rules(size, smallest, largest) | rules)
    texture_of_class = np.random.default_rng([seed, len(TEXTURES)]).permutation(len(TEXTURES))

    def draw(rng: np.random.Generator) -> Split:
        """Draw `CHUNK` images with equally frequent classes."""
        labels = rng.permutation(np.arange(CHUNK) % len(SHAPES))
        # Drawn for every cue, needed or not, so that the same seed gives the same shapes in the same places.
        other = (labels + rng.integers(1, len(SHAPES), CHUNK)) % len(SHAPES)
        textured_as = other if cue == "conflict" else labels  # the class whose texture the image has
        placed = drawing.place_shapes(rng, size, (smallest, largest), rotation, contrast)
        number = texture_of_class[textured_as]
        sign = np.zeros((CHUNK, size, size), np.float32) if cue == "shape" else signs(rng, number, size, period)
        filled = placed.colour[:, None, None] + np.float32(tone) * sign[..., None]
        # A texture alone covers the whole image.
        opacity = np.ones((CHUNK, size, size), np.float32)
        if cue != "texture":
            opacity = drawing.shape_opacity(labels, size, placed.centre, placed.angle, placed.side)
        image = drawing.random_gradient(rng, placed.background, size)
        image += opacity[..., None] * (filled - image)
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
        return Split(to_bytes(image), labels, opacity > 0.5, placed.factors() | {"texture": textured_as})

    return Dataset("textures", tuple(SHAPES), Preprocessing(size=(size, size)), partial(draw_split, draw, n, seed))


def signs(rng: np.random.Generator, which: np.ndarray, size: int, period: float) -> Float[np.ndarray, "n y x"]:
    """Each image's texture as -1 and 1, with a random phase, so that no pixel has the same tone in every image."""
    phase = rng.random((2, len(which), 1, 1))
    pixel = (np.arange(size) + 0.5) / period
    y, x = np.broadcast_arrays(phase[0] + pixel[:, None], phase[1] + pixel)
    # Where the texture is negative the tone is dark: a sign per pixel has two tones and no grey between them.
    sign = np.empty((len(which), size, size), np.float32)
    for number, texture in enumerate(TEXTURES.values()):
        members = np.flatnonzero(which == number)
        if len(members):
            sign[members] = np.sign(texture(y[members], x[members], rng))
    return sign
