"""After how many steps the validation images are evaluated."""

EVALUATIONS = 8  # at least so many per run, and one per epoch


def steps_between(total: int, per_epoch: int) -> int:
    """Each evaluation is a point of the curve and may save a better model: a short run needs some within an epoch."""
    return max(1, min(total // EVALUATIONS, per_epoch))


def evaluations_in(total: int, per_epoch: int) -> int:
    """How many there are in a run: one after each so many steps, and one at its end.

    >>> evaluations_in(80, 100), evaluations_in(1000, 100), evaluations_in(3, 100)
    (8, 10, 3)
    """
    return -(-total // steps_between(total, per_epoch))
