"""Where classes meet in a mask, and how near two masks agree on it.

Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", §2.2: the boundary F-score. Overlap
hardly sees a ragged outline of a large object; this sees nothing else.

Axes:  b masks   y x pixels   k classes
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vitral.base.mask_values import IGNORED, NO_CLASS

TOLERANCE = 2  # pixels, in rows and columns, by which two boundaries may differ


def boundary(mask: UInt8[np.ndarray, "b y x"]) -> Bool[np.ndarray, "b y x"]:
    """The pixels beside one of another class; the border of the image and what is ignored make no boundary."""
    found = np.zeros(mask.shape, bool)
    for axis in (1, 2):
        first, second = (mask.take(range(start, mask.shape[axis] - 1 + start), axis) for start in (0, 1))
        differ = (first != second) & (first != IGNORED) & (second != IGNORED)
        before, after = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        found[before] |= differ
        found[after] |= differ
    return found


def boundary_counts(
    first: UInt8[np.ndarray, "b y x"], second: UInt8[np.ndarray, "b y x"], classes: int, tolerance: int = TOLERANCE
) -> tuple[Int[np.ndarray, "b k"], Int[np.ndarray, "b k"]]:
    """The boundary pixels of `first` by class, and how many of them have one of their class in `second` near by."""
    edges = boundary(first)
    # Only the boundaries of the second mask are compared: all else has a value that no class has.
    other = np.where(boundary(second), second, NO_CLASS).astype(np.uint8)
    padded = np.pad(other, ((0, 0), (tolerance, tolerance), (tolerance, tolerance)), constant_values=NO_CLASS)
    near = np.zeros(first.shape, bool)
    _, rows, columns = first.shape
    for down in range(2 * tolerance + 1):
        for right in range(2 * tolerance + 1):
            near |= padded[:, down : down + rows, right : right + columns] == first
    return class_counts(first, edges, classes), class_counts(first, edges & near, classes)


def class_counts(
    mask: UInt8[np.ndarray, "b y x"], chosen: Bool[np.ndarray, "b y x"], classes: int
) -> Int[np.ndarray, "b k"]:
    """How many of the chosen pixels of each mask have each class."""
    image = np.nonzero(chosen)[0]
    pairs = image * classes + mask[chosen]
    return np.bincount(pairs, minlength=len(mask) * classes).reshape(len(mask), classes)
