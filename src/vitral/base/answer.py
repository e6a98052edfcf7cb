"""What a model's output means, for each task: `base/answers/NAME.py` holds one `Answer` per task.

Everything that differs between tasks is in these files: the values that a person reads, the loss, the figures of an
evaluation and what guessing reaches, the score that is explained, and how a prediction is written. A new task is a new
file there; whoever needs a part finds it by the model's or the data's task.

Axes:  b n images   k outputs: classes, or numbers
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from vitral.base.errors import UsageError
from vitral.base.lookup import find
from vitral.base.record import ModelRecord, Task, record_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Loss:
    """`mean(outputs, targets)` is the mean loss of a batch, and `weight(targets)` how much some of its images count.

    So a batch's loss is the sum of those of its parts, each times its weight over that of the batch.
    """

    mean: Callable[["Tensor", "Tensor"], "Tensor"]
    weight: Callable[["Tensor"], float] = lambda targets: float(len(targets))

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        return self.mean(outputs, targets)

    def share(self, part: "Tensor", whole: "Tensor") -> float:
        """How much the targets of a part count among those of the batch; 0 if none of them counts."""
        return 1.0 if len(part) == len(whole) else self.weight(part) / (self.weight(whole) or 1)


@runtime_checkable
class Figures(Protocol):
    """How good the answers for some images are.

    `note` says in which part of the model's output the scores were. `loss` is the mean loss, and `value` the figure by
    which models are compared, which `Answer.measure` names.
    """

    @property
    def note(self) -> str: ...

    @property
    def loss(self) -> float: ...

    @property
    def value(self) -> float: ...

    @property
    def score(self) -> tuple[float, float]:
        """What the best model is chosen by, higher is better."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of `value`."""
        ...

    def value_on(self, images: Int[np.ndarray, " m"]) -> float:
        """`value` on some of the images, by index; NaN where they have none."""
        ...

    def headline(self, names: Sequence[str]) -> str:
        """The main figure in a few words, for a title."""
        ...

    def summary(self, names: Sequence[str]) -> str:
        """The figures of all images with an interval, in one line."""
        ...

    def baseline(self, names: Sequence[str]) -> str:
        """What an answer that ignores the image would reach, in a sentence."""
        ...

    def lines(self, names: Sequence[str]) -> list[str]:
        """One line per class or number."""
        ...

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The figures, by name."""
        ...


@runtime_checkable
class Tally(Protocol):
    """Takes a model's outputs batch by batch, in the order of the images, and then has the figures of all."""

    def add(self, output: "Tensor", labels: np.ndarray) -> None:
        """One batch: what the model returned, and the right answers."""
        ...

    def figures(self, note: str) -> Figures: ...


@runtime_checkable
class Answered(Protocol):
    """What `vitral.base.prediction.Prediction` holds for one image, by the names of the outputs."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def values(self) -> tuple[float, ...]: ...

    @property
    def thresholds(self) -> tuple[float, ...]: ...

    @property
    def above_threshold(self) -> tuple[str, ...]: ...

    def best(self, top: int | None = None) -> list[tuple[str, float]]: ...


@runtime_checkable
class Answer(Protocol):
    """One task.

    task        its name, as `ModelRecord.task` has it
    measure     the figure that chooses the best model, as `metrics.jsonl` calls it
    unit        what the explained score is measured in, for captions
    per_output  what one output stands for: "class" or "number"
    """

    @property
    def task(self) -> Task: ...

    measure: str
    unit: str
    per_output: str

    def of_model(self, record: ModelRecord) -> "Answer":
        """The answer of a model with this record: with the temperature that it has."""
        ...

    def values(self, output: "Tensor") -> "Tensor":
        """What a person reads, (b, k): probabilities or numbers, in the precision of the output or a higher one."""
        ...

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        """The training loss, of classes as they are or as shares of classes, (b, k), where images are mixed.

        `targets` are those of the training images: numbers are measured in their deviation, and a `balanced` loss
        weighs classes by how rare they are. `dice` is the weight of the Dice loss, for segmentation.
        """
        ...

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        """How many images of a batch are answered correctly; None where an answer is not simply right or wrong."""
        ...

    def tally(self, record: ModelRecord) -> Tally:
        """What counts up the figures of a model with this record."""
        ...

    def groups(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The indices of the images of each class, or of ranges of the first number, to show examples of each."""
        ...

    def describe(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """What some images' labels are, in a few numbers per class or number."""
        ...

    def text(self, prediction: Answered, top: int | None) -> str:
        """A prediction in one line, without the image's name."""
        ...

    def short(self, prediction: Answered) -> str:
        """A prediction in a few words, for titles."""
        ...

    def to_json(self, prediction: Answered, top: int | None) -> dict[str, Any]:
        """A prediction as JSON, without the image's name."""
        ...

    def to_csv_row(self, prediction: Answered) -> dict[str, str | float]:
        """A prediction as columns of a table, without the image's name."""
        ...


@runtime_checkable
class ScoredAnswer(Answer, Protocol):
    """A task in which an image has one row of outputs, (b, k): what is explained is one of them."""

    def judge(
        self, values: Float[np.ndarray, "n k"], labels: np.ndarray, thresholds: Sequence[float] | None, note: str
    ) -> Figures:
        """The figures of some images' values."""
        ...

    def target(self, output: "Tensor") -> "Tensor":
        """Which output to explain for each image, (b,), where none is named."""
        ...

    def score(self, output: "Tensor") -> Float[np.ndarray, "b k"]:
        """The score that is explained, and that tests of a map measure, for each output."""
        ...

    def score_name(self, name: str) -> str:
        """What the score of this output is called in a sentence."""
        ...

    def evidence(self, name: str) -> str:
        """What a map of this output should find, in a sentence."""
        ...

    def show_score(self, value: float) -> str:
        """A score in words."""
        ...

    def least(self, scores: np.ndarray) -> float:
        """The smallest spread of scores between random orders that a test can use; see `explain.trials`."""
        ...

    def rounding(self, value: float) -> float:
        """Scores that differ by less are ties."""
        ...


class RowTally:
    """The `Tally` of a `ScoredAnswer`, which keeps the values of every image."""

    def __init__(self, answer: ScoredAnswer, thresholds: Sequence[float] | None):
        self.answer, self.thresholds = answer, thresholds
        self.values: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def add(self, output: "Tensor", labels: np.ndarray) -> None:
        self.values.append(self.answer.values(output.float()).cpu().numpy())
        self.labels.append(labels)

    def figures(self, note: str) -> Figures:
        return self.answer.judge(np.concatenate(self.values), np.concatenate(self.labels), self.thresholds, note)


def answer_for(task: Task) -> Answer:
    """The answer of a task. Raises `UnknownName` for a task that is not supported.

    >>> answer_for("several classes").measure
    'mAP'
    """
    found: Answer = find("base.answers", task.replace(" ", "_"), "task")
    return found


def answer_of(model: "nn.Module") -> Answer:
    """The answer of a model by its record; one class of many for a model without a record."""
    record = record_of(model)
    return answer_for("one class") if record is None else answer_for(record.task).of_model(record)


def scored_answer_of(model: "nn.Module") -> ScoredAnswer:
    """The same for a model with one row of outputs per image. Raises `UsageError` for segmentation."""
    answer = answer_of(model)
    if not isinstance(answer, ScoredAnswer):
        raise UsageError(
            "A segmentation model scores every pixel, so what is explained is a region of the image: vitral explain "
            "--region X,Y,WIDTH,HEIGHT or --target NAME; in Python, vitral.explain.RegionModel."
        )
    return answer
