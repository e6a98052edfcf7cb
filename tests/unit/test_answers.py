"""Each task: its loss, figures and predictions, against scikit-learn, PyTorch and NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics

from vitral.base.answer import ScoredAnswer, answer_for
from vitral.base.errors import ConfigError
from vitral.base.prediction import Prediction, predictions
from vitral.base.record import TASKS, parse_task

NAMES = ("cat", "dog", "frog", "newt")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def several(rng, n=60, k=4):
    """Logits and labels that have something to do with each other; every class is there."""
    labels = rng.random((n, k)) < np.linspace(0.2, 0.7, k)
    labels[0] = True
    return torch.from_numpy(rng.normal(size=(n, k)) + labels), labels


def test_every_task_has_the_name_of_its_file():
    assert [answer_for(task).task for task in TASKS] == list(TASKS)


@pytest.mark.parametrize("text", ["several_classes", "several classes", "Several-Classes "])
def test_a_task_is_spelled_with_or_without_underscores(text):
    assert parse_task(text) == "several classes"


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(
        ConfigError, match=r"task=regression is not a task: .* one_class, several_classes, numbers, segmentation"
    ):
        parse_task("regression")


def test_the_losses_are_pytorchs(rng):
    logits, labels = several(rng)
    loss = answer_for("several classes").loss(0.0)
    right = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).double())
    torch.testing.assert_close(loss(logits, torch.from_numpy(labels)), right)
    smooth = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(np.where(labels, 0.95, 0.05)))
    torch.testing.assert_close(answer_for("several classes").loss(0.1)(logits, torch.from_numpy(labels)), smooth)
    targets = torch.from_numpy(labels.argmax(axis=1))
    right = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(answer_for("one class").loss(0.1)(logits, targets), right)


def test_the_loss_of_numbers_does_not_depend_on_their_units(rng):
    numbers, predicted = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    unit, origin = np.array([1000.0, 0.01]), np.array([-5.0, 3e5])
    losses = []
    for scale, start in ((1.0, 0.0), (unit, origin)):
        targets = numbers * scale + start
        loss = answer_for("numbers").loss(0.1, targets)
        losses.append(float(loss(torch.from_numpy(predicted * scale + start), torch.from_numpy(targets))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    right = np.square((predicted - numbers) / numbers.std(axis=0)).mean()
    assert losses[0] == pytest.approx(right, rel=1e-6)


def test_figures_of_several_classes_are_scikit_learns(rng):
    logits, labels = several(rng)
    answer = answer_for("several classes")
    values = answer.values(logits).numpy()
    np.testing.assert_allclose(values, 1 / (1 + np.exp(-logits.numpy())))
    limits = (0.5, 0.4, 0.6, 0.7)
    figures = answer.judge(values, labels, limits, "")
    given = values >= np.array(limits)
    assert figures.value == pytest.approx(metrics.average_precision_score(labels, values, average="macro"))
    right = metrics.average_precision_score(labels, values, average=None)
    np.testing.assert_allclose(figures.average_precisions, right)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, given, average=None)
    for found, known in ((figures.precision, precision), (figures.recall, recall), (figures.f1, f1)):
        np.testing.assert_allclose(found, known)
    assert figures.exact == pytest.approx(metrics.accuracy_score(labels, given))
    assert figures.loss == pytest.approx(np.mean([metrics.log_loss(*pair) for pair in zip(labels.T, values.T)]))
    low, high = figures.interval
    assert low < figures.value < high
    assert figures.to_json(NAMES)["per_class"]["dog"]["average_precision"] == pytest.approx(right[1])


def test_ties_in_several_classes_are_counted_as_scikit_learn_counts_them(rng):
    _, labels = several(rng)
    values = rng.integers(1, 4, labels.shape) / 4
    figures = answer_for("several classes").judge(values, labels, None, "")
    assert figures.value == pytest.approx(metrics.average_precision_score(labels, values))


def test_a_class_that_no_image_has_does_not_count(rng):
    logits, labels = several(rng)
    labels[:, 2] = False
    figures = answer_for("several classes").judge(logits.sigmoid().numpy(), labels, None, "")
    kept = [0, 1, 3]
    right = metrics.average_precision_score(labels[:, kept], logits.sigmoid().numpy()[:, kept])
    assert figures.value == pytest.approx(right) and math.isnan(figures.average_precisions[2])
    assert figures.to_json(NAMES)["per_class"]["frog"]["average_precision"] is None
    assert "none" in figures.lines(NAMES)[2]


def test_figures_of_numbers_are_scikit_learns(rng):
    labels = rng.normal(size=(40, 3)) * [1, 100, 0.01] + [0, 1000, 5]
    values = labels + rng.normal(size=(40, 3)) * [0.5, 20, 0.02]
    figures = answer_for("numbers").judge(values, labels, None, "")
    np.testing.assert_allclose(figures.mae, metrics.mean_absolute_error(labels, values, multioutput="raw_values"))
    np.testing.assert_allclose(figures.r2, metrics.r2_score(labels, values, multioutput="raw_values"))
    np.testing.assert_allclose(figures.rmse, metrics.root_mean_squared_error(labels, values, multioutput="raw_values"))
    assert figures.value == pytest.approx(metrics.r2_score(labels, values))
    assert figures.loss == pytest.approx(1 - figures.value)
    mean = np.broadcast_to(labels.mean(axis=0), labels.shape)
    baseline = answer_for("numbers").judge(mean, labels, None, "")
    np.testing.assert_allclose(baseline.mae, figures.mean_mae)
    np.testing.assert_allclose(baseline.r2, 0, atol=1e-12)


def test_figures_of_one_class_say_what_guessing_reaches():
    values = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    figures = answer_for("one class").judge(values, np.array([0, 0, 1, 1]), None, "")
    assert figures.accuracy == 0.75
    assert figures.baseline(("cat", "dog")).startswith(
        "always cat, the most frequent class of these images: accuracy 50.0%"
    )


def test_a_prediction_says_what_its_task_says():
    (several,) = predictions(["a.png"], NAMES[:3], [[0.2, 0.9, 0.6]], "several classes", (0.1, 0.5, 0.7))
    assert several.above_threshold == ("dog", "cat")
    assert several.to_json(1)["classes"] == {"dog": 0.9} and several.to_json(1)["above_threshold"] == ["dog", "cat"]
    assert several.to_csv_row() == {"image": "a.png", "classes": "dog|cat", "cat": 0.2, "dog": 0.9, "frog": 0.6}
    (default,) = predictions(["a.png"], NAMES[:3], [[0.2, 0.9, 0.5]], "several classes")
    assert default.above_threshold == ("dog", "frog") and "at least 50%: dog, frog" in default.text(2)
    (numbers,) = predictions(["a.png"], ("age", "weight (kg)"), [[34.25, 71000.0]], "numbers")
    assert numbers.text(1) == "age 34.25, weight (kg) 71,000"
    assert numbers.to_json() == {"image": "a.png", "task": "numbers", "numbers": {"age": 34.25, "weight (kg)": 71000.0}}
    assert numbers.to_csv_row() == {"image": "a.png", "age": 34.25, "weight (kg)": 71000.0}
    with pytest.raises(ConfigError, match="2 thresholds for 1 class names"):
        Prediction("a.png", ("cat",), (0.5,), "several classes", (0.5, 0.5))


def test_what_is_explained_is_the_logit_of_one_label_or_the_number_itself():
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    for task in ("several classes", "numbers"):
        np.testing.assert_array_equal(answer_for(task).score(logits), logits.numpy())
    np.testing.assert_allclose(answer_for("one class").score(logits), logits.double().softmax(1).numpy())
    scored = [answer_for(task) for task in TASKS if isinstance(answer_for(task), ScoredAnswer)]
    assert [(one.task, int(one.target(logits)[0])) for one in scored] == [
        ("one class", 2), ("several classes", 2), ("numbers", 0),
    ]  # fmt: skip
