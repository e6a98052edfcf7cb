"""How similar each token is to every other, as bytes: the cosines of their vectors, in the smaller of two forms.

*Products*: the similarity of each pair, rounded to multiples of 0.02.

*Vectors*: each is scaled to length 1 and turned so that the directions in which the vectors are largest come first;
turning changes no product. The coordinates are rounded to multiples of one step, the coarsest that keeps every product
within `BOUND`, and directions in which all are rounded to zero are left out. The number of pairs grows with the square
of the tokens; many tokens whose vectors lie in few directions take much less in this form.

Axes:  n tokens   d width   r kept directions   p pairs (n (n - 1) / 2)
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, Int16

from vitral.base.errors import UsageError
from vitral.explorer.content import Content

BOUND = 0.01  # no similarity, which is between -1 and 1, is off by more
START = 0.01  # the first step of vectors that is tried
FEWER = 0.9  # of the step at which the error would just be the bound
STEPS = 50  # of products, from 0 to 1


@dataclass(frozen=True)
class Products:
    """The similarity of the first token with those after it, then of the second, ...; in steps of 1/50."""

    numbers: Int8[np.ndarray, " p"]
    tokens: int
    error: float

    @property
    def restored(self) -> Float[np.ndarray, "n n"]:
        """The similarities that the page shows."""
        upper = np.zeros((self.tokens, self.tokens))
        upper[np.triu_indices(self.tokens, 1)] = self.numbers / STEPS
        return upper + upper.T + np.eye(self.tokens)

    @cached_property
    def content(self) -> Content:
        return Content.of(self.numbers.tobytes())

    def to_json(self, name: str) -> dict[str, Any]:
        return self.content.to_json(name) | {"tokens": self.tokens, "step": 1 / STEPS}


@dataclass(frozen=True)
class Vectors:
    """Whole numbers, which the page multiplies by `step`; `error` is the largest of a product of two vectors."""

    numbers: Int16[np.ndarray, "n r"]
    step: float
    error: float

    @property
    def restored(self) -> Float[np.ndarray, "n n"]:
        """The similarities that the page shows."""
        coordinates = self.numbers * self.step
        return coordinates @ coordinates.T

    @cached_property
    def content(self) -> Content:
        """The low bytes of all numbers, then the high bytes; along directions, then tokens."""
        numbers = self.numbers.T.astype("<u2")
        return Content.of((numbers & 255).astype(np.uint8).tobytes() + (numbers >> 8).astype(np.uint8).tobytes())

    def to_json(self, name: str) -> dict[str, Any]:
        tokens, directions = self.numbers.shape
        return self.content.to_json(name) | {"tokens": tokens, "step": self.step, "directions": directions}


def encode_similarities(vectors: Float[np.ndarray, "n d"]) -> Products | Vectors:
    """The similarities of vectors, in the form that takes fewer bytes. A vector of zeros is like no other.

    Raises `UsageError` for values that are not finite.

    >>> encode_similarities(np.array([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])).restored.round(2).tolist()[0]
    [1.0, 0.0, -1.0]
    """
    if not np.isfinite(vectors).all():
        raise UsageError("Some tokens have values that are not finite.")
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)  # so that no square is too large or too small
    scaled = vectors.astype(np.float64) / np.where(largest > 0, largest, 1)
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-30)
    exact = unit @ unit.T
    as_vectors = encode_vectors(unit, exact)
    if (largest == 0).any():  # which is not similar to itself either
        return as_vectors
    both: list[Products | Vectors] = [encode_products(exact), as_vectors]
    return min(both, key=lambda form: form.content.num_bytes)


def encode_products(exact: Float[np.ndarray, "n n"]) -> Products:
    pairs = exact[np.triu_indices(len(exact), 1)]
    numbers = np.round(pairs * STEPS)
    return Products(numbers.astype(np.int8), len(exact), float(np.abs(numbers / STEPS - pairs).max(initial=0.0)))


def encode_vectors(unit: Float[np.ndarray, "n d"], exact: Float[np.ndarray, "n n"]) -> Vectors:
    """Vectors of length 1 (or of zeros), and their products."""
    turned = coordinates(unit, exact)
    step = START
    while True:
        numbers = np.round(turned / step).astype(np.float32)  # sums of whole numbers below 2^24 are exact
        products = (numbers @ numbers.T).astype(np.float64) * step**2
        error = float(np.abs(products - exact).max(initial=0.0))
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
