"""In what a model's scores of classes are measured: logits, or probabilities, where it ends in a softmax or a sigmoid.

Measured by the outputs themselves, since nothing else says it: the probabilities of exclusive classes are none below 0
and sum to 1, and log-probabilities are those whose exponentials do.

Axes:  b images   k classes
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-2  # how far a sum of probabilities may be from 1, in half precision


@dataclass(frozen=True)
class OutputScale:
    """What one output is called in captions, its unit, and what makes the outputs no logits, as in "it returns ..."."""

    score: str
    unit: str
    returned: str = ""

    def warning(self, name: str, several: bool = False) -> str:
        """What is wrong where outputs are taken for logits, in a sentence; empty for logits, and for log-probabilities,
        whose softmax is the probabilities. `several` is whether each class has a sigmoid of its own."""
        if not self.returned or (self is LOG_PROBABILITIES and not several):
            return ""
        again = "sigmoid" if several else "softmax"
        return (
            f"warning: {name} returns {self.returned}, and its outputs are taken for logits: a {again} is applied to "
            "them, which makes probabilities too even, and training slow. The order of the classes is right. Return "
            "the scores as they are before the model's own softmax or sigmoid."
        )


LOGITS = OutputScale("the class's logit", "logits")
PROBABILITIES = OutputScale("the class's probability", "probability", "probabilities that sum to 1")
LOG_PROBABILITIES = OutputScale("the class's log-probability", "nats", "log-probabilities")
BETWEEN = OutputScale("the class's output", "output", "values between 0 and 1 only, as probabilities are")


def scale_of(outputs: "Tensor") -> OutputScale:
    """The scale of the scores of some images, (b, k); logits for a single class, where nothing tells."""
    values = outputs.detach().double()
    if values.ndim != 2 or values.shape[1] < 2 or not values.isfinite().all() or bool((values == values[0, 0]).all()):
        return LOGITS
    if bool((values <= 0).all()) and sums_to_one(values.exp()):
        return LOG_PROBABILITIES
    if bool(((values >= 0) & (values <= 1)).all()):
        return PROBABILITIES if sums_to_one(values) else BETWEEN
    return LOGITS


def sums_to_one(values: "Tensor") -> bool:
    return bool(((values.sum(dim=1) - 1).abs() < ROUNDING).all())
