"""How far an exported model may be from the model, and whether two answers are the same, for each task.

Axes:  b images   k classes or numbers   y x pixels of a mask
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from vitral.base.answers.several_classes import THRESHOLD
from vitral.base.record import ModelRecord
from vitral.store.runtimes.session import Precision, Runtime

# Grey levels of 255, in every precision: rounding falls the other way now and then. OpenVINO has no double precision on
# a CPU, and there this happens to a few pixels in both passes of resizing.
LEVELS: dict[Runtime, float] = {"onnx": 1.01, "openvino": 2.01}
# From image to answer in float32, where a few pixels are a grey level off: 0.003 in noise by a model of `shapes`.
THROUGH = 0.05
PIXELS = 1e-3  # of a mask, whose class may be another one
NUMBER_ROUNDING = 1e-4  # of a number, over 1e-3 of which float32 cannot tell two apart


@dataclass(frozen=True)
class Tolerance:
    """What is allowed in one precision.

    `logits` is a share of the largest logit, `values` a difference of probabilities, of numbers over their standard
    deviation, or a share of pixels; None where only the answers count. Answers count as the same whose own
    probabilities are within `near`; of numbers, which differ by `near` standard deviations. `chained` is what
    the graph `whole` may differ in an answer: from its two parts one after the other, and in bf16, where it computes in
    float32, from the model. In 8 bits, rounding of the input goes a long way.
    """

    near: float
    chained: float = 1e-4
    values: float | None = None
    logits: float | None = None

    @property
    def text(self) -> str:
        if self.values is not None:
            return f"{self.values:g} in an answer and {self.logits:g} of the largest logit"
        if self.near:
            return f"another answer only where the two best are within {self.near:g}"
        return "other answers for the share of real images that --min-agreement leaves"


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(near=1e-3, values=1e-3, logits=1e-4),
    "bf16": Tolerance(near=0.02, chained=1e-3),
    "int8": Tolerance(near=0.0, chained=0.02),
}
SAME_NUMBER = 0.1  # standard deviations, in int8: a number has no class that could stay the same


def difference(
    own: Shaped[np.ndarray, "b ..."], found: Shaped[np.ndarray, "b ..."], task: str, scale: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "b ..."]:
    """How far two answers are apart: probabilities and numbers one by one, numbers over their scale; of masks, the
    share of pixels that differ."""
    if task == "segmentation":
        return (own != found).mean(axis=(1, 2))
    apart: np.ndarray = np.abs(own.astype(np.float64) - found)
    return apart / np.maximum(scale, NUMBER_ROUNDING * np.abs(own)) if task == "numbers" else apart


def same_answers(
    own: np.ndarray,
    logits: np.ndarray,
    found: np.ndarray,
    record: ModelRecord,
    scale: Float[np.ndarray, " k"],
    near: float,
) -> Float[np.ndarray, " b"]:
    """The share of each image's answer that is the same: its class, or each of several, its numbers, or its pixels.

    `own` and `logits` are the model's, `found` the artifact's.
    """
    if record.task == "numbers":
        return (difference(own, found, "numbers", scale) <= (near or SAME_NUMBER)).mean(axis=1)
    if record.task == "several classes":
        thresholds = np.array(record.thresholds or (THRESHOLD,) * own.shape[1])
        return (((own >= thresholds) == (found >= thresholds)) | (np.abs(own - thresholds) <= near)).mean(axis=1)
    if record.task == "segmentation":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        own = raised / raised.sum(axis=1, keepdims=True)
        chosen = np.take_along_axis(own, found[:, None].astype(np.int64), axis=1)[:, 0]
        return (chosen >= own.max(axis=1) - near).mean(axis=(1, 2))
    chosen = np.take_along_axis(own, found.argmax(axis=1)[:, None], axis=1)[:, 0]
    return (chosen >= own.max(axis=1) - near).astype(np.float64)
