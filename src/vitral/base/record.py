"""What travels with a model besides its weights, as one typed, frozen record. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from vitral.base.calibration import Calibration
from vitral.base.errors import ConfigError
from vitral.base.feature_statistics import NO_STATISTICS, FeatureStatistics
from vitral.base.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

Task = Literal["one class", "several classes", "numbers", "segmentation"]
TASKS: tuple[Task, ...] = ("one class", "several classes", "numbers", "segmentation")
VERSION = 3  # of the record, and of the `model.json` that holds it


@dataclass(frozen=True)
class ModelRecord:
    """The record of one model: ours, a peer library's or the reader's own alike; `model.record` once it is loaded.

    `task` says what the outputs mean:
        "one class"        logits of exclusive classes; their softmax gives the probabilities
        "several classes"  one logit per class, each with a probability of its own; `thresholds` decide
        "numbers"          the predicted numbers themselves; `classes` names them
        "segmentation"     logits of classes for each place of the image

    `thresholds` are probabilities in [0, 1], one per class, for "several classes" only. `calibration` is what
    validation images say of the probabilities; None where these are the model's own. `grid` (rows, columns of
    patches) and `num_prefix_tokens` (tokens before the patches) are None where they are unknown until the model is
    observed. `feature_statistics` tell how far an image is from the training images; None where these are unknown, and
    then `why_unknown` says why. They have a file of their own. `provenance` says what the model was trained on or read
    from, with every assumption. `notes` are lines for a person on how a file that is not a run was read; they are not
    stored.

    >>> from vitral.base.preprocessing import Preprocessing
    >>> record = ModelRecord(classes=("cat", "dog"), preprocessing=Preprocessing(size=(64, 64)))
    >>> record.task, record.num_prefix_tokens
    ('one class', None)
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    task: Task = "one class"
    thresholds: tuple[float, ...] | None = None
    calibration: Calibration | None = None
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int | None = None
    feature_statistics: FeatureStatistics | None = field(default=None, compare=False)
    why_unknown: str = field(default=NO_STATISTICS, compare=False)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: int = VERSION


def parse_task(text: str) -> Task:
    """A task as an option spells it. Raises `ConfigError`, with the tasks, for another word.

    >>> parse_task("several_classes")
    'several classes'
    """
    for task in TASKS:
        if text.replace("_", " ").replace("-", " ").strip().lower() == task:
            return task
    raise ConfigError(
        f"task={text} is not a task: it must be one of {', '.join(task.replace(' ', '_') for task in TASKS)}."
    )


def attach_record(model: "nn.Module", record: ModelRecord) -> Any:
    """The same model with its `record`; `classes`, `preprocessing` and `provenance` repeat what the record says.

    What comes back is a `vitral.store.classifier.Classifier`.
    Where the record leaves `grid` or `num_prefix_tokens` open, it takes over those that the model itself states.
    """
    if record.grid is None:
        record = replace(record, grid=stated_grid(model))
    if record.num_prefix_tokens is None:
        record = replace(record, num_prefix_tokens=stated_prefix(model))
    classifier: Any = model  # a module takes any attribute; its type names none of these
    classifier.record = record
    classifier.classes, classifier.preprocessing = record.classes, record.preprocessing
    classifier.provenance = record.provenance
    return classifier


def record_of(model: "nn.Module") -> ModelRecord | None:
    """The record attached to a model; None for a model that was neither loaded nor trained."""
    record = getattr(model, "record", None)
    return record if isinstance(record, ModelRecord) else None


def stated_grid(model: "nn.Module") -> tuple[int, int] | None:
    """The `grid` attribute of a model, if it is (rows, columns): a reader's module may call anything else so."""
    grid: Any = getattr(model, "grid", None)
    is_grid = isinstance(grid, tuple) and len(grid) == 2 and all(isinstance(side, int) for side in grid)
    return grid if is_grid else None


def stated_prefix(model: "nn.Module") -> int | None:
    """The `num_prefix_tokens` attribute of a model, if it is a count."""
    count: Any = getattr(model, "num_prefix_tokens", None)
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def preprocessing_of(model: "nn.Module") -> Preprocessing | None:
    """What a model says of how it takes images; None if it does not say, or calls something else by that name."""
    said: Any = getattr(model, "preprocessing", None)
    return said if isinstance(said, Preprocessing) else None


def classes_of(model: "nn.Module") -> tuple[str, ...] | None:
    """What a model calls its classes; None if nobody has named them."""
    said: Any = getattr(model, "classes", None)
    if not isinstance(said, list | tuple) or not all(isinstance(name, str) for name in said):
        return None
    named = tuple(said)
    return None if named in (number_classes(len(named)), number_classes(len(named), "numbers")) else named


def number_classes(count: int, task: Task = "one class") -> tuple[str, ...]:
    """Names for outputs that have none: "class 0", "class 1", ...; "number 0" of a model that predicts numbers."""
    return tuple(f"{'number' if task == 'numbers' else 'class'} {index}" for index in range(count))


def output_words(count: int, task: Task) -> str:
    """What so many outputs are called.

    >>> output_words(3, "several classes"), output_words(1, "numbers")
    ('3 classes', '1 number')
    """
    return f"{count} classes" if task != "numbers" else f"{count} number{'s' * (count != 1)}"


def reading_notes(source: str, assumed: Sequence[str], dropped: Mapping[str, str]) -> tuple[str, ...]:
    """Lines on how a file was read: the source, each assumption, and the tensors dropped for each reason.

    >>> reading_notes("timm", ["12 heads"], {"a": "a count", "b": "a count"})
    ('read as timm', '  assumed: 12 heads', '  dropped: a and 1 more, a count')
    """
    names: dict[str, list[str]] = {}
    for name, reason in dropped.items():
        names.setdefault(reason, []).append(name)
    lines = [f"  assumed: {line}" for line in assumed]
    for reason, (first, *others) in names.items():
        lines.append(f"  dropped: {first}{f' and {len(others)} more' if others else ''}, {reason}")
    return (f"read as {source}", *lines)
