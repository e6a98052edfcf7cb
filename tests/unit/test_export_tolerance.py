"""How answers of an exported model are compared: by task and precision, and what int8 changes."""

import numpy as np
import pytest
import torch

from tiny import redraw, tiny_vit
from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.exporting.drift import check_drift, measure_drift
from vitral.exporting.graphs import Answering, output_name
from vitral.exporting.tolerance import TOLERANCES, difference, same_answers
from vitral.exporting.verify import Agreement, check
from vitral.store.classifier import answers

ONE = np.ones(3)


def record(task="one class", **settings):
    return ModelRecord(("cat", "dog", "fish"), Preprocessing((8, 18)), task, **settings)


def test_a_class_is_the_same_unless_the_two_best_are_near():
    own, found = np.array([[0.5, 0.49, 0.01], [0.5, 0.47, 0.03]]), np.array([[0.4, 0.6, 0.0], [0.4, 0.6, 0.0]])
    shares = {name: same_answers(own, own, found, record(), ONE, one.near) for name, one in TOLERANCES.items()}
    assert shares["int8"].tolist() == [0, 0] and shares["bf16"].tolist() == [1, 0]
    assert same_answers(own, own, own, record(), ONE, 0.0).tolist() == [1, 1]


def test_each_of_several_classes_has_its_threshold():
    own, found = np.array([[0.19, 0.6, 0.9]]), np.array([[0.21, 0.6, 0.1]])
    several = record("several classes", thresholds=(0.2, 0.5, 0.5))
    assert same_answers(own, own, found, several, ONE, 0.0)[0] == pytest.approx(1 / 3)
    assert same_answers(own, own, found, several, ONE, 0.02)[0] == pytest.approx(2 / 3)


def test_numbers_are_compared_in_their_own_deviation():
    """Of numbers in thousandths, an absolute difference would say nothing."""
    scale, own, found = np.array([1e-3, 1.0, 1e3]), np.array([[0.002, 5.0, 2e3]]), np.array([[0.003, 5.0, 2e3 + 50]])
    assert difference(own, found, "numbers", scale) == pytest.approx(np.array([[1.0, 0.0, 0.05]]))
    assert same_answers(own, own, found, record("numbers"), scale, 0.0)[0] == pytest.approx(2 / 3)


def test_of_a_mask_the_share_of_pixels():
    logits = np.zeros((1, 2, 2, 2))
    logits[0, 1] = [[1.0, 0.01], [-1.0, -1.0]]
    own, found = logits.argmax(1), np.array([[[1, 0], [0, 1]]])
    assert difference(own, found, "segmentation", ONE)[0] == 0.5
    assert same_answers(own, logits, found, record("segmentation"), ONE, 0.0)[0] == 0.5
    assert same_answers(own, logits, found, record("segmentation"), ONE, 0.02)[0] == 0.75


@pytest.mark.parametrize(
    ("change", "precision", "refused"),
    [
        ({}, "fp32", False),
        ({"logits": 1e-3}, "fp32", True),
        ({"values": 2e-3, "through": 2e-3}, "fp32", True),
        ({"through": 3e-3}, "fp32", False),
        ({"through": 0.1}, "fp32", True),
        ({"logits": 1e-3, "values": 0.1}, "bf16", False),
        ({"same": 9}, "bf16", True),
        ({"same": 9}, "int8", False),
        ({"levels": 1.5}, "int8", True),
        ({"chained": 0.1}, "int8", True),
        ({"chained": float("nan")}, "fp32", True),
    ],
)
def test_what_each_precision_allows(change, precision, refused):
    fields = {
        "images": 10,
        "levels": 1.0,
        "logits": 0.0,
        "values": 0.0,
        "mean": 0.0,
        "through": 0.0,
        "chained": 0.0,
        "same": 10,
    }
    found = Agreement(**(fields | change), worst="a photo", allowed=TOLERANCES[precision].text)
    if not refused:
        check(found, TOLERANCES[precision], "one class", "onnx", precision)
        return
    with pytest.raises(StoreError, match="a photo"):
        check(found, TOLERANCES[precision], "one class", "onnx", precision)


class Turned:
    """A session that gives the model's own answers, the classes of the first `wrong` images in another order."""

    def __init__(self, model, wrong):
        self.model, self.wrong = model, wrong

    def run(self, inputs, outputs=()):
        (name,) = outputs
        with torch.no_grad():
            found = Answering(self.model)(torch.from_numpy(inputs["pixels"]))[0].numpy().copy()
        turned, self.wrong = min(self.wrong, len(found)), max(0, self.wrong - len(found))
        found[:turned] = np.roll(found[:turned], 1, axis=1)
        return {name: found}


def test_drift_is_what_was_changed():
    model = attach_record(tiny_vit(num_classes=3), record())
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 18, 3), dtype=np.uint8)
    labels = answers(model, pixels).argmax(axis=1)
    none = measure_drift(model, Turned(model, 0), pixels, labels)
    assert none.agreement == none.lowest == 1 and none.largest == 0 and none.errors[0] == none.errors[1]
    some = measure_drift(model, Turned(model, 10), pixels, labels)
    assert some.agreement == 0.75 and some.lowest == 0 and some.largest > some.mean > 0
    assert some.accuracies == (1.0, 0.75) and some.errors[0] != some.errors[1]
    assert "expected calibration error" in some.text("one class")
    assert measure_drift(model, Turned(model, 1), pixels).errors is None
    check_drift(some, "one class", 0.75, 2, 14)
    with pytest.raises(StoreError, match=r"75.00% of first classes.*At least 76.00%.*2 of 14.*--calibrate"):
        check_drift(some, "one class", 0.76, 2, 14)


def test_drift_of_masks_names_the_worst_image():
    class Masks(torch.nn.Module):
        def forward(self, images):
            return torch.stack([images[:, 0], images[:, 1], images[:, 2]], dim=1)

    model = attach_record(redraw(Masks()), record("segmentation"))
    assert output_name(model.record) == "mask"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 18, 3), dtype=np.uint8)
    found = measure_drift(model, Turned(model, 1), pixels)
    assert found.lowest < 1 and found.agreement == pytest.approx((found.lowest + 3) / 4)
    assert "pixels are the same" in found.text("segmentation") and "on the worst" in found.text("segmentation")
