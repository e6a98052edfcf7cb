"""`shapes`: one of eight shapes, anywhere, in any colour; only its outline tells the class.

All shapes have the same area and keep the same distance from the border: nothing but the outline gives the class away.
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
    background,
    check_knobs,
    differing,
    in_chunks,
    opacity_of,
    own_axes,
    paint,
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
    """`n` training images of `size` x `size` pixels, and 2,000 each to validate and to test.

    The difficulty's knobs: the side of a square of the shape's area, as a fraction of the image's, between `smallest`
    and `largest`; `rotation` up to so many degrees either way; `contrast`, the least distance between the colours (RGB
    in 0..1) of shape and background; `noise`, its standard deviation; up to so many `distractors`, small blobs that
    belong to no class.

    Raises `ConfigError` for values that cannot be drawn.
    """
    knobs = dict(locals())
    room = (0.5 - 1 / max(size, 8)) / REACH  # the largest side whose shape keeps a pixel away from every border
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
    check_knobs("shapes", knobs, rules)

    def chunk(rng: np.random.Generator) -> Split:
        return draw(rng, size, (smallest, largest), rotation, contrast, noise, distractors)

    return Dataset("shapes", tuple(SHAPES), Preprocessing(size=(size, size)), partial(in_chunks, chunk, n, seed))


def draw(
    rng: np.random.Generator,
    size: int,
    sides: tuple[float, float],
    rotation: float,
    contrast: float,
    noise: float,
    distractors: int,
) -> Split:
    """Draw `CHUNK` images, the classes shared out evenly."""
    labels = rng.permutation(np.arange(CHUNK) % len(SHAPES))
    side = rng.uniform(*sides, CHUNK).astype(np.float32) * size
    reach = REACH * side + 1
    centre = (reach + rng.random((2, CHUNK)) * (size - 2 * reach)).astype(np.float32)
    angle = np.radians(rng.uniform(-rotation, rotation, CHUNK)).astype(np.float32)
    paper = rng.random((CHUNK, 3), dtype=np.float32)
    colour = differing(rng, paper, contrast)

    image = background(rng, paper, size)
    mask = np.empty((CHUNK, size, size), bool)
    for label, distance in enumerate(SHAPES.values()):
        mine = np.flatnonzero(labels == label)
        u, v = own_axes(size, centre[:, mine], angle[mine], side[mine])
        opacity = opacity_of(distance(u, v), side[mine])
        paint(image, mine, opacity, colour[mine])
        mask[mine] = opacity > 0.5
    for _ in range(distractors):
        add_blob(rng, image, paper, contrast, centre, reach)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    factors = {
        "y": centre[1],
        "x": centre[0],
        "side": side,
        "rotation": np.degrees(angle),
        "colour": colour,
        "background": paper,
    }
    return Split(to_bytes(image), labels, mask, factors)


def add_blob(
    rng: np.random.Generator,
    image: np.ndarray,
    paper: np.ndarray,
    contrast: float,
    centre: np.ndarray,
    reach: np.ndarray,
) -> None:
    """A small round blob in half of the images, wherever a few tries find room beside the shape."""
    size, count = image.shape[1], len(image)
    radius = rng.uniform(0.05, 0.08, count).astype(np.float32) * size
    place = radius + rng.random((16, 2, count), dtype=np.float32) * (size - 2 * radius)
    free = np.hypot(*(place - centre).swapaxes(0, 1)) > reach + radius
    mine = np.flatnonzero(free.any(axis=0) & (rng.random(count) < 0.5))
    found = place[free.argmax(axis=0)[mine], :, mine].T
    wobble = rng.uniform(0, 2 * np.pi, len(mine)).astype(np.float32)
    u, v = own_axes(size, found, wobble, radius[mine])
    outline = 1 + np.float32(0.2) * np.cos(3 * np.arctan2(v, u))
    paint(image, mine, opacity_of(np.hypot(u, v) - outline, radius[mine]), differing(rng, paper[mine], contrast))
