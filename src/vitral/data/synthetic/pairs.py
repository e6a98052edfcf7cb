"""`pairs`: two glyphs, each filling a patch; are they the same? Neither of them alone determines the answer.

Glyphs are rows of a Hadamard matrix (Sylvester 1867): each lights half of its 4 x 4 cells, and any two differ in half
of their cells, so that all are equally bright and equally unlike. Positions and glyphs have the same distribution for
both answers: a model that never compares the two is right in at most three of four images (see
`tests/laws/test_study_long_range.py`).

Axes:  n images   k the two glyphs   y x pixels   gy gx rows, columns of patches   cy cx rows, columns of cells (4 x 4)
"""

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.data.drawing import CHUNK, check_options, draw_split, to_bytes
from vitral.data.split_table import SplitName

CELLS = 4  # cells along each side of a glyph
DARK, LIGHT = 0.25, 0.75  # grey of the background, and of lit cells
EVERY = 5  # one in this many placements at each distance is reserved for the test split
MAX_GLYPHS = CELLS**2 - 1  # rows of the matrix that are not constant


def pairs(
    size: int = 24, n: int = 100_000, patch: int = 4, glyphs: int = 8, noise: float = 0.1, seed: int = 0
) -> Dataset:
    """`n` training images of `size` x `size` pixels, and 2,000 images each for validation and testing.

    Options: `patch` is the side in pixels of a patch, which a glyph fills; `glyphs` is the number of different glyphs;
    `noise` is its standard deviation, where lit cells are 0.5 brighter than the rest. The distance of the two glyphs,
    the larger of the rows and columns between them, is uniform from 1 to the grid's side minus 1. A fifth of all pairs
    of positions occurs in the test split alone, so that pairs cannot be memorised.

    `masks` marks the lit cells; `factors` has "glyphs" (n, 2), "places" (n, 2, 2) as row and column, and "distance".
    Raises `ConfigError` for values that cannot be drawn.
    """
    options = dict(locals())
    rules = {
        "patch in (4, 8, 16)": patch in (4, 8, 16),
        "size a multiple of patch and at least two of them": patch > 0 and size % patch == 0 and size >= 2 * patch,
    }
    check_options("pairs", options, {"size": (8, 512), "glyphs": (2, MAX_GLYPHS)}, rules)

    def load(split: SplitName) -> Split:
        places = [pairs[choose_pairs(len(pairs), split == "test", seed)] for pairs in by_distance(size // patch)]
        return draw_split(lambda rng: draw(rng, places, size, patch, glyphs, noise), n, seed, split)

    return Dataset("pairs", ("different", "same"), Preprocessing(size=(size, size)), load)


def all_glyphs() -> Bool[np.ndarray, "glyphs 4 4"]:
    """Every row but the constant one of the Hadamard matrix of order 16, as lit cells."""
    # Entry (i, j) of Sylvester's matrix is the parity of the bits that i and j have in common.
    index = np.arange(CELLS**2)
    parity = np.bitwise_count(index[:, None] & index) % 2 == 1
    return parity[1:].reshape(MAX_GLYPHS, CELLS, CELLS)


def by_distance(side: int) -> list[Int[np.ndarray, "_ 2 2"]]:
    """All unordered pairs of different positions (row, column) on a grid, for each distance from 1 to `side` - 1."""
    position = np.stack(np.divmod(np.arange(side**2), side), axis=1)
    first, second = np.triu_indices(side**2, 1)
    both = np.stack([position[first], position[second]], axis=1)
    distance = np.abs(both[:, 0] - both[:, 1]).max(axis=1)
    return [both[distance == d] for d in range(1, side)]


def glyph_mask(
    places: Int[np.ndarray, "n 2 2"], which: Int[np.ndarray, "n 2"], size: int, patch: int
) -> Bool[np.ndarray, "n y x"]:
    """The pixels lit by two glyphs, each in the patch at its (row, column)."""
    cells = np.zeros((len(places), size // patch, size // patch, CELLS, CELLS), bool)
    for k in range(2):
        cells[np.arange(len(places)), places[:, k, 0], places[:, k, 1]] = all_glyphs()[which[:, k]]
    scale = patch // CELLS
    return rearrange(cells, "n gy gx cy cx -> n (gy cy) (gx cx)").repeat(scale, axis=1).repeat(scale, axis=2)


def to_grey(mask: Bool[np.ndarray, "n y x"]) -> Float[np.ndarray, "n y x 3"]:
    """Light where the mask is, and dark elsewhere."""
    return np.where(mask, np.float32(LIGHT), np.float32(DARK))[..., None].repeat(3, axis=3)


def choose_pairs(count: int, test: bool, seed: int) -> Int[np.ndarray, " m"]:
    """The indices of a split's pairs of positions: every fifth, in a random order, belongs to the test split."""
    order = np.random.default_rng([seed, count]).permutation(count)
    held_out = np.arange(count) % EVERY == EVERY - 1
    return order[held_out if test and held_out.any() else ~held_out]  # a distance of few pairs reserves none


def draw(
    rng: np.random.Generator, places: list[Int[np.ndarray, "_ 2 2"]], size: int, patch: int, glyphs: int, noise: float
) -> Split:
    """Draw `CHUNK` images with equally frequent answers; the distance is uniform."""
    rows = np.arange(CHUNK)
    labels = rng.permutation(rows % 2)
    distance = rng.integers(0, len(places), CHUNK)
    chosen = np.stack([places[d][rng.integers(len(places[d]))] for d in distance])
    # Pairs are stored in reading order: exchange half of them, so that the first glyph may be anywhere.
    chosen = np.where(rng.random((CHUNK, 1, 1)) < 0.5, chosen[:, ::-1], chosen)
    first = rng.integers(0, glyphs, CHUNK)
    second = np.where(labels == 1, first, (first + rng.integers(1, glyphs, CHUNK)) % glyphs)
    which = np.stack([first, second], axis=1)

    mask = glyph_mask(chosen, which, size, patch)
    image = to_grey(mask)
    image += rng.standard_normal((*mask.shape, 1), dtype=np.float32) * np.float32(noise)
    middle = (chosen.mean(axis=1) + 0.5) * patch
    factors = {
        "glyphs": which,
        "places": chosen,
        "distance": distance + 1,
        "y": middle[:, 0],
        "x": middle[:, 1],
        "side": np.full(CHUNK, float(patch)),
        "colour": np.full((CHUNK, 3), LIGHT),
        "background": np.full((CHUNK, 3), DARK),
    }
    return Split(to_bytes(image), labels, mask, factors)
