"""Resizing as two matrix products equals Pillow's, to one grey level, for images and windows of any shape."""

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitral.base.preprocessing import Preprocessing
from vitral.data.preprocess import crop_and_resize
from vitral.exporting.pillow_resize import VERTICAL_FIRST, columns_first, resized, rows_first, weights

PILLOW = int(PIL.__version__.split(".")[0])
SIDES = st.integers(1, 90)
PREPROCESSINGS = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(1, 40), st.integers(1, 40)),
        "crop": st.sampled_from([1.0, 0.875, 0.9, 0.5]),
        "interpolation": st.sampled_from(["nearest", "bilinear", "bicubic"]),
        "crop_mode": st.sampled_from(["center", "squash"]),
    }
)


@given(height=SIDES, width=SIDES, settings=PREPROCESSINGS, seed=st.integers(0, 99))
def test_it_is_what_vitral_prepares(height, width, settings, seed):
    """Noise has the largest differences: neighbours are black and white."""
    preprocessing = Preprocessing(**settings)
    pixels = (np.random.default_rng(seed).integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    own = crop_and_resize(pixels, preprocessing).transpose(2, 0, 1).astype(float)
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1).float(), preprocessing, PILLOW).double().numpy()
    assert np.abs(own - found).max() <= 1


@given(
    count=SIDES,
    size=st.integers(1, 40),
    seed=st.integers(0, 99),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_each_result_is_a_mean(count, size, seed, interpolation):
    start, end = np.sort(np.random.default_rng(seed).uniform(0, count, 2))
    found = weights(count, torch.tensor(start), torch.tensor(end + 0.5).clamp_max(count), size, interpolation)
    assert found.shape == (size, count)
    torch.testing.assert_close(found.sum(1), torch.ones(size), atol=1e-5, rtol=0)


@pytest.mark.skipif(PILLOW < VERTICAL_FIRST, reason="this Pillow always resizes along columns first")
def test_the_order_of_the_passes_is_pillows():
    """An image that loses more than twice as many rows as columns is resized along its rows first."""
    generator = np.random.default_rng(0)
    for height, width, rows, columns in (
        (200, 100, 100, 49),
        (200, 100, 100, 52),
        (100, 200, 20, 150),
        (90, 20, 30, 60),
    ):
        pixels = (generator.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
        own = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        ends = (torch.tensor(float(side), dtype=torch.float64) for side in (height, width))
        zero = torch.tensor(0.0, dtype=torch.float64)
        down, across = (
            weights(count, zero, end, size, "bicubic")
            for count, end, size in zip((height, width), ends, (rows, columns))
        )
        image = torch.from_numpy(pixels).permute(2, 0, 1).float()
        expected = rows_first if height - rows > 2 * (width - columns) else columns_first
        other = columns_first if expected is rows_first else rows_first
        assert np.abs(expected(image, down, across.T).numpy() - own).max() <= 1
        assert np.abs(other(image, down, across.T).numpy() - own).max() > 1
