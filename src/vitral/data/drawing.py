"""Drawing with signed distances: the outlines, backgrounds and colours that all synthetic data sets share.

Every unit shape has area 1, so that neither size nor the amount of a colour reveals the class. A shape is a signed
distance d(u, v), negative inside: opacity = clip(1/2 - d·side, 0, 1) makes its edge one pixel soft and the mask
(opacity > 1/2) exact.

Axes:  n images   y x pixels   u v right and down in the shape's own, rotated axes
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitral.base.errors import ConfigError
from vitral.data.dataset import Split
from vitral.data.split_table import SplitName

Plane = Float[np.ndarray, "n y x"]
REACH = 0.89  # radius of a disk around the centre that contains every unit shape
CHUNK = 500  # images per seed; a longer data set begins with the images of a shorter one
SPLITS = {"train": 0, "val": 1, "test": 2}
HELD_OUT = 2_000  # images in the validation split, and in the test split
# Ranges of the options that are the same in every data set with that option.
RANGES = {"n": (8, 10_000_000), "rotation": (0, 180), "contrast": (0, 0.8), "noise": (0, 1)}


def rectangle(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def triangle(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) * np.float32(0.8660254) - v * np.float32(0.5), v) - np.float32(0.4387)


def half_disk(u: Plane, v: Plane) -> Plane:
    below = v - np.float32(0.3989)
    return np.maximum(np.hypot(u, below) - np.float32(0.7979), below)


# The numbers make each area 1: for the disk, π·0.5642² = 1. In float32, which halves the time of drawing.
SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disk": lambda u, v: np.hypot(u, v) - np.float32(0.5642),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - np.float32(0.4886)) - np.float32(0.1629),
    "square": lambda u, v: rectangle(u, v, 0.5, 0.5),
    "triangle": triangle,
    "plus": lambda u, v: np.minimum(rectangle(u, v, 0.7001, 0.21), rectangle(u, v, 0.21, 0.7001)),
    "bar": lambda u, v: rectangle(u, v, 0.8333, 0.3),
    "L": lambda u, v: np.minimum(
        rectangle(u + np.float32(0.2673), v, 0.2673, 0.6682), rectangle(u, v - np.float32(0.4009), 0.5345, 0.2673)
    ),
    "half-disk": half_disk,
}


@dataclass(frozen=True)
class Placement:
    """One shape per image: `side` and `centre` (x, y) in pixels, `angle` in radians, and colours (RGB in 0..1)."""

    side: Float[np.ndarray, " n"]
    centre: Float[np.ndarray, "2 n"]
    angle: Float[np.ndarray, " n"]
    colour: Float[np.ndarray, "n 3"]
    background: Float[np.ndarray, "n 3"]

    @property
    def reach(self) -> Float[np.ndarray, " n"]:
        """The radius around each centre that a shape and a pixel beside it need, at any rotation."""
        return REACH * self.side + 1

    def factors(self) -> dict[str, np.ndarray]:
        """What was drawn, by the names that all data sets share; the rotation in degrees."""
        x, y = self.centre
        angle, colours = np.degrees(self.angle), {"colour": self.colour, "background": self.background}
        return {"y": y, "x": x, "side": self.side, "rotation": angle} | colours


def place_shapes(
    rng: np.random.Generator, size: int, sides: tuple[float, float], rotation: float, contrast: float
) -> Placement:
    """Where `CHUNK` images have their shapes: anywhere with a pixel to the border, in any colour off the background's.

    `sides` are the smallest and largest side as fractions of the image's `size`; `rotation` is in degrees either way.
    """
    side = rng.uniform(*sides, CHUNK).astype(np.float32) * size
    reach = REACH * side + 1
    centre = (reach + rng.random((2, CHUNK)) * (size - 2 * reach)).astype(np.float32)
    angle = np.radians(rng.uniform(-rotation, rotation, CHUNK)).astype(np.float32)
    background = rng.random((CHUNK, 3), dtype=np.float32)
    return Placement(side, centre, angle, sample_colours(rng, background, contrast), background)


def shape_opacity(
    labels: Int[np.ndarray, " n"], size: int, centre: np.ndarray, angle: np.ndarray, side: np.ndarray
) -> Plane:
    """The opacity of the shape of each image's class, in images of this size."""
    opacity = np.empty((len(labels), size, size), np.float32)
    # One outline for many images at a time, which is faster than image by image.
    for label, distance in enumerate(SHAPES.values()):
        members = np.flatnonzero(labels == label)
        u, v = shape_coordinates(size, centre[:, members], angle[members], side[members])
        opacity[members] = edge_opacity(distance(u, v), side[members])
    return opacity


def sample_colours(
    rng: np.random.Generator, background: Float[np.ndarray, "n 3"], contrast: float
) -> Float[np.ndarray, "n 3"]:
    """Uniform colours at a distance of at least `contrast` from the background's, by drawing again what is nearer."""
    # Rejection keeps the colours uniform where they are allowed, which moving the near ones away would not.
    colour = rng.random(background.shape, dtype=np.float32)
    while (near := np.linalg.norm(colour - background, axis=1) < contrast).any():
        colour[near] = rng.random((near.sum(), 3), dtype=np.float32)
    return colour


