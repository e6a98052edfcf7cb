"""`randomisation`: is the map the same when the model has learned nothing? (Adebayo et al. 2018, "Sanity Checks", §3;
all parameters at once, since from the top down scales survive.)

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.explain.metric import Case, metric, rank_correlation
from vitral.explain.untrained_twin import untrained_twin


@metric(better="lower")
def randomisation(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The rank correlation of the map with the one of the untrained twin, for the same class: near 0 if the map is of
    what was learned, 1 if it is of the image alone. Not a number where either map is constant."""
    twin = untrained_twin(case.model, seed=1)
    return rank_correlation(maps, case.explain(twin, case.images, case.classes.tolist()))
