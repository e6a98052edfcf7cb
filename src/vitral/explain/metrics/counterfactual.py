"""`counterfactual`: does the map move when what decides the answer moves? (As Arras et al. 2022, "CLEVR-XAI", hold maps
against generated images whose cause is known; here the cause itself is moved, and nothing else.)

Axes:  b images   k objects   gy gx rows, columns of patches
"""

import numpy as np
import torch
from jaxtyping import Float

from vitral.data.synthetic.cued import move_cue
from vitral.explain.metric import Case, metric
from vitral.explain.object_masks import share_on_objects
from vitral.recording.forward import logits_of


@metric(better="higher", needs="scene")
def counterfactual(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The share of an object in the map of all objects, once its dot is the one that counts, minus its share before.

    -1 to 1; 0 for a map that stays. Not a number where the model does not answer with the new object's class, since
    then the answer's cause did not move, and for maps without positive values on any object.
    """
    split = case.scene.split
    every = np.arange(len(maps))
    other = (split.factors["marked"] + 1) % split.factors["each class"].shape[1]
    moved = move_cue(split, other)
    images = case.scene.prepare(moved.pixels)
    with torch.no_grad():
        followed = logits_of(case.model, images).argmax(dim=1).cpu().numpy() == moved.labels
    after = share_on_objects(case.explain(case.model, images, moved.labels.tolist()), moved)
    change = (after - share_on_objects(maps, split))[every, other]
    return np.where(followed, change, np.nan)
