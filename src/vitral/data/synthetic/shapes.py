"""`shapes`: one of eight shapes, anywhere, in any colour; only its outline tells the class.

Every unit shape has area 1, so that neither size nor the amount of a colour gives the class away, and all keep the same
distance from the border. Drawn from signed distances d(u, v), negative inside: opacity = clip(1/2 - d·side, 0, 1) makes
edges one pixel soft and the mask (opacity > 1/2) exact.

Axes:  n images   y x pixels   u v the shape's own right and down
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split, SplitName

Plane = Float[np.ndarray, "n y x"]
REACH = 0.89  # no unit shape extends further from its centre
CHUNK = 500  # images drawn from one seed: a longer data set begins with the shorter one
SPLITS = {"train": 0, "val": 1, "test": 2}
HELD_OUT = 2_000


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
    if broken := [rule for rule, holds in rules.items() if not holds]:
        words = {word for rule in broken for word in rule.split()}
        found = ", ".join(f"{name}={value}" for name, value in knobs.items() if name in words)
        raise ConfigError(f"shapes cannot be drawn with {found}: it takes {' and '.join(broken)}.")

    def load(split: SplitName) -> Split:
        count = n if split == "train" else HELD_OUT
        starts = range(0, count, CHUNK)
        seeds = [np.random.SeedSequence([seed, SPLITS[split], start]) for start in starts]

        def chunk(seeds: np.random.SeedSequence) -> Split:
            return draw(np.random.default_rng(seeds), size, (smallest, largest), rotation, contrast, noise, distractors)

        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(chunk, seeds))
        return Split(
            np.concatenate([part.pixels for part in parts])[:count],
            np.concatenate([part.labels for part in parts])[:count],
            np.concatenate([part.masks for part in parts])[:count],
            {name: np.concatenate([part.factors[name] for part in parts])[:count] for name in parts[0].factors},
        )

    return Dataset("shapes", tuple(SHAPES), Preprocessing(size=(size, size)), load)


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
    return Split((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), labels, mask, factors)


def differing(rng: np.random.Generator, paper: Float[np.ndarray, "n 3"], contrast: float) -> Float[np.ndarray, "n 3"]:
    """Uniform colours, drawn again where they are nearer than `contrast` to the paper's."""
    colour = rng.random(paper.shape, dtype=np.float32)
    while (near := np.linalg.norm(colour - paper, axis=1) < contrast).any():
        colour[near] = rng.random((near.sum(), 3), dtype=np.float32)
    return colour


def background(rng: np.random.Generator, paper: Float[np.ndarray, "n 3"], size: int) -> Float[np.ndarray, "n y x 3"]:
    """A gradient around the paper's colour, in a random direction of the plane and of colour."""
    heading = rng.uniform(0, 2 * np.pi, len(paper)).astype(np.float32)[:, None, None]
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size - np.float32(0.5)
    ramp = np.cos(heading) * steps + np.sin(heading) * steps[:, None]
    change = rng.uniform(-0.15, 0.15, paper.shape).astype(np.float32)
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
