"""`pairs`: two glyphs somewhere, each filling a patch; are they the same? The answer is in neither of them alone.

Glyphs are rows of a Hadamard matrix (Sylvester 1867): each lights half of its 4 x 4 cells, and any two differ in half
of them, so that none is brighter than another or nearer to some than to others. Where they stand and which they are is
drawn alike for both answers: whoever never holds the one against the other is right three times in four at most (see
`tests/laws/test_study_long_range.py`).

Axes:  n images   k the two glyphs   y x pixels   gy gx rows, columns of patches   c cells (4 x 4)
"""

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split, SplitName
from vitral.data.drawing import CHUNK, check_knobs, in_chunks, to_bytes

CELLS = 4  # along each side of a glyph
PAPER, INK = 0.25, 0.75  # grey of what is not lit, and of what is
EVERY = 5  # of so many pairs of places at a distance, the last is kept for the test
MOST = CELLS**2 - 1  # rows of the matrix that are not constant


def pairs(
    size: int = 24, n: int = 100_000, patch: int = 4, glyphs: int = 8, noise: float = 0.1, seed: int = 0
) -> Dataset:
    """`n` training images of `size` x `size` pixels, and 2,000 each to validate and to test.

    The knobs: the side of a `patch`, in pixels, which a glyph fills; so many different `glyphs`; `noise`, its standard
    deviation where the lit differ by 0.5 from the rest. The distance of the two, the larger of rows and columns between
    them, is uniform from 1 to the grid's side less one; a fifth of all pairs of places is seen in the test alone.

    `masks` marks what is lit; `factors` has "glyphs" (n, 2), "places" (n, 2, 2) as rows and columns, and "distance".
    Raises `ConfigError` for values that cannot be drawn.
    """
    knobs = dict(locals())
    rules = {
        "8 <= size <= 512": 8 <= size <= 512,
        "8 <= n <= 10000000": 8 <= n <= 10_000_000,
        "patch in (4, 8, 16)": patch in (4, 8, 16),
        "size a multiple of patch and at least two of them": patch > 0 and size % patch == 0 and size >= 2 * patch,
        f"2 <= glyphs <= {MOST}": 2 <= glyphs <= MOST,
        "0 <= noise <= 1": 0 <= noise <= 1,
        "seed >= 0": seed >= 0,
    }
    check_knobs("pairs", knobs, rules)

    def load(split: SplitName) -> Split:
        places = [at[kept(len(at), split == "test", seed)] for at in by_distance(size // patch)]
        return in_chunks(lambda rng: draw(rng, places, size, patch, glyphs, noise), n, seed, split)

    return Dataset("pairs", ("different", "same"), Preprocessing(size=(size, size)), load)


def alphabet() -> Bool[np.ndarray, "glyphs 4 4"]:
    """Every row but the constant one of the Hadamard matrix of order 16, as cells that are lit."""
    index = np.arange(CELLS**2)
    parity = np.bitwise_count(index[:, None] & index) % 2 == 1
    return parity[1:].reshape(MOST, CELLS, CELLS)


def by_distance(side: int) -> list[Int[np.ndarray, "_ 2 2"]]:
    """All unordered pairs of different places of a grid, for each distance from 1 to `side` - 1."""
    place = np.stack(np.divmod(np.arange(side**2), side), axis=1)
    first, second = np.triu_indices(side**2, 1)
    both = np.stack([place[first], place[second]], axis=1)
    distance = np.abs(both[:, 0] - both[:, 1]).max(axis=1)
    return [both[distance == d] for d in range(1, side)]


def lit(
    places: Int[np.ndarray, "n 2 2"], which: Int[np.ndarray, "n 2"], size: int, patch: int
) -> Bool[np.ndarray, "n y x"]:
    """Which pixels two glyphs light, each at its (row, column) of patches."""
    cells = np.zeros((len(places), size // patch, size // patch, CELLS, CELLS), bool)
    for k in range(2):
        cells[np.arange(len(places)), places[:, k, 0], places[:, k, 1]] = alphabet()[which[:, k]]
    scale = patch // CELLS
    return rearrange(cells, "n gy gx cy cx -> n (gy cy) (gx cx)").repeat(scale, axis=1).repeat(scale, axis=2)


def grey(lit: Bool[np.ndarray, "n y x"]) -> Float[np.ndarray, "n y x 3"]:
    """Ink where it is lit, and paper elsewhere."""
    return np.where(lit, np.float32(INK), np.float32(PAPER))[..., None].repeat(3, axis=3)


def kept(count: int, test: bool, seed: int) -> Int[np.ndarray, " m"]:
    """The pairs of places of a split: every fifth, in an order of the seed's own, is the test's."""
    order = np.random.default_rng([seed, count]).permutation(count)
    held_out = np.arange(count) % EVERY == EVERY - 1
    return order[held_out if test and held_out.any() else ~held_out]


def draw(
    rng: np.random.Generator,
    places: list[Int[np.ndarray, "_ 2 2"]],
    size: int,
    patch: int,
    glyphs: int,
    noise: float,
) -> Split:
    """Draw `CHUNK` images, the answers shared out evenly, at each distance as nearly as it goes."""
    rows = np.arange(CHUNK)
    labels = rng.permutation(rows % 2)
    distance = rng.integers(0, len(places), CHUNK)
    chosen = np.stack([places[d][rng.integers(len(places[d]))] for d in distance])
    chosen = np.where(rng.random((CHUNK, 1, 1)) < 0.5, chosen[:, ::-1], chosen)
    first = rng.integers(0, glyphs, CHUNK)
    second = np.where(labels == 1, first, (first + rng.integers(1, glyphs, CHUNK)) % glyphs)
    which = np.stack([first, second], axis=1)

    mask = lit(chosen, which, size, patch)
    image = grey(mask)
    image += rng.standard_normal((*mask.shape, 1), dtype=np.float32) * np.float32(noise)
    middle = (chosen.mean(axis=1) + 0.5) * patch
    factors = {
        "glyphs": which,
        "places": chosen,
        "distance": distance + 1,
        "y": middle[:, 0],
        "x": middle[:, 1],
        "side": np.full(CHUNK, float(patch)),
        "colour": np.full((CHUNK, 3), INK),
        "background": np.full((CHUNK, 3), PAPER),
    }
    return Split(to_bytes(image), labels, mask, factors)
