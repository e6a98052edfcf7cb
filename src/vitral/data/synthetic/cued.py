"""`cued`: several shapes, each with a dot in its middle; the label is the class of the one whose dot is white.

All shapes are drawn by the same law, and the others' dots are the white one with black and white exchanged, so that no
colour, size or edge is stronger on the shape that counts: only it can be right to look at, and a map that shows every
shape alike is wrong on most of them. Each image can be drawn again without one of its shapes (`without`) or with the
white dot on another (`remarked`), everything else the same to the last pixel.

Axes:  n images   k shapes of an image   y x pixels
"""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import (
    CHUNK,
    REACH,
    SHAPES,
    check_knobs,
    differing,
    gradient,
    in_chunks,
    opacity_of,
    own_axes,
    paint,
    to_bytes,
)

DOT = 0.036  # its radius as a fraction of the image's side; the rim around it is half as wide
PACKED = {2: 0.285, 3: 0.245, 4: 0.24}  # radius of so many disks that fit a square of side 1 with a little room
TRIES = 32  # places tried for a shape before its image begins anew

Factors = Mapping[str, np.ndarray]


def cued(
    size: int = 48,
    n: int = 100_000,
    objects: int = 3,
    smallest: float = 0.2,
    largest: float = 0.25,
    rotation: float = 15.0,
    contrast: float = 0.5,
    noise: float = 0.04,
    seed: int = 0,
) -> Dataset:
    """`n` training images of `size` x `size` pixels, and 2,000 each to validate and to test.

    The knobs: so many `objects` of different classes; the side of a square of a shape's area, as a fraction of the
    image's, between `smallest` and `largest`; `rotation` up to so many degrees either way; `contrast`, the least
    distance between the colours (RGB in 0..1) of a shape and the background; `noise`, its standard deviation.

    `masks` marks the shape that counts, and `factors` holds what `without`, `remarked` and `objects_of` draw again.
    Raises `ConfigError` for values that cannot be drawn.
    """
    knobs = dict(locals())
    room = math.floor(100 * (PACKED.get(objects, 0.245) - 1 / max(size, 16)) / REACH) / 100
    rules = {
        "16 <= size <= 512": 16 <= size <= 512,
        "8 <= n <= 10000000": len(SHAPES) <= n <= 10_000_000,
        "2 <= objects <= 4": 2 <= objects <= 4,
        "0 < smallest <= largest": 0 < smallest <= largest,
        f"largest <= {room} for so many objects at this size": largest <= room,
        "0 <= rotation <= 180": 0 <= rotation <= 180,
        "0 <= contrast <= 0.8": 0 <= contrast <= 0.8,
        "0 <= noise <= 1": 0 <= noise <= 1,
        "seed >= 0": seed >= 0,
    }
    check_knobs("cued", knobs, rules)

    def chunk(rng: np.random.Generator) -> Split:
        return drawn(scenes(rng, size, objects, (smallest, largest), rotation, contrast, noise), size)

    return Dataset("cued", tuple(SHAPES), Preprocessing(size=(size, size)), partial(in_chunks, chunk, n, seed))


