"""Models that answer after different blocks for different images: a map shows what this image's answer is read from."""

import numpy as np
import pytest
import torch
from torch import nn

from handmade import Plain, made
from vitral import explain
from vitral.base.errors import UsageError

METHODS = ("attention", "rollout", "chefer", "attention_gradient", "grad_cam")


class Exits(Plain):
    """All blocks run, and each image's answer is that after the first block where the mean of `images` says so."""

    def forward(self, images):
        x = self.blocks[0](self.embedded(images))
        early, late = self.read(x), self.read(self.blocks[1](x))
        return torch.where(images.mean(dim=(1, 2, 3)).gt(0)[:, None], early, late)


class Early(Plain):
    """The twin of an image that leaves after the first block."""

    def through(self, x):
        return self.blocks[0](x)


class Leaves(Plain):
    """The second block runs only for the images that did not leave before it."""

    def forward(self, images):
        x = self.blocks[0](self.embedded(images))
        stays = images.mean(dim=(1, 2, 3)).le(0)
        answer = self.read(x)
        return answer.index_put((stays,), self.read(self.blocks[1](x[stays])))


def pictures(*signs):
    images = torch.randn(len(signs), 3, 16, 24)
    return images - images.mean(dim=(1, 2, 3), keepdim=True) + 0.1 * torch.tensor(signs)[:, None, None, None]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("sign", "twin"), [(1, Early), (-1, Plain)])
def test_alone_an_image_is_explained_as_by_a_model_that_ends_at_its_exit(name, sign, twin):
    images = pictures(sign, sign)
    maps, expected = (getattr(explain, name)(made(kind), images) for kind in (Exits, twin))
    shown = expected.values if twin is Plain else expected.values[:, : maps.values.shape[1]]
    if twin is Early and name == "attention":
        shown = getattr(explain, name)(made(twin), images, layers=[0]).values
    np.testing.assert_allclose(maps.values, shown, rtol=1e-4, atol=1e-6)
    assert "could not measure" not in maps.caption


@pytest.mark.parametrize("name", METHODS)
def test_images_that_leave_at_different_blocks_are_shown_one_at_a_time(name):
    with pytest.raises(UsageError, match=r"at different depths.*[Ee]xplain one image at a time"):
        getattr(explain, name)(made(Exits), pictures(1, -1, -1))


@pytest.mark.parametrize("name", ["attention", "attention_gradient"])
def test_images_that_are_taken_out_of_the_batch_are_said_to_be(name):
    with pytest.raises(UsageError, match="leave the batch on the way"):
        getattr(explain, name)(made(Leaves), pictures(1, -1, -1))


def test_a_query_that_was_named_needs_no_exit():
    maps = explain.attention(made(Exits), pictures(1, -1, -1), query=0)
    assert np.isfinite(maps.values).all()


def test_an_image_whose_answer_has_no_gradient_is_assumed_to_be_read_as_the_others():
    class Dead(Plain):
        def read(self, x):
            return self.head(x[:, 0] * x[:, 0].mean(dim=1, keepdim=True).gt(self.least))

    model = made(Dead)
    images = torch.randn(6, 3, 16, 24)
    model.least = -9.0
    with torch.no_grad():
        means = model.through(model.embedded(images))[:, 0].mean(dim=1)
    model.least = float(means.median())
    maps = explain.attention(model, images)
    assert np.isfinite(maps.values).all() and "No gradient of some of these images' outputs" in maps.caption
    assert isinstance(model, nn.Module)
