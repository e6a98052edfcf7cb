"""What is no model, no batch of images or no data set is refused in a sentence, by every method alike."""

import numpy as np
import pytest
import torch

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import ShapeError, UsageError
from vitral.base.lookup import names
from vitral.explain.subject import answered, logits_of

METHODS = sorted(names("explain.methods"))
every = pytest.mark.parametrize("method", METHODS)


@every
@pytest.mark.parametrize("model", ["runs/shapes-1", None], ids=str)
def test_a_model_that_is_none(method, model, images):
    with pytest.raises(UsageError, match=rf"a {type(model).__name__} was given\. Load one"):
        getattr(explain, method)(model, images)


@pytest.mark.parametrize("method", sorted({*METHODS} - {"chefer", "attention_gradient"}))
def test_images_that_are_still_an_array(method, vit, images):
    with pytest.raises(UsageError, match=r"Images are a tensor \(B, C, H, W\).* a ndarray was given"):
        getattr(explain, method)(vit, images.numpy())


@pytest.mark.parametrize("asks", [answered, logits_of])
def test_images_that_are_nothing(asks, vit):
    with pytest.raises(UsageError, match="a NoneType was given"):
        asks(vit, None)


@every
def test_one_image_is_no_batch(method, vit, images):
    with pytest.raises(ShapeError, match=r"one image is images\[None\]"):
        getattr(explain, method)(vit, images[0])


@every
def test_a_model_that_gives_whole_numbers(method, images):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = tiny_vit()

        def forward(self, images):
            return self.vit(images).round().long()

    with pytest.raises(UsageError, match="Whole gives torch.int64, and what is explained is a real number"):
        getattr(explain, method)(Whole(), images)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32])
def test_a_target_of_any_whole_numbers(kind, vit, images):
    expected = explain.input_gradient(vit, images, [3, 1]).values
    np.testing.assert_array_equal(explain.input_gradient(vit, images, np.array([3, 1], kind)).values, expected)
    assert explain.grad_cam(vit, images, torch.tensor([3, 1], dtype=torch.int16)).targets == (3, 1)


def test_a_target_of_no_classes(vit, images):
    with pytest.raises(UsageError, match="target names 0 classes for 2 images"):
        explain.occlusion(vit, images, [])
