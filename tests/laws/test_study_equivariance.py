"""Equivariance to shifts, exactly: of convolutions, of patch embeddings, and of a ViT without positions."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tiny import redraw
from vitral.base.errors import ConfigError
from vitral.data.spec import find_data
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import NoPosition
from vitral.nn.patch import PatchEmbedding
from vitral.nn.vit import VisionTransformer
from vitral.studies.claims.equivariance import images_with_room, layer_equivariance, shift_images
from vitral.studies.dataset_changes import apply_change

EXACT = 1e-10  # of numbers near 1, in double precision
PATCH, SIDE = 4, 24
CIRCULAR = partial(DepthwiseMixing, padding_mode="circular")


def images(seed=0):
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(model):
    """Random weights: at their start, most models return the same for every image."""
    return redraw(model.double(), deviation=0.5)


def convolutions(stride, padding_mode="circular"):
    return randomised(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=stride, padding=1, padding_mode=padding_mode),
            nn.GELU(),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, stride=stride, padding=1, padding_mode=padding_mode),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, padding_mode=padding_mode),
        )
    )


def vit(depth=2, **parts):
    sizes = dict(img_size=SIDE, patch_size=PATCH, num_classes=5, embed_dim=16, depth=depth, num_heads=2)
    return randomised(VisionTransformer(**sizes, **parts))


def iso(mixer, **parts):
    return vit(depth=3, tokens={}, pool=MeanPool, mixer=mixer, **parts)


def difference(one, other):
    return (one - other).abs().max().item()


@torch.no_grad()
def test_convolutions_with_circular_padding_are_equivariant_to_every_shift():
    model = convolutions(stride=1)
    for by in ((1, 0), (0, 5), (-7, 3)):
        assert difference(model(images().roll(by, (2, 3))), model(images()).roll(by, (2, 3))) <= EXACT


@torch.no_grad()
def test_with_strides_they_are_equivariant_to_multiples_of_the_total_stride():
    model = convolutions(stride=2)
    for by in (4, -8, 12):
        assert difference(model(images().roll(by, 3)), model(images()).roll(by // 4, 3)) <= EXACT
    for by in (1, 2, 3):
        assert all(difference(model(images().roll(by, 3)), model(images()).roll(whole, 3)) > 1e-2 for whole in (0, 1))


@torch.no_grad()
def test_with_zero_padding_they_are_equivariant_only_where_no_edge_is_within_reach():
    model, reach = convolutions(stride=1, padding_mode="zeros"), 3
    found, moved = model(images()), model(images().roll(2, 3))
    inside = slice(reach + 2, SIDE - reach)
    assert difference(moved[..., inside], found.roll(2, 3)[..., inside]) <= EXACT
    assert difference(moved, found.roll(2, 3)) > 1e-2


@torch.no_grad()
def test_mean_pooling_turns_equivariance_into_invariance():
    model = nn.Sequential(convolutions(stride=2), nn.AdaptiveAvgPool2d(1))
    assert difference(model(images().roll((4, 8), (2, 3))), model(images())) <= EXACT
    assert difference(model(images().roll(1, 3)), model(images())) > 1e-3


@torch.no_grad()
def test_patch_embedding_is_equivariant_to_whole_patches_and_not_to_a_pixel():
    model = PatchEmbedding(SIDE, PATCH, 3, 16).double()
    tokens = model(images()).unflatten(1, model.grid)
    moved = model(images().roll((PATCH, -2 * PATCH), (2, 3))).unflatten(1, model.grid)
    assert difference(moved, tokens.roll((1, -2), (1, 2))) <= EXACT
    by_a_pixel = model(images().roll(1, 3)).unflatten(1, model.grid)
    assert difference(by_a_pixel, tokens) > 1e-2 and difference(by_a_pixel, tokens.roll(1, 2)) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("parts", [{}, dict(tokens={}, pool=MeanPool)], ids=["class token", "mean pool"])
def test_a_vit_without_positions_is_invariant_to_circular_shifts_by_whole_patches(parts):
    model = vit(position=NoPosition, **parts)
    for by in ((PATCH, 0), (-PATCH, 3 * PATCH)):
        assert difference(model(images().roll(by, (2, 3))), model(images())) <= EXACT
    assert difference(model(images().roll(1, 3)), model(images())) > 1e-3


@torch.no_grad()
def test_a_vit_with_positions_is_not():
    model = vit()
    assert difference(model(images().roll(PATCH, 3)), model(images())) > 1e-3


@torch.no_grad()
def test_a_convolution_of_patches_is_so_only_with_circular_padding_and_without_positions():
    moved = images().roll((PATCH, -PATCH), (2, 3))
    circular = iso(CIRCULAR, position=NoPosition)
    assert difference(circular(moved), circular(images())) <= EXACT
    assert difference(circular(images().roll(1, 3)), circular(images())) > 1e-3
    for model in (iso(CIRCULAR), iso(DepthwiseMixing, position=NoPosition)):
        assert difference(model(moved), model(images())) > 1e-3


@torch.no_grad()
def test_the_resnet_has_zero_padding_so_even_a_shift_by_its_stride_changes_the_output():
    model = randomised(ResNet(img_size=SIDE, num_classes=5, embed_dim=8, depths=(1, 1, 1)))
    assert difference(model(images().roll(8, 3)), model(images())) > 1e-3


def test_objects_are_on_the_left_in_training_and_on_the_right_in_testing():
    plain = find_data("shapes:size=24,n=500")
    data = apply_change(plain, "one side", seed=0)
    assert data.preprocessing.size == (24, 48)
    for name, own, other in (("train", slice(0, 24), slice(24, 48)), ("test", slice(24, 48), slice(0, 24))):
        pixels = data.load(name).pixels
        assert (pixels[:, :, own] == plain.load(name).pixels).all()
        edge = 23 if name == "train" else 24
        assert (pixels[:, :, other] == pixels[:, :, edge : edge + 1]).all()


def test_an_image_moves_down_or_right_wrapping_around_or_with_the_edge_repeated():
    pixels = np.arange(2 * 5 * 5 * 3, dtype=np.uint8).reshape(2, 5, 5, 3)
    assert (shift_images(pixels, 2, 1, around=True) == np.roll(pixels, 2, axis=1)).all()
    moved = shift_images(pixels, 2, 2, around=False)
    assert (moved[:, :, 2:] == pixels[:, :, :3]).all() and (moved[:, :, :2] == pixels[:, :, :1]).all()


@pytest.mark.parametrize("axis", [1, 2])
def test_objects_with_room_stay_whole(axis):
    split = find_data("shapes:size=32,n=500").test
    chosen = images_with_room(split, 6, axis)
    assert 0 < len(chosen) < len(split)
    before = chosen.masks.sum((1, 2))
    inside = chosen.masks.take(np.arange(32 - 6), axis=axis)
    assert (inside.sum((1, 2)) == before).all()


@pytest.mark.parametrize(
    ("parts", "whole", "inside"),
    [
        (dict(mixer=CIRCULAR, position=NoPosition), True, True),
        (dict(position=NoPosition), True, True),  # attention
        (dict(mixer=NoMixing, position=NoPosition), True, True),
        (dict(mixer=DepthwiseMixing, position=NoPosition), False, True),
        (dict(mixer=CIRCULAR), False, False),  # with positions
        ({}, False, False),
    ],
    ids=["circular", "attention", "no mixing", "zero padding", "circular with positions", "attention with positions"],
)
def test_the_equivariance_of_one_layer_is_measured(parts, whole, inside):
    sizes = dict(img_size=32, patch_size=8, num_classes=5, embed_dim=16, depth=2, num_heads=2)
    model = randomised(VisionTransformer(**sizes, **({"tokens": {}, "pool": MeanPool} | parts)))
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = layer_equivariance(model, pixels)
    assert (found["layer_change"] <= EXACT) == whole and (found["layer_change_inside"] <= EXACT) == inside
    assert min(found["layer_change"] + whole, found["layer_change_inside"] + inside) > 1e-3


def test_a_layer_without_a_feature_map_is_refused():
    with pytest.raises(ConfigError, match="Linear has no feature map per layer"):
        layer_equivariance(nn.Linear(2, 2), images())
