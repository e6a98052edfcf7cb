"""Every task is whole: its answer, and the parts of a report that show its results."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vitral.base.answer import Answer, answer_for
from vitral.base.lookup import names
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import TASKS, ModelRecord
from vitral.report.page import Section
from vitral.tasks.result_section import result_sections_for

TASK_NAMES = [name.replace("_", " ") for name in names("base.answers")]
CLASSES = ("cat", "dog", "frog")


@dataclass(frozen=True)
class Judged:
    """A task, right answers for some images, and the figures of outputs that are wrong for some of them."""

    answer: Answer
    labels: np.ndarray
    perfect: torch.Tensor
    outputs: torch.Tensor

    def figures_of(self, outputs, batches=1):
        record = ModelRecord(CLASSES, Preprocessing((6, 8)), self.answer.task)
        tally = self.answer.tally(record)
        for output, labels in zip(outputs.tensor_split(batches), np.array_split(self.labels, batches)):
            tally.add(output, labels)
        return tally.figures("")

    @property
    def figures(self):
        return self.figures_of(self.outputs)


@pytest.fixture(params=TASK_NAMES)
def judged(request):
    rng = np.random.default_rng(0)
    classes, masks = rng.integers(0, 3, 30), rng.integers(0, 3, (30, 6, 8)).astype(np.uint8)
    labels = {"one class": classes, "several classes": rng.random((30, 3)) < 0.5, "segmentation": masks}
    right = labels.get(request.param, rng.normal(size=(30, 3)))
    # The outputs that are perfect: logits far apart, or the numbers themselves.
    perfect = {"one class": np.eye(3)[classes] * 40, "segmentation": np.moveaxis(np.eye(3)[masks], -1, 1) * 40}
    best = torch.from_numpy(perfect.get(request.param, right * 80.0 - 40 if right.dtype == bool else right))
    outputs = torch.from_numpy(rng.normal(size=best.shape))
    return Judged(answer_for(request.param), right, best, outputs)


def test_tasks_are_known_and_shown():
    assert sorted(TASKS) == sorted(TASK_NAMES)
    assert names("tasks.result_sections") == names("base.answers")


def test_figures_are_stated_in_words_and_in_json(judged):
    figures = judged.figures
    for text in (figures.headline(CLASSES), figures.summary(CLASSES), figures.baseline(CLASSES)):
        assert text and "nan" not in text
    assert len(figures.lines(CLASSES)) == 3 and figures.to_json(CLASSES)["loss"] == figures.loss
    assert figures.score > (float("-inf"), 0.0) and np.isfinite(figures.value)


def test_figures_do_not_depend_on_the_batches(judged):
    whole = judged.figures.to_json(CLASSES)
    for batches in (2, 7, 30):
        assert same(judged.figures_of(judged.outputs, batches).to_json(CLASSES), whole)


def same(one, other):
    """Whether figures are equal, but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == (pytest.approx(other, rel=1e-5) if isinstance(other, float) else other)


def test_a_perfect_answer_scores_better(judged):
    assert judged.figures_of(judged.perfect).score > judged.figures.score


def test_labels_are_described_and_grouped(judged):
    groups = judged.answer.groups(judged.labels, CLASSES)
    assert groups and all(len(own) for own in groups.values())
    assert set(judged.answer.describe(judged.labels, CLASSES)) & {"classes", "numbers", "masks"}


def test_a_report_shows_them(judged):
    figures = judged.figures
    results = result_sections_for(judged.answer.task)
    assert results.detail(figures, CLASSES, "test images").endswith(".")
    assert all(isinstance(section, Section) for section in results.sections(figures, CLASSES))
    right, wrong = results.examples(figures)
    count, text = results.mistakes(figures, CLASSES)
    assert len(right) and 0 < len(wrong) <= count and text
    for index in (right[0], wrong[0]):
        assert all(isinstance(words, str) for words in results.verdict(figures, CLASSES, int(index)))
        assert "\n" in results.mistake(figures, CLASSES, int(index))
