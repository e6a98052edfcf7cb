"""What a model's `preprocessing` says is done, for training, evaluating and explaining alike."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitral.base.errors import ShapeError
from vitral.base.preprocessing import Preprocessing, plain
from vitral.data.preprocess import (
    batch_of,
    crop_and_resize,
    crop_and_resize_mask,
    normalise,
    restore_mask,
    window_of,
)

sides = st.integers(1, 70)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@given(height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.1, 1))
def test_any_image_fits_any_size(height, width, size, crop):
    fitted = crop_and_resize(noise(height, width), Preprocessing(size=size, crop=crop))
    assert fitted.shape == (*size, 3)
    assert fitted.dtype == np.uint8


@pytest.mark.parametrize(("side", "size"), [(55, 100), (181, 300), (471, 336), (289, 100), (168, 300)])
def test_rounding_never_cuts_beside_the_image(side, size):
    assert crop_and_resize(noise(side, side), Preprocessing(size=(size, size))).shape == (size, size, 3)


@given(height=sides, width=sides)
def test_an_image_of_the_right_size_stays_as_it_is(height, width):
    image = noise(height, width)
    assert (crop_and_resize(image, Preprocessing(size=(height, width))) == image).all()


@given(size=st.tuples(sides, sides), value=st.integers(0, 255))
def test_an_image_of_one_colour_keeps_it(size, value):
    assert (crop_and_resize(np.full((37, 53, 3), value, np.uint8), Preprocessing(size=size)) == value).all()


@pytest.mark.parametrize(
    ("shape", "size", "crop", "box"),
    [
        ((40, 80), (20, 20), 1.0, (20, 0, 60, 40)),
        ((80, 40), (20, 20), 1.0, (0, 20, 40, 60)),
        ((80, 80), (20, 20), 0.5, (20, 20, 60, 60)),
        ((60, 60), (20, 40), 1.0, (0, 15, 60, 45)),
        ((20, 80), (40, 40), 0.5, (35, 5, 45, 15)),
        ((48, 48), (24, 24), 0.875, (3, 3, 45, 45)),
    ],
    ids=["wide", "tall", "cropped", "wide target", "cropped and enlarged", "as for ImageNet"],
)
def test_the_largest_centred_window_of_the_target_shape_is_resized(shape, size, crop, box):
    image = noise(*shape)
    cut = Image.fromarray(image).crop(box)
    expected = np.asarray(cut.resize(size[::-1], Image.Resampling.BICUBIC), dtype=int)
    fitted = crop_and_resize(image, Preprocessing(size=size, crop=crop))
    # at its edge a window sees the pixels beside it, a cropped image does not
    assert np.abs(fitted.astype(int) - expected)[8:-8, 8:-8].max() <= 1


@given(height=sides, width=sides, size=st.tuples(sides, sides))
def test_a_squashed_image_is_all_there(height, width, size):
    image = noise(height, width)
    whole = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    assert (crop_and_resize(image, Preprocessing(size=size, crop_mode="squash")) == np.asarray(whole)).all()


def test_of_a_squashed_image_the_middle_of_both_sides_is_kept():
    image, preprocessing = noise(40, 80), Preprocessing(size=(20, 20), crop=0.5, crop_mode="squash")
    expected = Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC, box=(20, 10, 60, 30))
    assert (crop_and_resize(image, preprocessing) == np.asarray(expected)).all()


@given(height=sides, width=sides, size=st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_a_mirrored_image_gives_the_mirrored_window(height, width, size):
    image, preprocessing = noise(height, width), Preprocessing(size=size)
    mirrored = crop_and_resize(np.ascontiguousarray(image[:, ::-1]), preprocessing)
    assert np.abs(mirrored[:, ::-1].astype(int) - crop_and_resize(image, preprocessing)).max() <= 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_the_interpolation_is_the_one_that_is_named(interpolation):
    image = noise(32, 32)
    expected = Image.fromarray(image).resize((12, 12), Image.Resampling[interpolation.upper()])
    fitted = crop_and_resize(image, Preprocessing(size=(12, 12), interpolation=interpolation))
    assert (fitted == np.asarray(expected)).all()


@given(mean=st.tuples(*[st.floats(0, 1)] * 3), std=st.tuples(*[st.floats(0.05, 2)] * 3))
def test_normalising_is_its_formula(mean, std):
    pixels = torch.from_numpy(noise(6, 5)[None])
    images = normalise(pixels, Preprocessing(mean=mean, std=std))
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    expected = (pixels.double().permute(0, 3, 1, 2) / 255 - mean) / std
    assert images.dtype == torch.float32
    assert images.shape == (1, 3, 6, 5)
    torch.testing.assert_close(images.double(), expected, rtol=1e-5, atol=1e-5)


def test_images_of_any_size_make_one_batch():
    preprocessing = Preprocessing(size=(8, 12))
    images = [noise(20, 30), noise(8, 12), noise(50, 5)]
    batch = batch_of(images, preprocessing)
    assert batch.shape == (3, 3, 8, 12)
    for one, image in zip(batch, images):
        assert torch.equal(one, batch_of([image], preprocessing)[0])


@given(height=sides, width=sides)
def test_one_channel_is_the_luminance_as_pillow_weighs_it(height, width):
    image, one = noise(height, width), Preprocessing((height, width), mean=(0.0,), std=(1 / 255,))
    found = batch_of([image], one)
    assert found.shape == (1, 1, height, width)
    assert np.abs(found[0, 0].numpy() - np.asarray(Image.fromarray(image).convert("L"), float)).max() <= 1
    grey = np.repeat(image[..., :1], 3, axis=2)
    torch.testing.assert_close(batch_of([grey], one)[0, 0], torch.from_numpy(grey[..., 0]).float())


@pytest.mark.parametrize("channels", [2, 4])
def test_no_image_has_other_channels(channels):
    with pytest.raises(ShapeError, match=f"takes {channels} channels, but an image file has three"):
        batch_of([noise(4, 4)], plain((4, 4), channels))


KINDS = st.sampled_from(["center", "squash"])
CODES = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [250, 0, 250]], np.uint8)


def classes_of(pixels):
    """The class of each pixel by its colour, and whether the colour is one of the code's."""
    distance = np.abs(pixels[..., None, :].astype(int) - CODES).sum(-1)
    return distance.argmin(-1), distance.min(-1) == 0


