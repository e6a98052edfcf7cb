"""Names of classes in messages and captions: which of them there are images of.

Axes:  n images   k classes
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer

MAX_LISTED = 20  # class names in a message


def missing_classes(labels: Integer[np.ndarray, " n"] | Bool[np.ndarray, "n k"], classes: Sequence[str]) -> list[str]:
    """The classes of which there is no image.

    >>> missing_classes(np.array([0, 2]), "abc"), missing_classes(np.array([[True, False, False]]), "abc")
    (['b'], ['b', 'c'])
    """
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    return [name for name, count in zip(classes, counts) if not count]


def describe_classes(present: int, missing: Sequence[str]) -> str:
    """How many classes there are images of, and of which there are none.

    >>> describe_classes(5, []), describe_classes(4, ["cat"]), describe_classes(6, [str(label) for label in range(94)])
    ('all 5 classes', '4 of 5 classes (none of cat)', '6 of 100 classes')
    """
    if not missing:
        return f"all {present} classes"
    names = f" (none of {list_names(missing)})" if len(missing) <= MAX_LISTED else ""
    return f"{present:,} of {present + len(missing):,} classes{names}"


def list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED]) + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")
