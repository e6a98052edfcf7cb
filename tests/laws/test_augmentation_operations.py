"""Crops, affine maps, colours and erasing: exact where a result is known, and distributed as in the papers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import stats

from peers import torchvision
from vitral.data.augment import Resize
from vitral.data.augmentation.colour import colour
from vitral.data.augmentation.colour_jitter import colour_jitter
from vitral.data.augmentation.erasing import AREA, erasing
from vitral.data.augmentation.horizontal_flip import horizontal_flip
from vitral.data.augmentation.vertical_flip import vertical_flip
from vitral.data.operations.crop import RandomResizedCrop, draw_windows
from vitral.data.operations.policy import NARROW, WIDE, apply
from vitral.data.operations.warp import rotation, warp

PHOTO = (3 / 4, 4 / 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(count=4, height=40, width=40, seed=0):
    """Smooth images as bytes, in the order of memory of a split's."""
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator(seed))
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1) * 255
    return fine.byte().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


# crops


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    low=st.floats(0.01, 1),
)
def test_windows_lie_within_the_image(seed, height, width, low):
    windows = draw_windows(20, (height, width), (low, 1.0), PHOTO, generator(seed))
    top, left, high, wide = windows.T
    assert (top >= 0).all() and (left >= 0).all() and (high >= 1).all() and (wide >= 1).all()
    assert (top + high <= height).all() and (left + wide <= width).all()


@pytest.mark.parametrize(("shape", "scale"), [((64, 64), (0.35, 1.0)), ((64, 64), (0.08, 1.0)), ((40, 90), (0.3, 1.0))])
def test_areas_ratios_and_places_are_distributed_as_in_torchvision(shape, scale):
    ours = draw_windows(3000, shape, scale, PHOTO, generator()).numpy()
    torch.manual_seed(1)
    image = torch.empty(3, *shape)
    draw = torchvision.transforms.RandomResizedCrop.get_params
    theirs = np.array([draw(image, list(scale), list(PHOTO)) for _ in range(3000)])
    for measure in (
        lambda w: w[:, 2] * w[:, 3],
        lambda w: w[:, 3] / w[:, 2],
        lambda w: w[:, 0],
        lambda w: w[:, 1],
    ):
        assert stats.ks_2samp(measure(ours), measure(theirs)).pvalue > 0.005


@pytest.mark.parametrize("size", [None, (40, 40), (13, 29)])
def test_a_crop_is_its_window_resized_as_pillow_resizes_it(size):
    images = smooth()
    cut, _ = RandomResizedCrop((0.2, 1.0), size=size)(images, None, generator(3))
    height, width = size or (40, 40)
    windows = draw_windows(4, (40, 40), (0.2, 1.0), PHOTO, generator(3)).tolist()
    for image, found, (top, left, high, wide) in zip(images, cut, windows):
        window = Image.fromarray(image.movedim(0, -1).numpy()).crop((left, top, left + wide, top + high))
        expected = np.asarray(window.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(found.movedim(0, -1).numpy() - expected).max() <= 1


def test_a_crop_of_the_whole_image_returns_it():
    images, masks = smooth(), torch.randint(0, 9, (4, 40, 40), generator=generator())
    cut, moved = RandomResizedCrop((1.0, 1.0), (1.0, 1.0))(images, masks, generator())
    assert torch.equal(cut, images) and torch.equal(moved, masks)


def test_fine_patterns_become_grey_and_not_coarse_patterns():
    """Stripes of one pixel, reduced to a third: pixels that are picked out would be black and white."""
    stripes = (255 * (torch.arange(96) % 2)).byte().expand(2, 3, 96, 96)
    for reduced in (RandomResizedCrop((1.0, 1.0), (1.0, 1.0), (32, 32)), Resize((32, 32))):
        images, _ = reduced(stripes, None, generator())
        assert (images.float() - 127.5).abs().max() < 20


def test_masks_are_cut_at_the_same_place():
    classes = torch.arange(64).reshape(8, 8).repeat_interleave(10, 0).repeat_interleave(10, 1)[None]
    images = (3 * classes).byte()[:, None].expand(1, 3, -1, -1)
    cut, moved = RandomResizedCrop((0.3, 0.6))(images, classes, generator(2))
    inside = F.max_pool2d((cut[:, :1].float()), 5, 1, 2) == -F.max_pool2d(-cut[:, :1].float(), 5, 1, 2)
    assert inside.float().mean() > 0.3
    assert torch.equal(cut[:, 0].long()[inside[:, 0]], 3 * moved[inside[:, 0]])


# flips and affine maps


@pytest.mark.parametrize(("flip", "axis"), [(horizontal_flip, -1), (vertical_flip, -2)])
def test_about_half_of_the_images_are_mirrored_exactly(flip, axis):
    images, masks = smooth(200, 16, 16), torch.randint(0, 5, (200, 16, 16), generator=generator())
    found, moved = flip(images, masks, generator())
    mirrored = (found == images.flip(axis)).flatten(1).all(dim=1)
    assert 70 < mirrored.sum() < 130
    assert torch.equal(found[~mirrored], images[~mirrored])
    assert torch.equal(moved[mirrored], masks[mirrored].flip(axis)) and torch.equal(moved[~mirrored], masks[~mirrored])


def test_the_identity_changes_nothing():
    images, masks = smooth(height=40, width=24), torch.randint(0, 5, (4, 40, 24), generator=generator())
    for matrices in (torch.eye(2, 3).repeat(4, 1, 1), rotation(torch.zeros(4), torch.ones(4))):
        found, moved = warp(images, masks, matrices)
        assert torch.equal(found, images) and torch.equal(moved, masks)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -5), (-2, 7)])
