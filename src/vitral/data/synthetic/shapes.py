"""`shapes`: one of eight shapes, anywhere, in any colour; the class is in its outline alone.

All shapes have the same area and the same range of positions, so that nothing but the outline reveals the class.
"""

from functools import partial

import numpy as np

from vitral.base.preprocessing import Preprocessing
from vitral.data import drawing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import CHUNK, SHAPES, Placement, draw_split, to_bytes


def shapes(
    size: int = 48,
    n: int = 50_000,
    smallest: float = 0.28,
    largest: float = 0.38,
    rotation: float = 15.0,
    contrast: float = 0.5,
    noise: float = 0.04,
    distractors: int = 0,
    seed: int = 0,
) -> Dataset:
    """`n` training images of `size` x `size` pixels, and 2,000 images each for validation and testing.

    Options of difficulty: the square root of the shape's area, as a fraction of the image's side, is between `smallest`
    and `largest`; `rotation` is the largest angle, in degrees either way; `contrast` is the smallest distance between
    the colours (RGB in 0..1) of shape and background; `noise` is its standard deviation; `distractors` is the largest
    number of small blobs that belong to no class.

    Raises `ConfigError` for values that cannot be drawn.
    """
    options = dict(locals())
    ranges = {"size": (8, 512), "distractors": (0, 4)}
    drawing.check_options("shapes", options, ranges, drawing.one_shape_rules(size, smallest, largest))

    def draw(rng: np.random.Generator) -> Split:
        """Draw `CHUNK` images with equally frequent classes."""
        # Classes are counted out and shuffled rather than drawn, so that all are equally frequent.
        labels = rng.permutation(np.arange(CHUNK) % len(SHAPES))
        placed = drawing.place_shapes(rng, size, (smallest, largest), rotation, contrast)
        image = drawing.random_gradient(rng, placed.background, size)
        opacity = drawing.shape_opacity(labels, size, placed.centre, placed.angle, placed.side)
        drawing.paint(image, slice(None), opacity, placed.colour)
        for _ in range(distractors):
            add_blob(rng, image, placed, contrast)
        # Noise comes last and covers shape and background alike, so that it marks neither.
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
        return Split(to_bytes(image), labels, opacity > 0.5, placed.factors())

    return Dataset("shapes", tuple(SHAPES), Preprocessing(size=(size, size)), partial(draw_split, draw, n, seed))


def add_blob(rng: np.random.Generator, image: np.ndarray, placed: Placement, contrast: float) -> None:
    """Add a small blob to half of the images, in place, where one of a few tries finds room beside the shape."""
    size, count = image.shape[1], len(image)
    # Smaller than the smallest shape of the default settings.
    radius = rng.uniform(0.05, 0.08, count).astype(np.float32) * size
    place = radius + rng.random((16, 2, count), dtype=np.float32) * (size - 2 * radius)
    free = np.hypot(*(place - placed.centre).swapaxes(0, 1)) > placed.reach + radius
    members = np.flatnonzero(free.any(axis=0) & (rng.random(count) < 0.5))
    position = place[free.argmax(axis=0)[members], :, members].T
    wobble = rng.uniform(0, 2 * np.pi, len(members)).astype(np.float32)
    u, v = drawing.shape_coordinates(size, position, wobble, radius[members])
    # A radius that varies three times around makes an outline which is none of the classes.
    outline = 1 + np.float32(0.2) * np.cos(3 * np.arctan2(v, u))
    colour = drawing.sample_colours(rng, placed.background[members], contrast)
    drawing.paint(image, members, drawing.edge_opacity(np.hypot(u, v) - outline, radius[members]), colour)
