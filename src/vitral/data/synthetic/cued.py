"""`cued`: several shapes, each with a dot in its centre; the label is the class of the shape whose dot is white.

All shapes have the same distribution, and the other dots are the white one with black and white exchanged, so that no
colour, size or edge is stronger on the cued shape. Only that shape explains the label, and a map that marks all shapes
alike is wrong on most of them. An image can be drawn again without one of its shapes (`erase_shape`) or with the white
dot on another (`move_cue`), with every other pixel the same.

Axes:  n images   k shapes in an image   y x pixels   m chosen images
"""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitral.base.preprocessing import Preprocessing
from vitral.data import drawing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import CHUNK, REACH, SHAPES, draw_split, to_bytes

DOT = 0.036  # radius of a dot as a fraction of the image's side; its rim is half as wide
DISK_RADIUS = {2: 0.285, 3: 0.245, 4: 0.24}  # of this many disks in a square of side 1, with some room to move
TRIES = 32  # positions tried for a shape before all shapes of its image are placed again

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
    """`n` training images of `size` x `size` pixels, and 2,000 images each for validation and testing.

    Options of difficulty: `objects` is the number of shapes, all of different classes; the square root of a shape's
    area, as a fraction of the image's side, is between `smallest` and `largest`; `rotation` is the largest angle, in
    degrees either way; `contrast` is the smallest distance between the colours (RGB in 0..1) of a shape and the
    background; `noise` is its standard deviation.

    `masks` marks the cued shape, and `factors` has all that `erase_shape`, `move_cue` and `shape_masks` need to draw
    the images again. Raises `ConfigError` for values that cannot be drawn.
    """
    options = dict(locals())
    room = math.floor(100 * (DISK_RADIUS.get(objects, 0.245) - 1 / max(size, 16)) / REACH) / 100
    rules = {
        "0 < smallest <= largest": 0 < smallest <= largest,
        f"largest <= {room} for so many objects at this size": largest <= room,
    }
    drawing.check_options("cued", options, {"size": (16, 512), "objects": (2, 4)}, rules)

    def chunk(rng: np.random.Generator) -> Split:
        scene = sample_scenes(rng, size, objects, (smallest, largest), rotation, contrast)
        return draw({**scene, "noise": np.full(CHUNK, noise, np.float32)}, size)

    return Dataset("cued", tuple(SHAPES), Preprocessing(size=(size, size)), partial(draw_split, chunk, n, seed))