def test_a_shift_by_whole_pixels_is_exact_and_repeats_the_border(down, right):
    images, masks = smooth(height=24, width=40), torch.randint(0, 5, (4, 24, 40), generator=generator())
    matrices = torch.eye(2, 3).repeat(4, 1, 1)
    matrices[:, 0, 2], matrices[:, 1, 2] = -right, -down
    rows, columns = (torch.arange(24) - down).clamp(0, 23), (torch.arange(40) - right).clamp(0, 39)
    found, moved = warp(images, masks, matrices)
    assert torch.equal(found, images[:, :, rows][..., columns])
    assert torch.equal(moved, masks[:, rows][..., columns])


def test_a_quarter_turn_is_exact_and_anticlockwise():
    images, masks = smooth(height=24, width=24), torch.randint(0, 5, (4, 24, 24), generator=generator())
    found, moved = warp(images, masks, rotation(torch.full((4,), math.pi / 2), torch.ones(4)))
    assert (found.int() - torch.rot90(images, 1, (2, 3)).int()).abs().max() <= 1
    assert torch.equal(moved, torch.rot90(masks, 1, (1, 2)))


def test_a_zoom_enlarges():
    disk = ((torch.arange(64) - 31.5) ** 2 + (torch.arange(64)[:, None] - 31.5) ** 2 < 100)[None]
    _, moved = warp(disk[:, None].expand(1, 3, -1, -1).byte(), disk, rotation(torch.zeros(1), torch.tensor([1.5])))
    assert 2.1 < float(moved.sum() / disk.sum()) < 2.4


# colours


def test_colours_are_permuted_and_inverted_as_they_are():
    images = smooth(64)
    found, _ = colour(images, None, generator())
    for before, after in zip(images, found):
        planes = [*before, *(255 - before)]
        assert all(any(torch.equal(plane, other) for other in planes) for plane in after)


def test_jitter_is_brightness_contrast_and_saturation_as_pillow_has_them():
    """In pale images nothing is cut off at black or white, so that the steps of Pillow lose only their rounding."""
    images = (100 + smooth(8).float() * 0.2).byte()
    found, _ = colour_jitter(images, None, generator(1))
    factors = 0.6 + 0.8 * torch.rand(8, 3, generator=generator(1))
    for image, own, after in zip(images, factors.tolist(), found):
        picture = Image.fromarray(image.movedim(0, -1).contiguous().numpy())
        for kind, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), own):
            picture = kind(picture).enhance(factor)
        expected = torch.from_numpy(np.array(picture)).movedim(-1, 0).int()
        assert (after.int() - expected).abs().max() <= 3


# policies


@pytest.mark.parametrize("space", [NARROW, WIDE])
def test_without_strength_all_but_two_operations_leave_the_image(space):
    """Stretching the contrast and equalising have no strength."""
    images = (60 + smooth(len(space)).float() * 0.5).byte()
    found, _ = apply(space, torch.arange(len(space)), torch.zeros(len(space)), images, None, generator())
    changed = (found != images).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 2]


def test_operations_at_full_strength_are_those_of_the_paper():
    images = smooth(len(WIDE), 32, 64)
    found, _ = apply(WIDE, torch.arange(len(WIDE)), torch.ones(len(WIDE)), images, None, generator())
    signs = (torch.randint(0, 2, (len(WIDE),), generator=generator()) * 2 - 1).tolist()
    inverted, posterised, translated = 3, 4, 12
    assert (found[inverted].int() - (255 - images[inverted].int())).abs().max() <= 255 * (images[inverted] == 0).any()
    assert torch.equal(found[posterised], images[posterised] & 0b11000000)
    moved = round(64 / 7) if signs[translated] > 0 else -round(64 / 7)
    shifted = images[translated][..., (torch.arange(64) + moved).clamp(0, 63)]
    assert (found[translated].int() - shifted.int()).abs().float().mean() < 6
    brightness = found[7].float().mean() / images[7].float().mean()
    assert brightness < 0.02 if signs[7] < 0 else brightness > 1.3


# erasing


def test_a_quarter_of_the_images_get_one_rectangle_of_noise():
    images = torch.full((600, 3, 30, 40), 7, dtype=torch.uint8)
    found, _ = erasing(images, None, generator())
    changed = (found != images).any(dim=1)
    erased = changed[changed.flatten(1).any(dim=1)]
    assert 110 < len(erased) < 190
    for one in erased:
        rows, columns = one.any(dim=1).nonzero().flatten(), one.any(dim=0).nonzero().flatten()
        box = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.float().mean() > 0.9  # a pixel of noise may be as before
        assert AREA[0] * 0.5 <= box.numel() / one.numel() <= AREA[1] * 1.1