def without(split: Split, which: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n y x 3"]:
    """The images without one of their shapes (0 is the first drawn) and its dot."""
    count, objects = split.factors["each class"].shape
    present = np.ones((count, objects), bool)
    present[np.arange(count), which] = False
    return render(split.factors, present, split.pixels.shape[1])[0]


def remarked(split: Split, which: Int[np.ndarray, " n"]) -> Split:
    """The same images with the white dot on another of their shapes; labels and masks follow it."""
    return drawn(dict(split.factors) | {"marked": np.asarray(which)}, split.pixels.shape[1])


def objects_of(split: Split) -> Bool[np.ndarray, "n k y x"]:
    """The mask of every shape."""
    present = np.ones(split.factors["each class"].shape, bool)
    return render(split.factors, present, split.pixels.shape[1])[1]


def scenes(
    rng: np.random.Generator,
    size: int,
    objects: int,
    sides: tuple[float, float],
    rotation: float,
    contrast: float,
    noise: float,
) -> Factors:
    """What `CHUNK` images show; the classes of the marked shapes are shared out evenly."""
    marked = rng.integers(0, objects, CHUNK)
    label = rng.permutation(np.arange(CHUNK) % len(SHAPES))
    steps = rng.random((CHUNK, len(SHAPES) - 1)).argsort(axis=1)[:, :objects] + 1
    classes = (label[:, None] + steps) % len(SHAPES)  # all different from the label and from each other
    classes[np.arange(CHUNK), marked] = label
    side = rng.uniform(*sides, (CHUNK, objects)).astype(np.float32) * size
    paper = rng.random((CHUNK, 3), dtype=np.float32)
    return {
        "each class": classes,
        "marked": marked,
        "each side": side,
        "each centre": places(rng, size, REACH * side + 1),
        "each rotation": rng.uniform(-rotation, rotation, (CHUNK, objects)).astype(np.float32),
        "each colour": np.stack([differing(rng, paper, contrast) for _ in range(objects)], axis=1),
        "background": paper,
        "heading": rng.uniform(0, 2 * np.pi, CHUNK).astype(np.float32),
        "change": rng.uniform(-0.15, 0.15, (CHUNK, 3)).astype(np.float32),
        "noise": np.full(CHUNK, noise, np.float32),
        "noise seed": rng.integers(0, 2**63, CHUNK),
    }


def places(rng: np.random.Generator, size: int, reach: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k 2"]:
    """Centres (x, y) of disks of these radii that neither overlap nor leave the image; uniform where there is room."""
    count, objects = reach.shape
    centre = np.full((count, objects, 2), np.nan, np.float32)
    while (todo := np.flatnonzero(np.isnan(centre).any(axis=(1, 2)))).size:
        centre[todo] = np.nan
        for place in range(objects):
            own = reach[todo, place, None, None]
            tried = own + rng.random((len(todo), TRIES, 2), dtype=np.float32) * (size - 2 * own)
            apart = np.linalg.norm(tried[:, :, None] - centre[todo, None, :place], axis=-1)
            free = (apart >= own[..., 0, None] + reach[todo, None, :place]).all(axis=-1)
            chosen = tried[np.arange(len(todo)), free.argmax(axis=1)]
            centre[todo, place] = np.where(free.any(axis=1)[:, None], chosen, np.nan)
    return centre


def drawn(scene: Factors, size: int) -> Split:
    """A split of what a scene says; the factors of the shape that counts are named as in `shapes`."""
    count = len(scene["marked"])
    rows = np.arange(count), scene["marked"]
    pixels, masks = render(scene, np.ones(scene["each class"].shape, bool), size)
    own = {name: scene[f"each {name}"][rows] for name in ("side", "rotation", "colour")}
    x, y = scene["each centre"][rows].T
    return Split(pixels, scene["each class"][rows], masks[rows], dict(scene) | own | {"y": y, "x": x})


def render(
    scene: Factors, present: Bool[np.ndarray, "n k"], size: int
) -> tuple[UInt8[np.ndarray, "n y x 3"], Bool[np.ndarray, "n k y x"]]:
    """The images of a scene with the shapes that are `present`, and a mask of each of those."""
    count, objects = present.shape
    image = gradient(scene["background"], scene["heading"], scene["change"], size)
    masks = np.zeros((count, objects, size, size), bool)
    for place in range(objects):
        for label, distance in enumerate(SHAPES.values()):
            mine = np.flatnonzero((scene["each class"][:, place] == label) & present[:, place])
            side = scene["each side"][mine, place]
            angle = np.radians(scene["each rotation"][mine, place])
            u, v = own_axes(size, scene["each centre"][mine, place].T, angle, side)
            opacity = opacity_of(distance(u, v), side)
            paint(image, mine, opacity, scene["each colour"][mine, place])
            masks[mine, place] = opacity > 0.5
        for white in (False, True):
            mine = np.flatnonzero(present[:, place] & ((scene["marked"] == place) == white))
            add_dot(image, mine, scene["each centre"][mine, place], DOT * size, white)
    for own, noise, seed in zip(image, scene["noise"], scene["noise seed"]):
        own += np.random.default_rng(seed).standard_normal(own.shape, dtype=np.float32) * noise
    return to_bytes(image), masks


def add_dot(
    image: Float[np.ndarray, "n y x 3"],
    which: Int[np.ndarray, " m"],
    centre: Float[np.ndarray, "m 2"],
    radius: float,
    white: bool,
) -> None:
    """A white dot with a black rim, or a black one with a white rim, in place."""
    for colour, wide in ((float(not white), 1.5 * radius), (float(white), radius)):
        side = np.full(len(which), wide, np.float32)
        u, v = own_axes(image.shape[1], centre.T, np.zeros_like(side), side)
        paint(image, which, opacity_of(np.hypot(u, v) - 1, side), np.full((len(which), 3), colour, np.float32))
