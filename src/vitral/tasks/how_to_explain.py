"""Which method explains a model: attention, if it can be seen."""

from dataclasses import dataclass

import torch

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.data.dataset import Dataset
from vitral.data.preprocess import normalise
from vitral.recording.intercept import watch
from vitral.store.classifier import Classifier


@dataclass(frozen=True)
class HowToExplain:
    """The option of `vitral explain` for a model, and what its map shows, in words."""

    option: str = ""
    words: str = "which patches the model attends to in your own image"


def how_to_explain(model: Classifier, data: Dataset) -> HowToExplain:
    """By attention, or by a feature map for a model in which no attention can be seen."""
    image = normalise(torch.from_numpy(data.judged_images.pixels[:1]), model.preprocessing)
    try:
        with evaluating(model), torch.no_grad(), watch(model):
            model(image.to(next(model.parameters()).device))
    except (WatchError, UsageError):
        return HowToExplain(" --method grad_cam", "which places of your own image support the prediction")
    return HowToExplain()
