"""The figures of a model on a split, as its task has them."""

from vitral.base.answer import Figures, answer_of
from vitral.base.answers.one_class import ClassFigures
from vitral.data.dataset import Split
from vitral.store.classifier import Classifier, answers

AT_ONCE = 250


def evaluate_split(model: Classifier, split: Split) -> Figures:
    """Run the model on a split, in eval mode and float32, on its own device; its own mode is restored.

    Raises `UsageError` if what it returns does not hold one score per class.
    """
    notes: list[str] = []
    values = answers(model, split.pixels, notes.append, AT_ONCE)
    return answer_of(model).judge(values, split.labels, model.record.thresholds, " ".join(notes))


def classify_split(model: Classifier, split: Split) -> ClassFigures:
    """The same for a model of one class of many."""
    return ClassFigures(answers(model, split.pixels, at_once=AT_ONCE), split.labels)
