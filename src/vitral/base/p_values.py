"""Corrections of p-values for several tests at once."""

from collections.abc import Sequence

import numpy as np


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false verdict stays at the level (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(np.argsort(ps)):
        # The smallest p is multiplied by the number of hypotheses, the next by one fewer, and so on; a hypothesis
        # cannot be easier to reject than one with a smaller p, hence the running maximum.
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = largest
    return corrected
