"""`class_specificity`: is the map of another class another map? (As in the tests of Chefer et al. 2021, "Transformer
Interpretability Beyond Attention Visualization", §4, and Sixt et al. 2020.)

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
import torch
from jaxtyping import Float

from vitral.explain.metric import Case, metric, rank_correlation
from vitral.recording.forward import logits_of


@metric(better="higher")
def class_specificity(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 minus the rank correlation with the map of the next likely class: 0 if the map knows no class, at most 2."""
    with torch.no_grad():
        logits = logits_of(case.model, case.images)
    explained = torch.as_tensor(case.classes, device=logits.device)[:, None]
    next_likely = logits.scatter(1, explained, -torch.inf).argmax(dim=1)
    return 1 - rank_correlation(maps, case.explain(case.model, case.images, next_likely.tolist()))
