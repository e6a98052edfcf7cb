"""What is exported, as modules: the preprocessing, the model with its answer, and both in one.

Axes:  b images   c channels   y x pixels of an image file   h w pixels of the model's input   k outputs
"""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.base.output import find_answer
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task
from vitral.data.preprocess import LUMINANCE
from vitral.exporting.pillow_resize import resized
from vitral.store.classifier import Classifier


class Preprocess(nn.Module):
    """One decoded image of any size, (1, y, x, 3) bytes -> the model's input, (1, c, h, w)."""

    mean: Tensor
    std: Tensor
    luminance: Tensor

    def __init__(self, preprocessing: Preprocessing, pillow: int):
        super().__init__()
        self.preprocessing, self.pillow = preprocessing, pillow
        if len(preprocessing.mean) not in (1, 3):
            raise ConfigError(
                f"The model takes {len(preprocessing.mean)} channels, but an image file has three colour channels or "
                "one grey channel: its preprocessing cannot be exported."
            )
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std)[:, None, None])
        self.register_buffer("luminance", torch.tensor(LUMINANCE)[:, None, None])

    def forward(self, image: UInt8[Tensor, "1 y x 3"]) -> Float[Tensor, "1 c h w"]:
        levels = resized(image[0].permute(2, 0, 1).float(), self.preprocessing, self.pillow)
        if len(self.preprocessing.mean) == 1:
            levels = (levels * self.luminance).sum(0, keepdim=True)
        return ((levels - self.mean) / self.std)[None]


class Answering(nn.Module):
    """The model's input, (b, c, h, w) -> what a person reads, and the logits.

    The first is what `OUTPUT` names for the task: probabilities (b, k), with the temperature of the model's record;
    numbers (b, k); or a mask (b, h, w) of class indices.
    """

    def __init__(self, model: Classifier):
        super().__init__()
        self.model, self.task = model, model.record.task
        calibration = model.record.calibration
        self.temperature = None if calibration is None else calibration.temperature

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        return self.answer(self.model(images), images)

    def answer(self, returned: Any, images: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """The answer and the logits in what the model returned."""
        logits = find_answer(self.model, returned, images).tensor.float()
        return read_logits(logits, self.task, self.temperature), logits


def read_logits(logits: Float[Tensor, "b k ..."], task: Task, temperature: float | None) -> Tensor:
    """What a person reads of logits: probabilities, numbers, or a mask of class indices."""
    if task == "numbers":
        return logits.clone()  # two outputs of a graph are two tensors
    if task == "segmentation":
        return logits.argmax(dim=1).to(torch.uint8)
    if task == "several classes":
        return logits.sigmoid()
    return (logits if temperature is None else logits / temperature).softmax(dim=1)


class Whole(nn.Module):
    """One decoded image of any size, (1, y, x, 3) bytes -> what `answering` gives for it prepared."""

    def __init__(self, preprocess: Preprocess, answering: nn.Module):
        super().__init__()
        self.preprocess, self.answering = preprocess, answering

    def forward(self, image: UInt8[Tensor, "1 y x 3"]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.answering(self.preprocess(image))
        return found


def output_name(record: ModelRecord) -> str:
    """What the first output is called."""
    return {"numbers": "numbers", "segmentation": "mask"}.get(record.task, "probabilities")
