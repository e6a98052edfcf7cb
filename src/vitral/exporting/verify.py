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
from vitral.exporting.graphs import Answering, output_name
from vitral.exporting.tolerance import LEVELS, PIXELS, THROUGH, TOLERANCES, Tolerance, difference, same_answers
from vitral.store.artifact import IMAGE, INPUT, LOGITS
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import numbers_head_of
from vitral.store.runtimes.graphs import MODEL, PREPROCESS, WHOLE, open_graph
from vitral.store.runtimes.session import Precision, Runtime, Session

BATCHES = (1, 2, 7)  # images at once, of which the model's logits are compared


@dataclass(frozen=True)
class Agreement:
    """How far the files and the model are apart, at most.

    `levels` are grey levels of 255 after preprocessing; `logits` are over the largest logit, on random inputs in
    batches of 1, 2 and 7; `values` are probabilities, numbers over their standard deviation, or shares of pixels, of
    the graph `model` and of the model for the same prepared image, and `mean` is their mean; `through` is the largest
    from image to answer, where a grey level that rounds the other way counts, too; `chained` is how far the graph
    `whole` is from the other two in turn (in bf16, from the model). `same` of `images` have the same answer; `allowed`
    says what the precision allows. `worst` is the image with the largest difference from image to answer.
    """

    images: int
    levels: float
    logits: float
    values: float
    mean: float
    through: float
    chained: float
    same: int
    worst: str
    allowed: str

    @property
    def text(self) -> str:
        return (
            f"{self.same:,} of {self.images:,} images have the same answer; largest differences: {self.levels:.2f} "
            f"grey levels of 255 after preprocessing, {self.values:.1e} in an answer for the same prepared image (mean "
            f"{self.mean:.1e}), {self.through:.1e} from image to answer, {self.logits:.1e} of the largest logit; "
            f"allowed: {self.allowed}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    model: Classifier,
    folder: Path,
    images: Iterable[tuple[str, UInt8[np.ndarray, "_ _ 3"]]],
    runtime: Runtime = "onnx",
    precision: Precision = "fp32",
    count: Callable[[int], None] = lambda done: None,
) -> Agreement:
    """Run the three graphs on these images, each with a name, beside the model.

    Raises `StoreError` if they differ by more than the precision allows. How many answers int8 changes is for
    `measure_drift` to judge, on real images.
    """
    allowed = TOLERANCES[precision]
    preprocess, parts, whole = (open_graph(folder, graph, runtime, precision) for graph in (PREPROCESS, MODEL, WHOLE))
    logits = compare_logits(model, parts)
    answering, output, record = Answering(model).eval(), output_name(model.record), model.record
    std, scale = np.array(model.preprocessing.std, np.float32)[:, None, None], number_scale(model)
    levels = values = total = chained = through = 0.0
    number = same = 0
    worst = ""
    for number, (name, pixels) in enumerate(images, 1):
        expected = batch_of([pixels], model.preprocessing)
        prepared = preprocess.run({IMAGE: pixels[None]})[INPUT]
        levels = max(levels, float((np.abs(prepared - expected.numpy()) * std).max() * 255))
        own, own_logits = answer_of_model(model, answering, expected)
        # What rounding of grey levels does to an answer depends on the model, so the graph is compared without it.
        given, given_logits = answer_of_model(model, answering, torch.from_numpy(prepared))
        found = parts.run({INPUT: prepared}, [output])[output]
        fused = whole.run({IMAGE: pixels[None]}, [output])[output]
        chained = max(
            chained, float(difference(given if precision == "bf16" else found, fused, record.task, scale).max())
        )
        apart, far = difference(given, found, record.task, scale), difference(own, found, record.task, scale).max()
        if far >= through:
            through, worst = float(far), name
        values, total = max(values, float(apart.max())), total + float(apart.mean())
        same += is_same(given, given_logits, found, model, scale, allowed) and (
            record.task != "one class" or bool(same_answers(own, own_logits, found, record, scale, THROUGH)[0])
        )
        count(number)
    mean = total / max(number, 1)
    agreement = Agreement(number, levels, logits, values, mean, through, chained, same, worst, allowed.text)
    check(agreement, allowed, record.task, runtime, precision)
    return agreement


def check(agreement: Agreement, allowed: Tolerance, task: str, runtime: Runtime, precision: Precision) -> None:
    """Raise `StoreError` if the files differ by more than this."""
    too_far = agreement.levels > LEVELS[runtime] or not agreement.chained <= max(
        allowed.chained, PIXELS if task == "segmentation" else 0
    )
    too_far |= precision == "fp32" and not agreement.through <= THROUGH
    if allowed.values is not None and allowed.logits is not None:
        too_far |= not (agreement.logits <= allowed.logits and agreement.values <= allowed.values)
    if too_far or (precision != "int8" and agreement.same < agreement.images):
        raise StoreError(
            f"The exported files do not give the model's answers: {agreement.text}; the graph `whole` is "
            f"{agreement.chained:.1e} from the other two in turn. The image with the largest difference is "
            f"{agreement.worst}. Nothing was written."
        )


def is_same(
    own: np.ndarray, logits: np.ndarray, found: np.ndarray, model: Classifier, scale: np.ndarray, allowed: Tolerance
) -> bool:
    """Whether one image has the same answer, to what the precision allows."""
    if allowed.values is not None and model.record.task != "one class":
        return bool(difference(own, found, model.record.task, scale).max() <= allowed.values)
    share = float(same_answers(own, logits, found, model.record, scale, allowed.near)[0])
    return share >= 1 - (PIXELS if model.record.task == "segmentation" else 0)


def number_scale(model: Classifier) -> Float[np.ndarray, " k"]:
    """The standard deviation of each number in training, where a model has it; 1 for all others."""
    head = numbers_head_of(model)
    return np.ones(len(model.record.classes)) if head is None else head.unit_std.cpu().double().numpy()


def compare_logits(model: Classifier, session: Session) -> float:
    """The largest difference of a logit on random inputs, over the largest logit."""
    generator = torch.Generator().manual_seed(0)
    height, width = model.preprocessing.size
    apart = 0.0
    for batch in BATCHES:
        inputs = torch.randn(batch, len(model.preprocessing.mean), height, width, generator=generator)
        with evaluating(model), torch.inference_mode():
            own = find_answer(model, model(inputs), inputs).tensor.float().numpy()
        found = session.run({INPUT: inputs.numpy()}, [LOGITS])[LOGITS]
        apart = max(apart, float(np.abs(own - found).max() / max(1.0, np.abs(own).max())))
    return apart


def answer_of_model(
    model: Classifier, answering: Answering, inputs: torch.Tensor
) -> tuple[np.ndarray, Float[np.ndarray, "..."]]:
    with evaluating(model), torch.inference_mode():
        own, logits = answering(inputs)
    return own.numpy(), logits.numpy()
