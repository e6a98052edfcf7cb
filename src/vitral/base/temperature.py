"""The temperature that makes probabilities most likely (Guo et al. 2017, §4.2): softmax(logits / T).

One number is fitted, and the order of the classes stays what it is, so no answer changes.

Axes:  n images   k classes
"""

import math

import numpy as np
from jaxtyping import Float, Int

# A fitted number costs about 1 / 2n nats on other images, 0.01 with 50. The wrong answers decide it: without them the
# best temperature is 0, at which every probability is 1.
FEWEST, FEWEST_WRONG = 50, 5
LARGEST = 20.0  # a temperature above it, or below its inverse, is that of a model without any sense of its errors
HALVINGS = 60


def fit_temperature(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float | str:
    """The temperature with the smallest cross-entropy on these images; a text that says why there is none.

    The cross-entropy is convex in 1 / T, so its derivative has one root, which is halved in.
    """
    n, wrong = len(labels), int((logits.argmax(axis=1) != labels).sum())
    if n < FEWEST:
        return f"there are only {n} validation images, and it takes {FEWEST}"
    if wrong < FEWEST_WRONG:
        return f"only {wrong} of the {n:,} validation images are answered wrongly, and it takes {FEWEST_WRONG}"
    if not np.isfinite(logits).all():
        return "some logits of the validation images are infinite"
    logits = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    low, high = 1 / LARGEST, LARGEST
    if slope(logits, labels, low) >= 0 or slope(logits, labels, high) <= 0:
        return f"on the {n:,} validation images the probabilities do not say which answers are right"
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(logits, labels, middle) > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def slope(logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], inverse: float) -> float:
    """The derivative of the cross-entropy by 1 / T: the mean logit that is expected, less that of the true class."""
    chances = np.exp(inverse * logits)
    chances /= chances.sum(axis=1, keepdims=True)
    return float(((chances * logits).sum(axis=1) - logits[np.arange(len(labels)), labels]).mean())
