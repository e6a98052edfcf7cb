"""What int8 changes in a model's answers, measured on images that did not calibrate it.

Axes:  n images   k classes or numbers   y x pixels
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8

from vitral.base.calibration import reliability
from vitral.base.errors import StoreError
from vitral.data.preprocess import normalise
from vitral.exporting.graphs import Answering, output_name
from vitral.exporting.tolerance import difference, same_answers
from vitral.exporting.verify import answer_of_model, number_scale
from vitral.store.artifact import INPUT
from vitral.store.classifier import Classifier
from vitral.store.runtimes.session import Session

AT_ONCE = 16  # images per forward pass


@dataclass(frozen=True)
class Drift:
    """How far the answers for `images` are from the model's.

    `agreement` is the share of them that are the same: first classes, classes above their threshold, numbers to a tenth
    of their standard deviation, or pixels; `lowest` is that of the worst image. `largest` and `mean` are differences of
    probabilities, or of numbers over their standard deviation. Where labels are known, `errors` are the expected
    calibration errors of the model and of the files, and `accuracies` the shares of images that each has right.
    """

    images: int
    agreement: float
    lowest: float
    largest: float
    mean: float
    errors: tuple[float, float] | None = None
    accuracies: tuple[float, float] | None = None

    def text(self, task: str) -> str:
        """What was measured, in one line."""
        what = {"segmentation": "pixels", "numbers": "numbers", "several classes": "yes-or-no answers"}.get(
            task, "first classes"
        )
        said = f"{self.agreement:.2%} of {what} are the same on {self.images:,} images that did not calibrate"
        if task == "segmentation":
            said += f" ({self.lowest:.2%} on the worst)"
        unit = {"numbers": "standard deviations of a number", "segmentation": "of all pixels"}.get(
            task, "a probability"
        )
        said += f"; differences in {unit}: {self.largest:.3f} at most, {self.mean:.4f} on average"
        if self.errors and self.accuracies:
            before, after = self.errors
            said += (
                f"; accuracy {self.accuracies[0]:.2%} before and {self.accuracies[1]:.2%} after, expected calibration "
                f"error {before:.2%} before and {after:.2%} after"
            )
        return said.replace("in of all", "of all")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_drift(
    model: Classifier,
    session: Session,
    pixels: UInt8[np.ndarray, "n y x 3"],
    labels: Int[np.ndarray, " n"] | None = None,
) -> Drift:
    """Run the graph `model` beside the model on images that have its size already."""
    answering, output, scale = Answering(model).eval(), output_name(model.record), number_scale(model)
    shares, apart, values, others = [], [], [], []
    for start in range(0, len(pixels), AT_ONCE):
        inputs = normalise(torch.from_numpy(np.array(pixels[start : start + AT_ONCE])), model.preprocessing)
        own, logits = answer_of_model(model, answering, inputs)
        found = session.run({INPUT: inputs.numpy()}, [output])[output]
        shares.append(same_answers(own, logits, found, model.record, scale, near=0.0))
        apart.append(difference(own, found, model.record.task, scale))
        values.append(own)
        others.append(found)
    share, differences = np.concatenate(shares), np.concatenate(apart)
    figures: dict[str, Any] = {}
    if labels is not None and model.record.task == "one class":
        both = [reliability(np.concatenate(each), labels) for each in (values, others)]
        figures = {
            "errors": tuple(one.error for one in both),
            "accuracies": tuple(one.accuracy for one in both),
        }
    return Drift(
        len(pixels),
        float(share.mean()),
        float(share.min()),
        float(differences.max()),
        float(differences.mean()),
        **figures,
    )


def check_drift(drift: Drift, task: str, least: float, kept: int, layers: int) -> None:
    """Raise `StoreError` unless at least this share of answers is the same."""
    if not drift.agreement >= least:
        raise StoreError(
            f"In int8 the model gives other answers: {drift.text(task)}. At least {least:.2%} must be the same "
            f"(--min-agreement); {kept} of {layers} layers with weights stayed in float. Nothing was written. Try more "
            "images like those that the model will see (--calibrate), --precision bf16 (--to openvino), or fp32."
        )
