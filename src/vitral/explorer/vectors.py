"""Vectors of tokens as bytes, from which a page computes the cosine similarity of any two of them.

Each vector is scaled to length 1 and turned so that the directions in which the vectors are largest come first. Turning
changes no product. The coordinates are rounded to multiples of one step, the coarsest that keeps every product within
`BOUND`; directions in which all are rounded to zero are left out. A page so has few numbers per token where the vectors
lie in few directions, and always fewer than all products, whose number grows with the square of the tokens.

Axes:  n tokens   d width   r kept directions
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int16

from vitral.base.errors import UsageError
from vitral.explorer.content import Content

BOUND = 0.01  # no similarity, which is between -1 and 1, is off by more
START = 0.01  # the first step that is tried
FEWER = 0.9  # of the step at which the error would just be the bound


@dataclass(frozen=True)
class Vectors:
    """Whole numbers, which the page multiplies by `step`, and the largest error of a product of two vectors."""

    numbers: Int16[np.ndarray, "n r"]
    step: float
    error: float

    @property
    def restored(self) -> Float[np.ndarray, "n r"]:
        return self.numbers * self.step

    @property
    def content(self) -> Content:
        """The low bytes of all numbers, then the high bytes; along directions, then tokens."""
        numbers = self.numbers.T.astype("<u2")
        return Content.of((numbers & 255).astype(np.uint8).tobytes() + (numbers >> 8).astype(np.uint8).tobytes())

    def to_json(self, name: str) -> dict[str, Any]:
        return self.content.to_json(name) | {"directions": self.numbers.shape[1], "step": self.step}


def encode_vectors(vectors: Float[np.ndarray, "n d"]) -> Vectors:
    """Vectors for a page. A vector of zeros is like no other. Raises `UsageError` for values that are not finite.

    >>> encode_vectors(np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])).numbers.shape
    (3, 2)
    """
    if not np.isfinite(vectors).all():
        raise UsageError("Some tokens have values that are not finite.")
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-30)  # so that no square is too large or too small
    scaled = vectors.astype(np.float64) / np.maximum(largest, 1e-30)
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-30)
    exact = unit @ unit.T
    turned = coordinates(unit, exact)
    step = START
    while True:
        numbers = np.round(turned / step)
        error = float(np.abs(numbers @ numbers.T * step**2 - exact).max(initial=0.0))
        if error <= BOUND:
            break
        step = float(f"{step * FEWER * BOUND / error:.6g}")
    kept = int(np.flatnonzero(np.abs(numbers).max(axis=0, initial=0.0)).max(initial=0)) + 1
    return Vectors(numbers[:, :kept].astype(np.int16), step, error)


def coordinates(unit: Float[np.ndarray, "n d"], exact: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n r"]:
    """The vectors along the directions in which they are largest, in this order; by the smaller of two matrices."""
    if len(unit) > unit.shape[1]:
        return (unit @ np.linalg.eigh(unit.T @ unit)[1])[:, ::-1]
    values, directions = np.linalg.eigh(exact)
    return (directions * np.sqrt(np.maximum(values, 0)))[:, ::-1]
