"""Drawing with signed distances: eight outlines, backgrounds, colours; what every drawn data set is made of.

Every unit shape has area 1, so that neither size nor the amount of a colour gives the class away. Drawn from signed
distances d(u, v), negative inside: opacity = clip(1/2 - d·side, 0, 1) makes edges one pixel soft and the mask
(opacity > 1/2) exact.

Axes:  n images   y x pixels   u v the shape's own right and down
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from vitral.base.errors import ConfigError
from vitral.data.dataset import Split, SplitName

Plane = Float[np.ndarray, "n y x"]
REACH = 0.89  # no unit shape extends further from its centre
CHUNK = 500  # images drawn from one seed: a longer data set begins with the shorter one
SPLITS = {"train": 0, "val": 1, "test": 2}
HELD_OUT = 2_000  # images each to validate and to test


def rectangle(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def triangle(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u) * np.float32(0.8660254) - v * np.float32(0.5), v) - np.float32(0.4387)


def half_disk(u: Plane, v: Plane) -> Plane:
    below = v - np.float32(0.3989)
    return np.maximum(np.hypot(u, below) - np.float32(0.7979), below)


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


def differing(rng: np.random.Generator, paper: Float[np.ndarray, "n 3"], contrast: float) -> Float[np.ndarray, "n 3"]:
    """Uniform colours, drawn again where they are nearer than `contrast` to the paper's."""
    colour = rng.random(paper.shape, dtype=np.float32)
    while (near := np.linalg.norm(colour - paper, axis=1) < contrast).any():
        colour[near] = rng.random((near.sum(), 3), dtype=np.float32)
    return colour


def background(rng: np.random.Generator, paper: Float[np.ndarray, "n 3"], size: int) -> Float[np.ndarray, "n y x 3"]:
    """A gradient around the paper's colour, in a random direction of the plane and of colour."""
    heading = rng.uniform(0, 2 * np.pi, len(paper)).astype(np.float32)
    change = rng.uniform(-0.15, 0.15, paper.shape).astype(np.float32)
    return gradient(paper, heading, change, size)


def gradient(
    paper: Float[np.ndarray, "n 3"], heading: Float[np.ndarray, " n"], change: Float[np.ndarray, "n 3"], size: int
) -> Float[np.ndarray, "n y x 3"]:
    """The paper's colour in the middle, `change` from one side to the other in the direction of `heading` (radians)."""
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size - np.float32(0.5)
    heading = heading[:, None, None]
    ramp = np.cos(heading) * steps + np.sin(heading) * steps[:, None]
    return paper[:, None, None] + ramp[..., None] * change[:, None, None]


def own_axes(size: int, centre: np.ndarray, angle: np.ndarray, side: np.ndarray) -> tuple[Plane, Plane]:
    """Pixel centres in each shape's own axes, in units of its side."""
    pixel = np.arange(size, dtype=np.float32) + np.float32(0.5)
    right = pixel - centre[0][:, None, None]
    down = pixel[:, None] - centre[1][:, None, None]
    cos, sin = (np.cos(angle) / side)[:, None, None], (np.sin(angle) / side)[:, None, None]
    return right * cos + down * sin, down * cos - right * sin


def opacity_of(distance: Plane, side: np.ndarray) -> Plane:
    return np.clip(np.float32(0.5) - distance * side[:, None, None], 0, 1)


def paint(image: np.ndarray, which: np.ndarray, opacity: Plane, colour: np.ndarray) -> None:
    """Lay a colour over some of the images, in place."""
    image[which] += opacity[..., None] * (colour[:, None, None] - image[which])


def to_bytes(image: Float[np.ndarray, "n y x 3"]) -> UInt8[np.ndarray, "n y x 3"]:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def check_knobs(name: str, knobs: Mapping[str, Any], rules: Mapping[str, bool]) -> None:
    """Raise `ConfigError` that names the rules which do not hold and the knobs in them."""
    if broken := [rule for rule, holds in rules.items() if not holds]:
        words = {word for rule in broken for word in rule.split()}
        found = ", ".join(f"{knob}={value}" for knob, value in knobs.items() if knob in words)
        raise ConfigError(f"{name} cannot be drawn with {found}: it takes {' and '.join(broken)}.")


def in_chunks(draw: Callable[[np.random.Generator], Split], n: int, seed: int, split: SplitName) -> Split:
    """A split of drawn images: `draw` gives `CHUNK` of them for a generator of its own; splits share no seed."""
    count = n if split == "train" else HELD_OUT
    seeds = [np.random.SeedSequence([seed, SPLITS[split], start]) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(lambda own: draw(np.random.default_rng(own)), seeds))
    return Split(
        np.concatenate([part.pixels for part in parts])[:count],
        np.concatenate([part.labels for part in parts])[:count],
        np.concatenate([part.masks for part in parts])[:count],
        {name: np.concatenate([part.factors[name] for part in parts])[:count] for name in parts[0].factors},
    )
