"""`scenes`: several shapes that hide each other, with the exact class of every pixel; for segmentation.

Colours carry no meaning and all shapes have the same area, so that only outlines tell the classes apart, and a pixel
alone tells nothing. What is painted later hides what lies below it.

Axes:  n scenes   k objects   m chosen objects   y x pixels   v u rows, columns of a window
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from vitral.base.preprocessing import Preprocessing
from vitral.data import drawing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import REACH, SHAPES, draw_split, to_bytes

HELD_OUT = 600  # scenes in the validation split, and in the test split
PIXELS = 1 << 20  # in the scenes of one chunk
TRIES = 16  # places among which an object takes the first that is free enough
MOST = 40  # objects in a scene


def scenes(
    size: int = 128,
    n: int = 10_000,
    fewest: int = 3,
    most: int = 8,
    smallest: float = 0.19,
    largest: float = 0.375,
    rotation: float = 15.0,
    occlusion: float = 0.5,
    contrast: float = 0.5,
    noise: float = 0.04,
    held_out: int = HELD_OUT,
    seed: int = 0,
) -> Dataset:
    """`n` training scenes of `size` x `size` pixels, and `held_out` scenes each for validation and testing.

    A scene has between `fewest` and `most` objects. The square root of an object's area, as a fraction of the image's
    side, is between `smallest` and `largest`; `rotation` is the largest angle, in degrees either way. `occlusion` in
    [0, 1] is how near objects may come to each other: at 0 they keep apart where there is room, at 1 they lie anywhere.
    `contrast` is the smallest distance between the colours (RGB in 0..1) of an object and the background; `noise` is
    its standard deviation.

    A split's `labels` are the class of each pixel, 0 for the background; `factors["instances"]` has the number of the
    object that each pixel belongs to, counted from 1 in the order of painting.

    Raises `ConfigError` for values that cannot be drawn.
    """
    options = dict(locals())
    ranges = {"size": (16, 2048), "occlusion": (0, 1), "held_out": (8, 100_000)}
    rules = drawing.one_shape_rules(size, smallest, largest)
    rules |= {f"1 <= fewest <= most <= {MOST}": 1 <= fewest <= most <= MOST}
    drawing.check_options("scenes", options, ranges, rules)

    def draw(rng: np.random.Generator) -> Split:
        """Draw as many scenes as a chunk has."""
        count = chunk
        background = rng.random((count, 3), dtype=np.float32)
        image = drawing.random_gradient(rng, background, size)
        labels, instances = (np.zeros((count, size, size), np.uint8) for _ in range(2))
        objects = rng.integers(fewest, most + 1, count)
        side = rng.uniform(smallest, largest, (count, most)).astype(np.float32) * size
        centre = place_apart(rng, side, size, 1 - occlusion)
        angle = np.radians(rng.uniform(-rotation, rotation, (count, most))).astype(np.float32)
        kind = rng.integers(0, len(SHAPES), (count, most))
        for number in range(most):
            colour = drawing.sample_colours(rng, background, contrast)
            for shape in range(len(SHAPES)):
                chosen = np.flatnonzero((objects > number) & (kind[:, number] == shape))
                if len(chosen):
                    one = Objects(
                        chosen, centre[chosen, number], angle[chosen, number], side[chosen, number], colour[chosen]
                    )
                    paint_objects(image, labels, instances, one, shape, number + 1)
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
        return Split(to_bytes(image), labels, factors={"instances": instances, "objects": objects})

    chunk = max(1, PIXELS // size**2)
    return Dataset(
        "scenes",
        ("background", *SHAPES),
        Preprocessing(size=(size, size)),
        partial(draw_split, draw, n, seed, chunk=chunk, held_out=held_out),
        "segmentation",
    )


@dataclass(frozen=True)
class Objects:
    """One object in each of some scenes: which scene, `centre` (x, y) and `side` in pixels, `angle` in radians."""

    scene: Int[np.ndarray, " m"]
    centre: Float[np.ndarray, "m 2"]
    angle: Float[np.ndarray, " m"]
    side: Float[np.ndarray, " m"]
    colour: Float[np.ndarray, "m 3"]


def place_apart(
    rng: np.random.Generator, side: Float[np.ndarray, "n k"], size: int, spacing: float
) -> Float[np.ndarray, "n k 2"]:
    """Centres (x, y), a pixel from the border, in a random order of which no object is a part.

    Two objects are apart by `spacing` times the distance at which squares of their sides touch along a diagonal,
    where one of `TRIES` places is so far from all earlier objects; else the object takes the farthest of these places.
    """
    count, objects = side.shape
    centre = np.empty((count, objects, 2), np.float32)
    for number in range(objects):
        reach = (REACH * side[:, number] + 1)[:, None, None]
        tried = reach + rng.random((count, TRIES, 2), dtype=np.float32) * (size - 2 * reach)
        before = centre[:, :number]
        gap = np.linalg.norm(tried[:, :, None] - before[:, None], axis=-1)
        gap -= np.float32(spacing * math.sqrt(0.5)) * (side[:, None, number, None] + side[:, None, :number])
        nearest = gap.min(axis=2, initial=np.inf)
        free = nearest >= 0
        chosen = np.where(free.any(axis=1), free.argmax(axis=1), nearest.argmax(axis=1))
        centre[:, number] = tried[np.arange(count), chosen]
    return centre


def paint_objects(
    image: Float[np.ndarray, "n y x 3"],
    labels: np.ndarray,
    instances: np.ndarray,
    objects: Objects,
    shape: int,
    number: int,
) -> None:
    """Paint one object of this shape into each of some scenes, in place, with its class and its number."""
    size = image.shape[1]
    # Only a window around each object is touched: most of a large scene is background.
    window = min(size, 2 * math.ceil(float(REACH * objects.side.max()) + 1) + 1)
    corner = np.clip(np.round(objects.centre).astype(int) - window // 2, 0, size - window)
    u, v = drawing.shape_coordinates(window, (objects.centre - corner).T, objects.angle, objects.side)
    opacity = drawing.edge_opacity(list(SHAPES.values())[shape](u, v), objects.side)
    covered = opacity > 0.5
    # Object by object: slices are views, where indices of all windows at once would copy them there and back.
    for place, (column, row) in enumerate(corner):
        within = objects.scene[place], slice(row, row + window), slice(column, column + window)
        below, own = image[within], opacity[place]
        below += own[..., None] * (objects.colour[place] - below)
        np.putmask(labels[within], covered[place], np.uint8(shape + 1))
        np.putmask(instances[within], covered[place], np.uint8(number))
