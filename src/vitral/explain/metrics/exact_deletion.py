"""`exact_deletion`: how much of the answer goes when the object that the map marks most was never there?

Covering patches shows a model what it has never seen; an image drawn again without one of its objects is as likely as
the first (the aim of Chang et al. 2019, "Explaining Image Classifiers by Counterfactual Generation", here exact).

Axes:  b images   k objects   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.data.synthetic.cued import erase_shape
from vitral.explain.metric import Case, class_probabilities, metric
from vitral.explain.object_masks import height_on_objects


@metric(better="higher", needs="scene")
def exact_deletion(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The fall of the class's probability without the object on whose patches the map is highest on average; at most 1.

    A constant map weighs nothing: not a number.
    """
    heights = height_on_objects(maps, case.scene.split)
    redrawn = case.scene.prepare(erase_shape(case.scene.split, np.nan_to_num(heights).argmax(axis=1)))
    fall = class_probabilities(case.model, case.images, case.classes) - class_probabilities(
        case.model, redrawn, case.classes
    )
    return np.where(np.isnan(heights).any(axis=1), np.nan, fall)
