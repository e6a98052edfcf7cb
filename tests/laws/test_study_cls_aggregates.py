"""Isolating the class token changes nothing else; isolated everywhere, it has no information about the image."""

import pytest
import torch

from tiny import redraw
from vitral import create
from vitral.recording.intercept import watch
from vitral.studies.claims.cls_aggregates import DEPTH, ablated_accuracy, isolate_class_token, patch_means


@pytest.fixture(scope="module")
def model():
    return redraw(create("vit_nano_patch8_48", num_classes=5).double(), deviation=0.1)


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def isolated(model, images, layers):
    with torch.no_grad(), watch(model, rows=[0], edit=isolate_class_token(layers)) as seen:
        return model(images), seen


def test_isolated_in_every_block_it_gives_the_same_prediction_for_every_image(model, images):
    answers, _ = isolated(model, images, range(DEPTH))
    assert (answers - answers[0]).abs().max() < 1e-12
    with torch.no_grad():
        assert (model(images) - model(images)[0]).abs().max() > 1e-3


def test_isolated_nowhere_nothing_changes(model, images):
    with torch.no_grad():
        assert (isolated(model, images, [])[0] - model(images)).abs().max() < 1e-12


def test_where_it_is_isolated_it_attends_only_to_itself(model, images):
    _, seen = isolated(model, images, [1])
    for number, layer in enumerate(seen.layers):
        own = layer.rows([0])[:, :, 0, 0]
        assert ((own - 1).abs().max() < 1e-12) == (number == 1)


def test_accuracy_is_of_the_ablated_model_and_means_are_of_each_block(model, images):
    labels = isolated(model, images, [0])[0].argmax(dim=1)
    assert ablated_accuracy(model, images, labels, [0]) == 1
    assert [tuple(one.shape) for one in patch_means(model, images)] == [(6, 64)] * DEPTH