@given(
    height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.3, 1), mode=KINDS, seed=st.integers(0, 99)
)
def test_a_mask_moves_with_its_image(height, width, size, crop, mode, seed):
    """An image whose colours encode the classes, cut and resized without mixing colours, shows the mask."""
    mask = np.random.default_rng(seed).integers(0, len(CODES), (height, width)).astype(np.uint8)
    preprocessing = Preprocessing(size, crop, "nearest", crop_mode=mode)
    cut, moved = crop_and_resize(CODES[mask], preprocessing), crop_and_resize_mask(mask, preprocessing)
    assert moved.shape == tuple(size) and moved.dtype == np.uint8
    assert (CODES[moved] == cut).all()


@given(size=st.tuples(st.integers(4, 30), st.integers(4, 30)), crop=st.floats(0.5, 1), mode=KINDS)
def test_a_mask_moves_with_an_image_that_is_interpolated(size, crop, mode):
    """Halves of two classes: wherever the image's colour is pure, it is the mask's."""
    mask = np.zeros((40, 64), np.uint8)
    mask[:, 25:] = 1
    mask[30:] = 2
    for interpolation in ("bilinear", "bicubic"):
        preprocessing = Preprocessing(size, crop, interpolation, crop_mode=mode)
        found, pure = classes_of(crop_and_resize(CODES[mask], preprocessing))
        assert (found == crop_and_resize_mask(mask, preprocessing))[pure].all() and pure.any()


def test_a_mask_has_no_class_that_it_did_not_have_and_keeps_255():
    mask = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (50, 70))
    moved = crop_and_resize_mask(mask, Preprocessing((16, 16)))
    assert set(np.unique(moved)) <= {0, 7, 255}


@given(
    height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.3, 1), mode=KINDS, seed=st.integers(0, 99)
)
def test_a_restored_mask_has_the_models_class_over_each_pixel(height, width, size, crop, mode, seed):
    mask = np.random.default_rng(seed).integers(0, 5, size).astype(np.uint8)
    preprocessing = Preprocessing(size, crop, crop_mode=mode)
    restored = restore_mask(mask, (height, width), preprocessing)
    assert restored.shape == (height, width)
    left, top, right, bottom = window_of((height, width), preprocessing)
    for y in range(height):
        for x in range(width):
            row, column = (y + 0.5 - top) * size[0] / (bottom - top), (x + 0.5 - left) * size[1] / (right - left)
            if min(abs(row - round(row)), abs(column - round(column))) < 1e-9:
                continue  # on the line between two pixels
            inside = 0 <= row < size[0] and 0 <= column < size[1]
            assert restored[y, x] == (mask[int(row), int(column)] if inside else 255)


@given(size=st.tuples(st.integers(3, 20), st.integers(3, 20)), factor=st.integers(1, 5), seed=st.integers(0, 99))
def test_restoring_is_undone_by_cutting(size, factor, seed):
    """For an image of a multiple of the model's size, and for the part of a wide one that the model sees."""
    mask = np.random.default_rng(seed).integers(0, 5, size).astype(np.uint8)
    height, width = size[0] * factor, size[1] * factor
    for shape in ((height, width), (height, width + 2 * factor), (height + 4 * factor, width)):
        restored = restore_mask(mask, shape, Preprocessing(size))
        assert (crop_and_resize_mask(restored, Preprocessing(size)) == mask).all()
        assert (restored == 255).sum() == shape[0] * shape[1] - height * width
    squashed = Preprocessing(size, crop_mode="squash")
    restored = restore_mask(mask, (2 * height, 3 * width), squashed)
    assert (crop_and_resize_mask(restored, squashed) == mask).all() and (restored != 255).all()
