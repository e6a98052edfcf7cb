"""A region of an image as what a segmentation model answers: then every method and every test explains it.

The logits of a region are the mean of those of its pixels, as in Vinogradova et al. 2020, "Towards Interpretable
Semantic Segmentation via Gradient-weighted Class Activation Mapping" (Seg-Grad-CAM), §3.

Axes:  b batch   c channels   y x pixels   k classes
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.base.errors import ShapeError, UsageError
from vitral.base.output import find_answer
from vitral.base.record import attach_record, record_of
from vitral.store.classifier import Classifier


class RegionModel(nn.Module):
    """Images (B, C, H, W) -> the mean logits of a region's pixels, (B, K): a classifier of that region.

    `region` marks the pixels, in the size that the model takes. The record is the model's, for one class of many.

    Raises `UsageError` for a model of another task or a region without a pixel, `ShapeError` for one of another size.
    """

    def __init__(self, model: Classifier, region: Bool[np.ndarray, "y x"]):
        super().__init__()
        record = record_of(model)
        if record is None or record.task != "segmentation":
            task = "no record" if record is None else f"the task {record.task!r}"
            raise UsageError(f"A region is explained of a segmentation model; this one has {task}.")
        if region.shape != tuple(record.preprocessing.size):
            raise ShapeError(
                f"The region is {region.shape[0]}x{region.shape[1]}, but the model takes "
                f"{record.preprocessing.size[0]}x{record.preprocessing.size[1]}. Mark the pixels of the image as the "
                "model sees it."
            )
        if not region.any():
            raise UsageError("The region has no pixel.")
        self.model = model
        self.features_within = "model.encoder." if isinstance(getattr(model, "encoder", None), nn.Module) else "model."
        self.register_buffer("region", torch.from_numpy(np.ascontiguousarray(region)), persistent=False)
        self.training = model.training
        attach_record(self, replace(record, task="one class"))

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        logits = find_answer(self.model, self.model(images), images).tensor
        return logits[:, :, self.region].mean(dim=-1)
