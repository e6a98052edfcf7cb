"""Every task is whole: its answer, and the parts of a report that show its results."""

import numpy as np
import pytest
import torch

from vitral.base.answer import answer_for
from vitral.base.lookup import names
from vitral.base.record import TASKS
from vitral.report.page import Section
from vitral.tasks.result_section import result_sections_for

TASK_NAMES = [name.replace("_", " ") for name in names("base.answers")]
CLASSES = ("cat", "dog", "frog")


@pytest.fixture(params=TASK_NAMES)
def judged(request):
    """A task with figures of some wrong answers."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(30, 3)))
    labels = {"one class": rng.integers(0, 3, 30), "several classes": rng.random((30, 3)) < 0.5}
    right = labels.get(request.param, rng.normal(size=(30, 3)))
    answer = answer_for(request.param)
    return answer, answer.judge(answer.values(logits).numpy(), right, None, "")


def test_tasks_are_known_and_shown():
    assert sorted(TASKS) == sorted(TASK_NAMES)
    assert names("tasks.result_sections") == names("base.answers")


def test_figures_are_stated_in_words_and_in_json(judged):
    _, figures = judged
    for text in (figures.headline(CLASSES), figures.summary(CLASSES), figures.baseline(CLASSES)):
        assert text and "nan" not in text
    assert len(figures.lines(CLASSES)) == 3 and figures.to_json(CLASSES)["loss"] == figures.loss
    assert figures.score > (float("-inf"), 0.0) and np.isfinite(figures.value)


def test_a_perfect_answer_scores_better(judged):
    answer, figures = judged
    labels = figures.labels
    perfect = np.eye(3)[labels] if labels.ndim == 1 else labels.astype(float)
    assert answer.judge(perfect, labels, None, "").score > figures.score


def test_labels_are_described_and_grouped(judged):
    answer, figures = judged
    groups = answer.groups(figures.labels, CLASSES)
    assert groups and all(len(own) for own in groups.values())
    assert set(answer.describe(figures.labels, CLASSES)) & {"classes", "numbers"}


def test_a_report_shows_them(judged):
    answer, figures = judged
    results = result_sections_for(answer.task)
    assert results.detail(figures, CLASSES).endswith(".")
    assert all(isinstance(section, Section) for section in results.sections(figures, CLASSES))
    right, wrong = results.examples(figures)
    count, text = results.mistakes(figures, CLASSES)
    assert len(right) and 0 < len(wrong) <= count and text
    for index in (right[0], wrong[0]):
        assert all(isinstance(words, str) for words in results.verdict(figures, CLASSES, int(index)))
        assert "\n" in results.mistake(figures, CLASSES, int(index))
