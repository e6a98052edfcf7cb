"""The figures of a model on a split, as its task has them."""

from vitral.base.answer import Figures, answer_of
from vitral.base.answers.one_class import ClassFigures
from vitral.data.dataset import Split
from vitral.store.classifier import Classifier, answers, outputs

AT_ONCE = 250
PIXELS_AT_ONCE = (
    1 << 18
)  # where every pixel has an answer: 16 images of 128 pixels take less memory than a training step


def evaluate_split(model: Classifier, split: Split) -> Figures:
    """Run the model on a split, in eval mode and float32, on its own device; its own mode is restored.

    Raises `UsageError` if what it returns is not an answer of its task.
    """
    notes: list[str] = []
    tally = answer_of(model).tally(model.record)
    at_once = AT_ONCE
    if model.record.task == "segmentation":
        at_once = max(1, PIXELS_AT_ONCE // (split.pixels.shape[1] * split.pixels.shape[2]))
    done = 0
    for output in outputs(model, split.pixels, notes.append, at_once):
        tally.add(output, split.labels[done : done + len(output)])
        done += len(output)
    return tally.figures(" ".join(notes))


def classify_split(model: Classifier, split: Split) -> ClassFigures:
    """The same for a model of one class of many."""
    return ClassFigures(answers(model, split.pixels, at_once=AT_ONCE), split.labels)
