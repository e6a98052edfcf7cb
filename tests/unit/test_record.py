"""The record of a model, and the prediction it gives: typed, frozen, the same for every kind of model."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from vitral.base.errors import UsageError
from vitral.base.prediction import Prediction, predictions
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record, record_of

RECORD = ModelRecord(("cat", "dog"), Preprocessing((8, 18)), provenance={"data": "photos"})


def test_the_record_of_our_model_has_its_grid_and_prefix_tokens(vit):
    assert record_of(vit) is None
    model = attach_record(vit, RECORD)
    assert model is vit
    assert model.record == dataclasses.replace(RECORD, grid=(2, 3), num_prefix_tokens=1) == record_of(model)
    assert (model.classes, model.preprocessing) == (("cat", "dog"), Preprocessing((8, 18)))
    assert model.provenance == {"data": "photos"}
    assert record_of(copy.deepcopy(model)) == model.record


def test_a_stranger_states_no_grid():
    """Whatever else it calls so: a parameter, a module, a float."""
    module = nn.Linear(2, 2)
    module.grid, module.num_prefix_tokens = nn.Parameter(torch.zeros(2, 3)), True
    found = attach_record(module, RECORD).record
    assert (found.grid, found.num_prefix_tokens) == (None, None)


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECORD.classes = ()


def test_a_prediction_names_its_likeliest_classes():
    found = Prediction("a.png", ("a", "b", "c"), (0.2, 0.5, 0.3))
    assert found.best() == [("b", 0.5), ("c", 0.3), ("a", 0.2)]
    assert found.to_json(2) == {"image": "a.png", "classes": {"b": 0.5, "c": 0.3}}
    assert found.to_csv_row() == {"image": "a.png", "class": "b", "probability": 0.5}
    (other,) = predictions(["a.png"], ["a", "b", "c"], [[0.25, 0.5, 0.25]])
    assert other == Prediction("a.png", ("a", "b", "c"), (0.25, 0.5, 0.25))


def test_classes_that_are_equally_likely_keep_their_order():
    assert [name for name, _ in Prediction("a.png", ("a", "b"), (0.5, 0.5)).best()] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "values", "task", "message"),
    [
        (("a", "b"), (1.0,), "one class", "a.png: 1 values for 2 class names"),
        ((), (), "one class", "0 values for 0 class names"),
    ],
)
def test_what_cannot_be_a_prediction(names, values, task, message):
    with pytest.raises(UsageError, match=message):
        Prediction("a.png", names, values, task)