def random_gradient(
    rng: np.random.Generator, colour: Float[np.ndarray, "n 3"], size: int
) -> Float[np.ndarray, "n y x 3"]:
    """A gradient around this colour, in a random direction of the plane and of colour."""
    direction = rng.uniform(0, 2 * np.pi, len(colour)).astype(np.float32)
    change = rng.uniform(-0.15, 0.15, colour.shape).astype(np.float32)
    return gradient(colour, direction, change, size)


def gradient(
    colour: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, " n"], change: Float[np.ndarray, "n 3"], size: int
) -> Float[np.ndarray, "n y x 3"]:
    """This colour in the middle, and a `change` of it from one side to the other along `direction` (radians)."""
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size - np.float32(0.5)
    direction = direction[:, None, None]
    ramp = np.cos(direction) * steps + np.sin(direction) * steps[:, None]
    return colour[:, None, None] + ramp[..., None] * change[:, None, None]


def shape_coordinates(size: int, centre: np.ndarray, angle: np.ndarray, side: np.ndarray) -> tuple[Plane, Plane]:
    """The centre of every pixel in each shape's own axes (u, v), in units of its side."""
    pixel = np.arange(size, dtype=np.float32) + np.float32(0.5)
    right = pixel - centre[0][:, None, None]
    down = pixel[:, None] - centre[1][:, None, None]
    # Rotating and dividing by the side in one step: the shapes are drawn upright and with area 1.
    cos, sin = (np.cos(angle) / side)[:, None, None], (np.sin(angle) / side)[:, None, None]
    return right * cos + down * sin, down * cos - right * sin


def edge_opacity(distance: Plane, side: np.ndarray) -> Plane:
    """1 inside, 0 outside, and in between within half a pixel of the outline; `distance` is in units of `side`."""
    # In pixels, so that the soft edge has the same width at every size.
    return np.clip(np.float32(0.5) - distance * side[:, None, None], 0, 1)


def paint(image: np.ndarray, which: np.ndarray | slice, opacity: Plane, colour: np.ndarray) -> None:
    """Blend a colour into some of the images, in place."""
    image[which] += opacity[..., None] * (colour[:, None, None] - image[which])


def to_bytes(image: Float[np.ndarray, "n y x 3"]) -> UInt8[np.ndarray, "n y x 3"]:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def check_options(
    name: str,
    options: Mapping[str, Any],
    ranges: Mapping[str, tuple[int | float, int | float]],
    rules: Mapping[str, bool],
) -> None:
    """Raise `ConfigError` naming the ranges and rules that are broken, and the options in them."""
    required: dict[str, bool] = {}
    for option, (low, high) in (RANGES | dict(ranges)).items():
        if option in options:
            required[f"{low} <= {option} <= {high}"] = low <= options[option] <= high
    required |= dict(rules) | {"seed >= 0": options["seed"] >= 0}
    if broken := [rule for rule, holds in required.items() if not holds]:
        # Rules are written with the names of the options, so that a message can name the values that break them.
        words = {word for rule in broken for word in rule.split()}
        values = ", ".join(f"{option}={value}" for option, value in options.items() if option in words)
        raise ConfigError(f"{name} cannot be drawn with {values}; required: {' and '.join(broken)}.")


def one_shape_rules(size: int, smallest: float, largest: float) -> dict[str, bool]:
    """The rules for the sides of a shape that has an image of this size to itself."""
    room = (0.5 - 1 / max(size, 8)) / REACH  # the largest side that leaves a pixel between the shape and every border
    return {
        "0 < smallest <= largest <= 0.5": 0 < smallest <= largest <= 0.5,
        f"largest <= {math.floor(100 * room) / 100} at this size": largest <= room or largest > 0.5,
    }


def draw_split(
    draw: Callable[[np.random.Generator], Split],
    n: int,
    seed: int,
    split: SplitName,
    chunk: int = CHUNK,
    held_out: int = HELD_OUT,
) -> Split:
    """A split in chunks: `draw` makes `chunk` images from a generator of their own; splits share no seed.

    `draw` must give each image its class at random: the images stay in the order in which they are drawn.
    """
    count = n if split == "train" else held_out
    seeds = [np.random.SeedSequence([seed, SPLITS[split], start]) for start in range(0, count, chunk)]
    # One generator per chunk, so that the result does not depend on which thread draws first.
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda chunk_seed: draw(np.random.default_rng(chunk_seed)), seeds))
    masks = [part.masks for part in parts if part.masks is not None]
    return Split(
        np.concatenate([part.pixels for part in parts])[:count],
        np.concatenate([part.labels for part in parts])[:count],
        np.concatenate(masks)[:count] if masks else None,
        {name: np.concatenate([part.factors[name] for part in parts])[:count] for name in parts[0].factors},
        source_index=np.arange(count),
    )
