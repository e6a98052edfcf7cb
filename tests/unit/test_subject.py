"""What is asked of a model before it is explained: images it takes, masks of their size, answers that are scores."""

import numpy as np
import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import ShapeError, UsageError
from vitral.base.lookup import names
from vitral.explain.measure import share_of
from vitral.explain.subject import answer_of

METHODS = sorted(names("explain.methods"))


@pytest.mark.parametrize("method", METHODS)
def test_images_that_the_model_does_not_take(method):
    with pytest.raises(ShapeError, match=r"(The model takes images of .* but was given|do not divide into)"):
        getattr(explain, method)(tiny_vit(), torch.randn(1, 3, 9, 18))


@pytest.mark.parametrize("method", sorted({*METHODS} - {"attention", "rollout"}))
def test_features_are_no_classes(method):
    with pytest.raises(UsageError, match="no class to explain"):
        getattr(explain, method)(
            nn.Sequential(tiny_vit(num_classes=0), nn.Unflatten(1, (4, 4))), torch.randn(1, 3, 8, 18)
        )


def test_masks_of_another_size():
    with pytest.raises(ShapeError, match="Masks of 9 x 18 pixels do not divide into 2 x 3 patches"):
        share_of(np.zeros((1, 9, 18), bool), (2, 3))


def test_an_answer_without_a_tensor():
    with pytest.raises(UsageError, match="gives a dict, in which no tensor was found"):
        answer_of({})
    assert torch.equal(answer_of((torch.ones(1), None)), torch.ones(1))
