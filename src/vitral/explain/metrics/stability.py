"""`stability`: does the map stay when the image changes by a little noise? (Yeh et al. 2019, "On the (In)fidelity and
Sensitivity of Explanations", §4; here by ranks.)

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
import torch
from jaxtyping import Float

from vitral.explain.metric import Case, metric, rank_correlation

NOISE = 0.05  # deviation, as a fraction of the images' own
DRAWS = 3


@metric(better="higher")
def stability(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The mean rank correlation with the maps of noisier images, for the same class; not a number for constant maps."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(DRAWS):
        noise = torch.randn(case.images.shape, generator=generator).to(case.images)
        again = case.explain(case.model, case.images + NOISE * case.images.std() * noise, case.classes.tolist())
        found.append(rank_correlation(maps, again))
    return np.mean(found, axis=0)
