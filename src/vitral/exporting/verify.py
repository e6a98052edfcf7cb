"""Compare the files of an exported model with the model, from the decoded image to the answer."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.base.errors import StoreError
from vitral.base.modes import evaluating
from vitral.base.output import find_answer
from vitral.data.preprocess import batch_of
from vitral.exporting.graphs import Answering
from vitral.store.artifact import IMAGE, INPUT, LOGITS, MODEL, PREPROCESS, WHOLE
from vitral.store.classifier import Classifier
from vitral.weights.artifact import open_session

BATCHES = (1, 2, 7)  # images at once, of which the model's logits are compared
LEVELS = 1.01  # of 255: rounding falls the other way now and then
LOGITS_APART = 1e-4  # of the largest logit
VALUES_APART = 1e-3  # of a probability, or of the largest number


@dataclass(frozen=True)
class Agreement:
    """How far the files and the model are apart, at most.

    `levels` are grey levels of 255 after preprocessing; `logits` are over the largest logit, on random inputs in
    batches of 1, 2 and 7; `values` are probabilities, or numbers over the largest, from image to answer; `same` of
    `images` have the same first class; for other tasks, values that differ by rounding only. `worst` is the image with
    the largest difference.
    """

    images: int
    levels: float
    logits: float
    values: float
    same: int
    worst: str

    @property
    def text(self) -> str:
        return (
            f"{self.same:,} of {self.images:,} images have the same answer; largest differences: {self.levels:.2f} "
            f"grey levels of 255 after preprocessing, {self.values:.1e} in an answer, {self.logits:.1e} of the largest "
            "logit"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    model: Classifier,
    folder: Path,
    images: Iterable[tuple[str, UInt8[np.ndarray, "_ _ 3"]]],
    count: Callable[[int], None] = lambda done: None,
) -> Agreement:
    """Run the three files on these images, each with a name, beside the model.

    Raises `StoreError` if they differ by more than rounding.
    """
    preprocess, whole = open_session(folder / PREPROCESS), open_session(folder / WHOLE)
    logits = compare_logits(model, folder / MODEL)
    answering = Answering(model).eval()
    std = np.array(model.preprocessing.std, np.float32)[:, None, None]
    levels = values = 0.0
    number = same = 0
    worst = ""
    for number, (name, pixels) in enumerate(images, 1):
        expected = batch_of([pixels], model.preprocessing)
        (prepared,) = preprocess.run(None, {IMAGE: pixels[None]})
        levels = max(levels, float((np.abs(prepared - expected.numpy()) * std).max() * 255))
        own, _ = answer_of_model(model, answering, expected)
        found, *_ = whole.run(None, {IMAGE: pixels[None]})
        apart = difference(own, found, model.record.task)
        if apart >= values:
            values, worst = apart, name
        same += apart <= VALUES_APART if model.record.task != "one class" else is_same_class(own, found)
        count(number)
    agreement = Agreement(number, levels, logits, values, same, worst)
    if levels > LEVELS or logits > LOGITS_APART or values > VALUES_APART or same < number:
        raise StoreError(
            f"The exported files do not give the model's answers: {agreement.text}. The image with the largest "
            f"difference is {worst}. The limits are {LEVELS:.0f} grey level, {VALUES_APART:g} in an answer and "
            f"{LOGITS_APART:g} of the largest logit. Nothing was written."
        )
    return agreement


def compare_logits(model: Classifier, file: Path) -> float:
    """The largest difference of a logit on random inputs, over the largest logit."""
    session, generator = open_session(file), torch.Generator().manual_seed(0)
    height, width = model.preprocessing.size
    apart = 0.0
    for batch in BATCHES:
        inputs = torch.randn(batch, len(model.preprocessing.mean), height, width, generator=generator)
        with evaluating(model), torch.inference_mode():
            own = find_answer(model, model(inputs), inputs).tensor.float().numpy()
        (found,) = session.run([LOGITS], {INPUT: inputs.numpy()})
        apart = max(apart, float(np.abs(own - found).max() / max(1.0, np.abs(own).max())))
    return apart


def answer_of_model(
    model: Classifier, answering: Answering, inputs: torch.Tensor
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    with evaluating(model), torch.inference_mode():
        own, logits = answering(inputs)
    return own.numpy(), logits.numpy()


def difference(own: np.ndarray, found: np.ndarray, task: str) -> float:
    """How far two answers are apart: of masks, the share of pixels that differ."""
    if task == "segmentation":
        return float((own != found).mean())
    scale = max(1.0, float(np.abs(own).max())) if task == "numbers" else 1.0
    return float(np.abs(own - found).max() / scale)


def is_same_class(own: np.ndarray, found: np.ndarray) -> bool:
    """Whether both give the same first class; where two are as likely, to rounding, either of them."""
    best = found[0].argmax()
    return bool(own[0, best] >= own[0].max() - VALUES_APART)
