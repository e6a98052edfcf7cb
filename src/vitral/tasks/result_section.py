"""What a file in `tasks/result_sections` holds: how a report shows the results of one task.

Axes:  n images   m chosen images
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from vitral.base.lookup import find
from vitral.base.record import Task
from vitral.data.dataset import Split
from vitral.report.page import Section
from vitral.store.classifier import Classifier

WORST = 7  # mistakes that are shown


@runtime_checkable
class ResultSections(Protocol):
    """The results of one task; `figures` are those that `Answer.judge` gives for it.

    `guess` is the figure of guessing where it is known beforehand, for the curve.
    """

    def detail(self, figures: Any, classes: Sequence[str], images: str) -> str:
        """The sentence below the headline; `images` says which were judged."""
        ...

    def guess(self, classes: Sequence[str]) -> float | None: ...

    def sections(self, figures: Any, classes: Sequence[str]) -> list[Section]:
        """The figures as pictures and tables."""
        ...

    def examples(self, figures: Any) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """Images answered well, different ones first, and the worst mistakes, worst first."""
        ...

    def verdict(self, figures: Any, classes: Sequence[str], index: int) -> tuple[str, str]:
        """How one image was answered: in a few words, and with its probability or error after them."""
        ...

    def mistakes(self, figures: Any, classes: Sequence[str]) -> tuple[int, str]:
        """How many mistakes there are, and a sentence on which are shown."""
        ...

    def mistake(self, figures: Any, classes: Sequence[str], index: int) -> str:
        """The title of a mistake's picture, in two lines."""
        ...


@runtime_checkable
class ShowsMasks(ResultSections, Protocol):
    """The results of a task in which every pixel has an answer."""

    def masks(self, model: Classifier, images: Split, name: str, figures: Any, classes: Sequence[str]) -> list[Section]:
        """Masks of some images, by the model and as they should be; `name` is what one is called."""
        ...


def result_sections_for(task: Task) -> ResultSections:
    found: ResultSections = find("tasks.result_sections", task.replace(" ", "_"), "task")
    return found
