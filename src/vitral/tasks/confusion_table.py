"""The confusion matrix as a CSV file: one row per true class, one column per predicted class, by name."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vitral.base.answer import Figures
from vitral.base.answers.one_class import ClassFigures
from vitral.base.errors import UsageError
from vitral.base.files import write_file
from vitral.base.record import Task

CONFUSION = "confusion.csv"  # in a run
CORNER = "true class \\ predicted class"


def check_confusion_path(path: Path, task: Task) -> None:
    """Raise `UsageError` for a file that exists, or a task whose classes do not exclude each other."""
    if task != "one class":
        raise UsageError(f"--csv writes the confusion matrix of exclusive classes; the task of this model is {task!r}.")
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten. Choose another name, or remove it.")


def write_confusion(path: Path, figures: Figures, classes: Sequence[str]) -> bool:
    """Write the numbers of images; whether the figures have a confusion matrix."""
    if not isinstance(figures, ClassFigures):
        return False
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([CORNER, *classes])
    writer.writerows([name, *row] for name, row in zip(classes, figures.confusion.tolist()))
    write_file(path, text.getvalue().encode("utf-8", "surrogateescape"))
    return True