def erase_shape(split: Split, which: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n y x 3"]:
    """The images without the shape of this index (0 is drawn first) and without its dot."""
    count, objects = split.factors["each class"].shape
    present = np.ones((count, objects), bool)
    present[np.arange(count), which] = False
    return render(split.factors, present, split.pixels.shape[1])[0]


def move_cue(split: Split, which: Int[np.ndarray, " n"]) -> Split:
    """The same images with the white dot on the shape of this index; labels and masks follow it."""
    return draw(dict(split.factors) | {"marked": np.asarray(which)}, split.pixels.shape[1])


def shape_masks(split: Split) -> Bool[np.ndarray, "n k y x"]:
    """A mask of every shape in the images."""
    present = np.ones(split.factors["each class"].shape, bool)
    return render(split.factors, present, split.pixels.shape[1])[1]


def sample_scenes(
    rng: np.random.Generator, size: int, objects: int, sides: tuple[float, float], rotation: float, contrast: float
) -> Factors:
    """The factors of `CHUNK` images without their noise; the classes of the cued shapes are equally frequent."""
    # The cued shape is any of them with equal probability: being drawn first or last reveals nothing.
    marked = rng.integers(0, objects, CHUNK)
    label = rng.permutation(np.arange(CHUNK) % len(SHAPES))
    steps = rng.random((CHUNK, len(SHAPES) - 1)).argsort(axis=1)[:, :objects] + 1
    classes = (label[:, None] + steps) % len(SHAPES)  # different steps away from the label, so different classes
    classes[np.arange(CHUNK), marked] = label
    side = rng.uniform(*sides, (CHUNK, objects)).astype(np.float32) * size
    ground = rng.random((CHUNK, 3), dtype=np.float32)
    return {
        "each class": classes,
        "marked": marked,
        "each side": side,
        "each centre": sample_centres(rng, size, REACH * side + 1),
        "each rotation": rng.uniform(-rotation, rotation, (CHUNK, objects)).astype(np.float32),
        "each colour": np.stack([drawing.sample_colours(rng, ground, contrast) for _ in range(objects)], axis=1),
        "background": ground,
        "heading": rng.uniform(0, 2 * np.pi, CHUNK).astype(np.float32),
        "change": rng.uniform(-0.15, 0.15, (CHUNK, 3)).astype(np.float32),
        # The noise is drawn from a seed of its own, so that an image drawn again has the same noise.
        "noise seed": rng.integers(0, 2**63, CHUNK),
    }


def sample_centres(rng: np.random.Generator, size: int, radius: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k 2"]:
    """Centres (x, y) of disks that neither overlap nor leave the image, uniform over what is left free."""
    count, objects = radius.shape
    centre = np.full((count, objects, 2), np.nan, np.float32)
    # Images in which a shape found no room have NaN and start again; several tries at once are faster than a loop.
    while (todo := np.flatnonzero(np.isnan(centre).any(axis=(1, 2)))).size:
        centre[todo] = np.nan
        for k in range(objects):
            own_radius = radius[todo, k, None, None]
            tried = own_radius + rng.random((len(todo), TRIES, 2), dtype=np.float32) * (size - 2 * own_radius)
            distance = np.linalg.norm(tried[:, :, None] - centre[todo, None, :k], axis=-1)
            free = (distance >= own_radius[..., 0, None] + radius[todo, None, :k]).all(axis=-1)
            chosen = tried[np.arange(len(todo)), free.argmax(axis=1)]  # the first free one
            centre[todo, k] = np.where(free.any(axis=1)[:, None], chosen, np.nan)
    return centre


def draw(scene: Factors, size: int) -> Split:
    """The split of these factors; those of the cued shape also have the names that they have in `shapes`."""
    cued_shape = np.arange(len(scene["marked"])), scene["marked"]
    pixels, masks = render(scene, np.ones(scene["each class"].shape, bool), size)
    own = {name: scene[f"each {name}"][cued_shape] for name in ("side", "rotation", "colour")}
    x, y = scene["each centre"][cued_shape].T
    return Split(pixels, scene["each class"][cued_shape], masks[cued_shape], dict(scene) | own | {"y": y, "x": x})


def render(
    scene: Factors, present: Bool[np.ndarray, "n k"], size: int
) -> tuple[UInt8[np.ndarray, "n y x 3"], Bool[np.ndarray, "n k y x"]]:
    """The images of a scene with the shapes that are `present`, and the masks of these."""
    count, objects = present.shape
    image = drawing.gradient(scene["background"], scene["heading"], scene["change"], size)
    masks = np.zeros((count, objects, size, size), bool)
    for k in range(objects):
        shown = np.flatnonzero(present[:, k])
        angle, side = np.radians(scene["each rotation"][shown, k]), scene["each side"][shown, k]
        classes, centre = scene["each class"][shown, k], scene["each centre"][shown, k].T
        opacity = drawing.shape_opacity(classes, size, centre, angle, side)
        drawing.paint(image, shown, opacity, scene["each colour"][shown, k])  # shapes never overlap
        masks[shown, k] = opacity > 0.5
        for white in (False, True):
            members = np.flatnonzero(present[:, k] & ((scene["marked"] == k) == white))
            add_dot(image, members, scene["each centre"][members, k], DOT * size, white)
    # `pixels` is a view of the image, so that the noise is added in place.
    for pixels, noise, seed in zip(image, scene["noise"], scene["noise seed"]):
        pixels += np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32) * noise
    return to_bytes(image), masks


def add_dot(
    image: Float[np.ndarray, "n y x 3"],
    which: Int[np.ndarray, " m"],
    centre: Float[np.ndarray, "m 2"],
    radius: float,
    white: bool,
) -> None:
    """Add a white dot with a black rim, or a black dot with a white rim, in place."""
    for colour, extent in ((float(not white), 1.5 * radius), (float(white), radius)):
        side = np.full(len(which), extent, np.float32)
        u, v = drawing.shape_coordinates(image.shape[1], centre.T, np.zeros_like(side), side)
        opacity = drawing.edge_opacity(np.hypot(u, v) - 1, side)
        drawing.paint(image, which, opacity, np.full((len(which), 3), colour, np.float32))
