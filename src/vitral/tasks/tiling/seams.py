"""How much two overlapping tiles disagree where both count: at seams, and well inside both for comparison.

Axes:  k classes   y x pixels
"""

from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass
class Disagreement:
    """Sums over the pixels that two tiles have answered.

    `probability` is the sum of total variation distances between the two answers (half the sum of absolute differences
    of the classes' probabilities, in [0, 1]), `largest` the largest of them, and `classes` the number of pixels whose
    most likely class differs.
    """

    pixels: int = 0
    classes: int = 0
    probability: float = 0.0
    largest: float = 0.0

    def add(self, one: Float[Tensor, "k y x"], other: Float[Tensor, "k y x"]) -> None:
        """Compare the logits of two tiles for the same pixels."""
        if not one.numel():
            return
        distance = (one.softmax(0) - other.softmax(0)).abs().sum(0) / 2
        self.pixels += distance.numel()
        self.classes += int((one.max(0).indices != other.max(0).indices).sum())
        self.probability += float(distance.sum())
        self.largest = max(self.largest, float(distance.max()))

    @property
    def share(self) -> float:
        """The share of pixels whose most likely class differs; 0 if nothing was compared."""
        return self.classes / self.pixels if self.pixels else 0.0

    @property
    def mean(self) -> float:
        """The mean total variation distance; 0 if nothing was compared."""
        return self.probability / self.pixels if self.pixels else 0.0

    def text(self) -> str:
        return (
            f"the class differs at {self.share:.2%} of {self.pixels:,} pixels, and "
            f"probabilities differ by {self.mean:.2g} on average (total variation)"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
