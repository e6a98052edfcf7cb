"""Isolating the class token changes nothing else; isolated everywhere, it has no information about the image."""

import pytest
import torch

from tiny import redraw
from vitral import create
from vitral.recording.intercept import watch
from vitral.studies.claims.cls_aggregates import DEPTH, ablated_accuracy, patch_means
from vitral.studies.loops.isolated import isolate_class_token, isolated
from vitral.studies.training import LoopInputs
from vitral.training.recipe import Recipe


@pytest.fixture(scope="module")
def model():
    return redraw(create("vit_nano_patch8_48", num_classes=5).double(), deviation=0.1)


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def answers_when_cut(model, images, layers):
    with torch.no_grad(), watch(model, rows=[0], edit=isolate_class_token(layers)) as seen:
        return model(images), seen


def test_isolated_in_every_block_it_gives_the_same_prediction_for_every_image(model, images):
    answers, _ = answers_when_cut(model, images, range(DEPTH))
    assert (answers - answers[0]).abs().max() < 1e-12
    with torch.no_grad():
        assert (model(images) - model(images)[0]).abs().max() > 1e-3


def test_isolated_nowhere_nothing_changes(model, images):
    with torch.no_grad():
        assert (answers_when_cut(model, images, [])[0] - model(images)).abs().max() < 1e-12


def test_where_it_is_isolated_it_attends_only_to_itself(model, images):
    _, seen = answers_when_cut(model, images, [1])
    for number, layer in enumerate(seen.layers):
        own = layer.rows([0])[:, :, 0, 0]
        assert ((own - 1).abs().max() < 1e-12) == (number == 1)


def test_accuracy_is_of_the_ablated_model_and_means_are_of_each_block(model, images):
    labels = answers_when_cut(model, images, [0])[0].argmax(dim=1)
    assert ablated_accuracy(model, images, labels, [0]) == 1
    assert [tuple(one.shape) for one in patch_means(model, images)] == [(6, 64)] * DEPTH


def test_training_under_the_cut_minimises_the_loss_of_the_model_that_is_cut():
    model = redraw(create("vit_nano_patch8_48", num_classes=5), deviation=0.1)
    batch = torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    inputs = LoopInputs(model, iter([(batch, labels)]), [optimizer], lambda step: 1.0, Recipe(data="shapes"), 1)
    (step,) = isolated(inputs)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before):
            parameter.copy_(value)
        model.train()
        losses = {
            name: torch.nn.functional.cross_entropy(out, labels, label_smoothing=Recipe(data="shapes").label_smoothing)
            for name, out in {
                "cut": answers_when_cut(model, batch, range(DEPTH // 2))[0],
                "whole": model(batch),
            }.items()
        }
    assert step.loss == pytest.approx(losses["cut"].item(), rel=1e-4)
    assert abs(step.loss - losses["whole"].item()) > 1e-3
