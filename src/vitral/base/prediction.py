"""What a model answers for one image, in the one form that the command line, CSV, JSON and HTTP share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitral.base.errors import ConfigError
from vitral.base.record import Task


@dataclass(frozen=True)
class Prediction:
    """The answer for one image; which fields mean what depends on `task`.

    "one class"        `values` are probabilities that sum to 1, one per name in `names`
    "several classes"  `values` are independent probabilities, one per name
    "numbers"          `values` are the predicted numbers; `names` says what each measures
    "segmentation"     a mask of class indices beside the names

    Only "one class" is supported so far; `ConfigError` is raised for the others, and where names and values differ in
    number. `image` is the file's path or another name that tells images apart.

    >>> prediction = Prediction("a.jpg", ("cat", "dog"), (0.25, 0.75))
    >>> prediction.best(1)
    [('dog', 0.75)]
    >>> prediction.to_json()
    {'image': 'a.jpg', 'classes': {'dog': 0.75, 'cat': 0.25}}
    >>> prediction.to_csv_row()
    {'image': 'a.jpg', 'class': 'dog', 'probability': 0.75}
    """

    image: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    task: Task = "one class"

    def __post_init__(self) -> None:
        if self.task != "one class":
            raise ConfigError(f"Predictions for the task {self.task!r} are not supported; supported: 'one class'.")
        if not len(self.names) == len(self.values) > 0:
            raise ConfigError(f"{self.image}: {len(self.values)} values for {len(self.names)} class names.")

    def best(self, top: int | None = None) -> list[tuple[str, float]]:
        """The `top` likeliest classes (all if None) with their probabilities, likeliest first."""
        order = sorted(range(len(self.values)), key=lambda index: -self.values[index])
        return [(self.names[index], self.values[index]) for index in order[:top]]

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """`{"image": ..., "classes": {name: probability}}`, the `top` likeliest first."""
        return {"image": self.image, "classes": dict(self.best(top))}

    def to_csv_row(self) -> dict[str, str | float]:
        """One row of a table: `image`, its likeliest `class`, and that class's `probability`."""
        ((name, probability),) = self.best(1)
        return {"image": self.image, "class": name, "probability": probability}


def predictions(images: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[float]]) -> list[Prediction]:
    """One `Prediction` per image from rows of probabilities, such as `vitral.store.classifier.probabilities` gives."""
    return [Prediction(image, tuple(names), tuple(map(float, row))) for image, row in zip(images, rows, strict=True)]
