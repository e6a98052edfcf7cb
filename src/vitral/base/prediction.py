"""What a model answers for one image, in the one form that the command line, CSV, JSON and HTTP share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vitral.base.abstention import UNKNOWN_CLASS
from vitral.base.answer import answer_for
from vitral.base.errors import ConfigError
from vitral.base.feature_statistics import Distance
from vitral.base.record import Task


@dataclass(frozen=True)
class Prediction:
    """The answer for one image; which fields mean what depends on `task`.

    "one class"        `values` are probabilities that sum to 1, one per name in `names`
    "several classes"  `values` are independent probabilities, one per name, and `thresholds` decide which are given
    "numbers"          `values` are the predicted numbers; `names` says what each measures
    "segmentation"     `values` are the shares of pixels that the classes get; `mask` has the class of each pixel, 255
                       where the model saw nothing of the image

    `ConfigError` is raised where names and values differ in number, `UnknownName` for a task that is not supported.
    `least`, for one class only, is the probability below which the answer is "unknown"; None where every answer counts.
    `image` is the file's path or another name that tells images apart. `distance` is how far it is from the training
    images; None where these are unknown.

    >>> prediction = Prediction("a.jpg", ("cat", "dog"), (0.25, 0.75))
    >>> prediction.best(1)
    [('dog', 0.75)]
    >>> prediction.to_json()
    {'image': 'a.jpg', 'classes': {'dog': 0.75, 'cat': 0.25}}
    >>> prediction.to_csv_row()
    {'image': 'a.jpg', 'class': 'dog', 'probability': 0.75}
    >>> Prediction("a.jpg", ("cat", "dog"), (0.8, 0.6), "several classes", (0.5, 0.7)).above_threshold
    ('cat',)
    >>> Prediction("a.jpg", ("age",), (34.25,), "numbers").text()
    'age 34.25'
    """

    image: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    task: Task = "one class"
    thresholds: tuple[float, ...] = ()
    distance: Distance | None = None
    least: float | None = None
    draw_mask: Callable[[], UInt8[np.ndarray, "y x"]] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        answer_for(self.task)
        if not len(self.names) == len(self.values) > 0:
            raise ConfigError(f"{self.image}: {len(self.values)} values for {len(self.names)} class names.")
        if self.thresholds and len(self.thresholds) != len(self.names):
            raise ConfigError(f"{self.image}: {len(self.thresholds)} thresholds for {len(self.names)} class names.")

    @property
    def mask(self) -> UInt8[np.ndarray, "y x"] | None:
        """The class of each pixel, drawn in the image's own size each time: together, masks may exceed the memory."""
        return self.draw_mask() if self.draw_mask else None

    @property
    def is_unknown(self) -> bool:
        """Whether even the likeliest class has too low a probability to be the answer."""
        return self.least is not None and max(self.values) < self.least

    @property
    def above_threshold(self) -> tuple[str, ...]:
        """The classes whose probabilities reach their thresholds, likeliest first; for several classes only."""
        reached = {name for name, value, least in zip(self.names, self.values, self.thresholds) if value >= least}
        return tuple(name for name, _ in self.best() if name in reached)

    def best(self, top: int | None = None) -> list[tuple[str, float]]:
        """The `top` likeliest classes (all if None) with their probabilities, likeliest first."""
        order = sorted(range(len(self.values)), key=lambda index: -self.values[index])
        return [(self.names[index], self.values[index]) for index in order[:top]]

    def text(self, top: int | None = None) -> str:
        """The answer in one line: the `top` likeliest classes, or every number."""
        answer = answer_for(self.task).text(self, top)
        return self.warned(f"{UNKNOWN_CLASS} ({answer})" if self.is_unknown else answer)

    def warned(self, answer: str) -> str:
        """The answer and, for an image that is unlike the training images, that it is."""
        return "; ".join(filter(None, [answer, self.distance.note if self.distance else ""]))

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """`{"image": ..., "classes": {name: probability}}`, the `top` likeliest first; or `"numbers"`.

        Where answers may be unknown, `"answer"` is the likeliest class or "unknown".

        Where it is known, `"distance"` from the training images, its `"threshold"`, and `"unlike_training_images"`.
        """
        distance = self.distance.to_json() if self.distance else {}
        answer = {} if self.least is None else {"answer": UNKNOWN_CLASS if self.is_unknown else self.best(1)[0][0]}
        return {"image": self.image, **answer, **answer_for(self.task).to_json(self, top), **distance}

    def to_csv_row(self) -> dict[str, str | float]:
        """One row of a table: `image`, and its likeliest `class` and `probability`, or what the task has instead.

        Where answers may be unknown, `class` is "unknown" for these, and `likeliest` the class with that probability.
        """
        row = {"image": self.image, **answer_for(self.task).to_csv_row(self)}
        if self.least is None:
            return row
        return row | {"class": UNKNOWN_CLASS if self.is_unknown else row["class"], "likeliest": row["class"]}


def predictions(
    images: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Sequence[float]],
    task: Task = "one class",
    thresholds: Sequence[float] | None = None,
    distances: Sequence[Distance] | None = None,
    least: float | None = None,
) -> list[Prediction]:
    """One `Prediction` per image from rows of values, such as `vitral.store.classifier.answers` gives.

    Where several classes have no `thresholds`, each is 0.5. `distances` from the training images are one per image.
    """
    limits = tuple(thresholds or ((0.5,) * len(names) if task == "several classes" else ()))
    measured: Sequence[Distance | None] = distances or [None] * len(images)
    return [
        Prediction(image, tuple(names), tuple(map(float, row)), task, limits, distance, least)
        for image, row, distance in zip(images, rows, measured, strict=True)
    ]
