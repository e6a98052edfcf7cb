"""Average precision: how pure a ranking is, from its top down to each positive item.

Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", §4.2, without interpolation.

Axes:  n items
"""

import numpy as np
from jaxtyping import Bool, Float


def average_precision(values: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """1 if all positive items have the highest values; items of one value come together. NaN if none is positive.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    found = positive[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # of each group of equal values
    gained = np.diff(found[last], prepend=0) / positive.sum()
    return float((gained * found[last] / (last + 1)).sum())
