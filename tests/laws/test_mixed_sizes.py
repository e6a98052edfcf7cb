"""Images of different sizes at once give what each gives alone, and so do their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import redraw
from vitral import watch
from vitral.base.errors import ConfigError, ShapeError, WatchError
from vitral.nn.attention import Attention
from vitral.nn.families import construct
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.checkpointing import checkpointed
from vitral.nn.family.mixer import NoMixing, QKNormAttention
from vitral.nn.family.pool import AttentionPool, MeanPool
from vitral.nn.head import CLSPool
from vitral.nn.high_resolution.any_size import AnySizeViT
from vitral.nn.high_resolution.layouts import OneSequence, Padded
from vitral.nn.high_resolution.mixed_sizes import MixedSizes
from vitral.nn.high_resolution.windowed import windowed

SIZES = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5)
LAYOUTS = st.sampled_from([OneSequence, Padded])
POOLS = st.sampled_from([CLSPool, MeanPool, AttentionPool])
FULL = dict(rtol=1e-5, atol=1e-5)


def made(window_size=None, **parts):
    model = redraw(AnySizeViT(20, 4, num_classes=3, embed_dim=16, depth=3, num_heads=2, **parts), deviation=0.1)
    return model if window_size is None else windowed(model, window_size)


def drawn(sizes):
    return [torch.randn(3, *size) for size in sizes]


@given(SIZES, LAYOUTS, st.sampled_from([None, 1, 3]), POOLS, st.sampled_from([Attention, QKNormAttention, NoMixing]))
def test_each_image_gives_what_it_gives_alone(sizes, layout, window_size, pool, mixer):
    model = made(None if mixer is NoMixing else window_size, pool=pool, mixer=mixer, block=ScaledBlock)
    images = drawn(sizes)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(MixedSizes(model, layout)(images), alone, **FULL)


@settings(max_examples=8)
@given(SIZES, LAYOUTS, st.sampled_from([None, 2]))
def test_features_lie_on_the_grid_of_each_image(sizes, layout, window_size):
    model, images = made(window_size, tokens={"cls_token": 1, "reg_token": 2}), drawn(sizes)
    with torch.no_grad():
        found = MixedSizes(model, layout).features(images, [0, -1])
        for number, image in enumerate(images):
            for maps, (expected,) in zip(found, model.features(image[None], [0, -1]), strict=True):
                torch.testing.assert_close(maps[number], expected, **FULL)


@settings(max_examples=8)
@given(SIZES, LAYOUTS, st.sampled_from([None, 2]), st.booleans())
def test_gradients_are_those_of_one_by_one(sizes, layout, window_size, again):
    model, images, found = made(window_size), drawn(sizes), []
    mixed = MixedSizes(model, layout)
    for run in (lambda: torch.cat([model(image[None]) for image in images]), lambda: mixed(images)):
        model.zero_grad()
        if again:
            with checkpointed(model):
                loss = run().square().mean()
            loss.backward()
        else:
            run().square().mean().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for alone, together in zip(*found, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [OneSequence, Padded])
def test_another_image_of_the_batch_changes_nothing(layout):
    model, images = MixedSizes(made(), layout), drawn([(20, 12), (8, 28), (20, 20)])
    with torch.no_grad():
        before = model(images)
        images[1] = 1e3 * images[1]
        after = model(images)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], **FULL)
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_the_weights_are_those_of_the_model():
    model = made()
    assert [id(one) for one in MixedSizes(model).parameters()] == [id(one) for one in model.parameters()]


def test_a_tensor_of_images_of_one_size_is_a_list_of_them():
    model, images = made(), torch.randn(3, 3, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(MixedSizes(model)(images), model(images), **FULL)


def test_it_is_not_watched():
    model = MixedSizes(made())
    for watched in (model, model.model):
        with pytest.raises(WatchError, match="images of different sizes at once"), watch(watched):
            model(drawn([(20, 20), (20, 20)]))


def test_what_are_no_images_is_refused():
    model = MixedSizes(made())
    with pytest.raises(ShapeError, match="no images"):
        model([])
    with pytest.raises(ShapeError, match=r"Image 1 has shape \(1, 8, 8\); .* \(3, height, width\)"):
        model([torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)])


def test_stochastic_depth_of_all_images_at_once_is_refused():
    sizes = dict(img_size=16, patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2)
    model = MixedSizes(construct("any_size", **sizes, drop_path_rate=0.5))
    with pytest.raises(ConfigError, match="drop_path_rate=0"):
        model.train()(drawn([(8, 8)]))
    model.eval()(drawn([(8, 8)]))
