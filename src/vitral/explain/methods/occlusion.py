"""`occlusion`: how much a class's logit falls when a patch is covered (Zeiler & Fergus 2014, §4.2).

    y(x) - y(x with the patch at the baseline)

It asks the model itself, one patch at a time; what two patches hold in common it does not see.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import torch
from einops import rearrange

from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target
from vitral.recording.indices import Grid

BATCH = 256  # images per forward pass


@method()
def occlusion(
    observation: Observation, target: Target = None, *, baseline: float = 0.0, grid: Grid | None = None
) -> PatchMap:
    """How much of a class's logit each patch holds; signed, in logits. For any model; one forward pass per patch.

    `target` is by default the model's prediction, `baseline` a value of every channel as the model takes it (0 is the
    mean colour), `grid` the model's own. Raises `UsageError` for a class that does not exist, `ShapeError` for a grid
    that does not divide the image.
    """
    (rows, columns), images = observation.patch_grid(grid), observation.images
    classes = observation.classes(target)
    covers = rearrange(torch.eye(rows * columns, device=images.device), "g (gy gx) -> g 1 gy gx", gy=rows).bool()
    covers = covers.repeat_interleave(images.shape[2] // rows, 2).repeat_interleave(images.shape[3] // columns, 3)
    covered_logits = []
    for image, label in zip(images, classes.tolist()):
        batches = (torch.where(some, baseline, image) for some in covers.split(BATCH))
        covered_logits.append(torch.cat([observation.run(batch)[:, label] for batch in batches]))
    return PatchMap(
        observation.logits.gather(1, classes[:, None]) - torch.stack(covered_logits),
        (rows, columns),
        f"This map shows how much {observation.score} falls when a patch is set to {baseline:g}.",
        unit=observation.unit,
        sign="signed",
        layers=("pixels",),
        classes=classes,
        why_zero=f"Covering any single patch leaves {observation.score} as it is.",
    )
