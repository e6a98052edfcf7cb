"""`shapes`: one of eight shapes, anywhere, in any colour; the class is in its outline alone.

All shapes have the same area and the same range of positions, so that nothing but the outline reveals the class.
"""

import math
from functools import partial

import numpy as np

from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import (
    CHUNK,
    REACH,
    SHAPES,
    check_options,
    draw_split,
    edge_opacity,
    paint,
    random_gradient,
    sample_colours,
    shape_coordinates,
    to_bytes,
)


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
    room = (0.5 - 1 / max(size, 8)) / REACH  # the largest side that leaves a pixel between the shape and every border
    rules = {
        "8 <= size <= 512": 8 <= size <= 512,
        "8 <= n <= 10000000": len(SHAPES) <= n <= 10_000_000,
        "0 < smallest <= largest <= 0.5": 0 < smallest <= largest <= 0.5,
        f"largest <= {math.floor(100 * room) / 100} at this size": largest <= room or largest > 0.5,
        "0 <= rotation <= 180": 0 <= rotation <= 180,
        "0 <= contrast <= 0.8": 0 <= contrast <= 0.8,
        "0 <= noise <= 1": 0 <= noise <= 1,
        "0 <= distractors <= 4": 0 <= distractors <= 4,
        "seed >= 0": seed >= 0,
    }
    check_options("shapes", options, rules)

    def chunk(rng: np.random.Generator) -> Split:
        return draw(rng, size, (smallest, largest), rotation, contrast, noise, distractors)

    return Dataset("shapes", tuple(SHAPES), Preprocessing(size=(size, size)), partial(draw_split, chunk, n, seed))


def draw(
    rng: np.random.Generator,
    size: int,
    sides: tuple[float, float],
    rotation: float,
    contrast: float,
    noise: float,
    distractors: int,
) -> Split:
    """Draw `CHUNK` images with equally frequent classes."""
    # Classes are counted out and shuffled rather than drawn, so that all are equally frequent.
    labels = rng.permutation(np.arange(CHUNK) % len(SHAPES))
    side = rng.uniform(*sides, CHUNK).astype(np.float32) * size
    reach = REACH * side + 1  # a pixel stays between the shape and the border, at any rotation
    centre = (reach + rng.random((2, CHUNK)) * (size - 2 * reach)).astype(np.float32)
    angle = np.radians(rng.uniform(-rotation, rotation, CHUNK)).astype(np.float32)
    ground = rng.random((CHUNK, 3), dtype=np.float32)
    colour = sample_colours(rng, ground, contrast)

    image = random_gradient(rng, ground, size)
    mask = np.empty((CHUNK, size, size), bool)
    for label, distance in enumerate(SHAPES.values()):
        members = np.flatnonzero(labels == label)
        u, v = shape_coordinates(size, centre[:, members], angle[members], side[members])
        opacity = edge_opacity(distance(u, v), side[members])
        paint(image, members, opacity, colour[members])
        mask[members] = opacity > 0.5
    for _ in range(distractors):
        add_blobs(rng, image, ground, contrast, centre, reach)
    # Noise comes last and covers shape and background alike, so that it marks neither.
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    factors = {
        "y": centre[1],
        "x": centre[0],
        "side": side,
        "rotation": np.degrees(angle),
        "colour": colour,
        "background": ground,
    }
    return Split(to_bytes(image), labels, mask, factors)


def add_blobs(
    rng: np.random.Generator,
    image: np.ndarray,
    ground: np.ndarray,
    contrast: float,
    centre: np.ndarray,
    reach: np.ndarray,
) -> None:
    """Add a small blob to half of the images, in place, where one of a few tries finds room beside the shape."""
    size, count = image.shape[1], len(image)
    # Smaller than the smallest shape of the default settings.
    radius = rng.uniform(0.05, 0.08, count).astype(np.float32) * size
    place = radius + rng.random((16, 2, count), dtype=np.float32) * (size - 2 * radius)
    free = np.hypot(*(place - centre).swapaxes(0, 1)) > reach + radius
    members = np.flatnonzero(free.any(axis=0) & (rng.random(count) < 0.5))
    position = place[free.argmax(axis=0)[members], :, members].T
    wobble = rng.uniform(0, 2 * np.pi, len(members)).astype(np.float32)
    u, v = shape_coordinates(size, position, wobble, radius[members])
    # A radius that varies three times around makes an outline which is none of the classes.
    outline = 1 + np.float32(0.2) * np.cos(3 * np.arctan2(v, u))
    colour = sample_colours(rng, ground[members], contrast)
    paint(image, members, edge_opacity(np.hypot(u, v) - outline, radius[members]), colour)
