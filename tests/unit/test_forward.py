"""What is asked of a model before it is explained: images it takes, masks of their size, answers that are scores."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import ModelError, ShapeError, UsageError
from vitral.base.lookup import names
from vitral.explain.maps import pixels_of
from vitral.explain.metric import patch_shares
from vitral.recording.forward import logits_of, model_output

METHODS = sorted(names("explain.methods"))


@pytest.mark.parametrize("method", METHODS)
def test_images_that_the_model_does_not_take(method):
    with pytest.raises(ShapeError, match=r"(The model takes images of .* but was given|cannot be divided into)"):
        getattr(explain, method)(tiny_vit(), torch.randn(1, 3, 9, 18))


@pytest.mark.parametrize("method", sorted({*METHODS} - {"attention", "rollout"}))
def test_features_are_no_classes(method):
    with pytest.raises(UsageError, match="no class to explain"):
        model = nn.Sequential(tiny_vit(num_classes=0), nn.Unflatten(1, (4, 4)))
        getattr(explain, method)(model, torch.randn(1, 3, 8, 18))


def test_masks_of_fewer_pixels_than_patches():
    with pytest.raises(ShapeError, match="2 pixels cannot be divided into 3 patches"):
        patch_shares(np.zeros((1, 9, 2), bool), (2, 3))


def test_a_pixel_counts_for_the_patch_nearest_to_it():
    """Also where a mask does not divide into patches; as PyTorch's nearest-exact puts them."""
    masks = np.random.default_rng(0).random((4, 80, 50)) < 0.3
    places = torch.arange(12.0).reshape(1, 1, 3, 4)
    owner = F.interpolate(places, size=(80, 50), mode="nearest-exact")[0, 0].numpy()
    expected = np.stack([masks[:, owner == place].mean(axis=1) for place in range(12)], axis=1).reshape(4, 3, 4)
    np.testing.assert_allclose(patch_shares(masks, (3, 4)), expected)


def test_a_dicts_logits_are_the_answer(vit, images):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = vit

        def forward(self, images):
            return {"loss": None, "logits": self.vit(images)}

    assert torch.equal(logits_of(Named(), images), vit(images))
    np.testing.assert_array_equal(explain.chefer(Named(), images).values, explain.chefer(vit, images).values)


class Raises(nn.Module):
    """A ViT that ends with an error."""

    def __init__(self, error):
        super().__init__()
        self.vit, self.error = tiny_vit(), error

    def forward(self, images):
        self.vit(images)
        raise self.error


@pytest.mark.parametrize(
    "error",
    [*(kind("oops") for kind in (KeyError, TypeError, IndexError, RuntimeError, AttributeError)), Exception()],
    ids=repr,
)
@pytest.mark.parametrize("method", ["attention", "chefer", "occlusion"])
def test_what_a_model_raises_is_said_with_its_place(method, error, images):
    line = Raises.forward.__code__.co_firstlineno + 2
    where = rf"in .*test_forward\.py, line {line}, for images of shape \([12], 3, 8, 18\)"
    with pytest.raises(ModelError, match=f"Raises raised {type(error).__name__} {where}") as caught:
        getattr(explain, method)(Raises(error), images)
    assert str(caught.value).endswith(f": {error}" if str(error) else "18)")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [AssertionError(), AssertionError("x"), ValueError("mine"), RuntimeError("")], ids=repr
)
def test_not_every_error_is_one_of_shape(error, images):
    with pytest.raises(ModelError, match=type(error).__name__):
        model_output(Raises(error), images)


@pytest.mark.parametrize(
    "model",
    [nn.Conv2d(4, 2, 3), nn.Linear(7, 2), nn.Unflatten(3, (4, 5)), Raises(AssertionError("Input height (8) is not 9"))],
    ids=["channels", "width", "parts", "own word"],
)
def test_a_shape_that_is_refused_is_called_so(model, images):
    with pytest.raises(ShapeError, match=r"does not take images of shape \(2, 3, 8, 18\): .+"):
        model_output(model, images)


def test_an_error_that_speaks_of_inference_is_not_one_of_inference_mode(images):
    with pytest.raises(ModelError, match="the inference server is gone"):
        model_output(Raises(RuntimeError("the inference server is gone")), images)


def test_a_part_that_is_called_preprocessing_is_no_preprocessing(vit, images):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit, self.preprocessing = vit, nn.Identity()

        def forward(self, images):
            return self.vit(self.preprocessing(images))

    assert pixels_of(Own(), images).shape == (2, 8, 18, 3)
    assert explain.attention(Own(), images).values.shape[-2:] == (2, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_of_any_channels_are_drawn(channels):
    model, images = tiny_vit(in_channels=channels), torch.rand(2, channels, 8, 18)
    drawn = pixels_of(model, images)
    assert drawn.shape == (2, 8, 18, 3)
    assert (drawn[..., 0] == ((images[:, 0] + 1) * 127.5).round().numpy()).all()
