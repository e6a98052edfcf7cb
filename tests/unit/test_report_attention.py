"""Attention figures: the values as they are, every panel on one scale."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import LogNorm

from vitral.report.colours import LARGEST_RATIO, LEAST_RATIO, LEAST_SIGNED, UNIFORM, colour_scale, shade_of, ticks
from vitral.report.maps import attention_figure, mistakes_figure
from vitral.report.style import png


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 18, 3), dtype=np.uint8)


@pytest.fixture
def values():
    return np.random.default_rng(1).random((3, 4, 2, 3)) * 3


def draw(pixels, values, caption="caption"):
    depth, count = values.shape[:2]
    mass = np.linspace(0, 1, depth * count).reshape(depth, count)
    layers = [f"blocks.{layer}.attn" for layer in range(depth)]
    return attention_figure(pixels, values, mass, layers, range(count), caption)


def panels(figure):
    """The axes that hold a map over its image."""
    return [axes for axes in figure.axes if len(axes.images) == 2]


def test_each_panel_holds_its_own_values_unscaled_over_the_image(pixels, values):
    figure = draw(pixels, values)
    shown = panels(figure)
    assert len(shown) == 12
    for place, axes in enumerate(shown):
        coloured, shade = axes.images
        np.testing.assert_array_equal(coloured.get_array(), values[divmod(place, 4)])
        np.testing.assert_allclose(shade.get_array()[..., 3], shade_of(pixels))
        assert not shade.get_array()[..., :3].any()
        assert coloured.get_extent() == shade.get_extent() == [0, 18, 8, 0]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), pixels)


def test_all_panels_share_one_scale_and_the_colour_bar_is_of_it(pixels, values):
    figure = draw(pixels, values)
    norms = {id(axes.images[0].norm) for axes in panels(figure)}
    assert len(norms) == 1
    norm = panels(figure)[0].images[0].norm
    assert (norm.vmin, norm.vmax) == (1 / 4, 4)
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((1 / 4, 4))
    assert "1× uniform" in [label.get_text() for label in bar.get_yticklabels()]


def test_each_panel_says_its_layer_its_head_and_what_stays_on_cls(pixels, values):
    shown = panels(draw(pixels, values))
    assert [axes.get_title() for axes in shown[:4]] == ["head 0", "head 1", "head 2", "head 3"]
    assert [axes.get_ylabel() for axes in shown[::4]] == ["blocks.0", "blocks.1", "blocks.2"]
    assert [axes.get_xlabel() for axes in (shown[0], shown[-1])] == ["CLS 0%", "CLS 100%"]


def test_a_scale_of_shares_is_even_in_ratios_around_uniform():
    norm = colour_scale(UNIFORM, [np.array([0.0, 1.0]), np.array([[5.0]])])
    assert isinstance(norm, LogNorm)
    assert (norm.vmin, norm.vmax) == (1 / 8, 8)  # the power of two that holds the largest value
    places = [float(norm(value)) for value in (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)]
    np.testing.assert_allclose(places, np.linspace(0, 1, 7))
    assert [float(norm(value)) for value in (0.0, 0.01, 99.0)] == [0, 0, 1]  # beyond is shown as the end


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_the_limit_holds_the_largest_value_within_bounds(tops):
    norm = colour_scale(UNIFORM, [np.array(tops)])
    assert norm.vmin == 1 / norm.vmax
    assert LEAST_RATIO <= norm.vmax <= LARGEST_RATIO
    assert norm.vmax >= min(LARGEST_RATIO, *([max(tops)] * 2))
    assert float(norm(1.0)) == pytest.approx(0.5)


def test_a_signed_scale_is_even_around_zero_and_never_stretches_small_values():
    norm = colour_scale("logits", [np.array([-3.0, 1.0]), np.array([2.0])])
    assert (norm.vmin, norm.vmax, float(norm(0.0))) == (-3, 3, 0.5)
    assert colour_scale("logits", [np.array([1e-4])]).vmax == LEAST_SIGNED


def test_the_ticks_are_values_in_times_uniform_and_the_limits_are_in_words():
    assert ticks(LogNorm(1 / 4, 4, clip=True)) == (
        [0.25, 0.5, 1, 2, 4],
        ["1/4× or less", "1/2×", "1× uniform", "2×", "4× or more"],
    )
    values, words = ticks(LogNorm(1 / 16, 16, clip=True))
    assert values == [1 / 16, 1 / 4, 1, 4, 16]
    assert words == ["1/16× or less", "1/4×", "1× uniform", "4×", "16× or more"]


def test_rows_and_columns_are_numbered_from_0_as_tokens_are_named(pixels, values):
    image = draw(pixels, values).axes[0]
    assert [label.get_text() for label in image.get_yticklabels()] == ["0", "1"]
    assert [label.get_text() for label in image.get_xticklabels()] == ["0", "1", "2"]
    assert (image.get_yticks().tolist(), image.get_xticks().tolist()) == ([2, 6], [3, 9, 15])  # middles of patches


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 4, 4), (6, 3, 2, 3), (2, 8, 2, 3)])
@pytest.mark.parametrize("sharp", [False, True])
def test_a_figure_of_any_depth_and_number_of_heads_is_drawn(pixels, shape, sharp):
    values = np.random.default_rng(0).random(shape)
    values.flat[0] = 200.0 if sharp else 1.0
    assert png(draw(pixels, values), dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize(("height", "width"), [(64, 96), (48, 144), (96, 48)])
def test_panels_have_the_images_shape_and_leave_little_of_the_figure_empty(height, width):
    pixels, values = np.zeros((height, width, 3), np.uint8), np.random.default_rng(0).random((12, 3, 4, 6))
    figure = draw(pixels, values, "A caption of two lines. " * 8)
    figure.draw_without_rendering()
    shown = panels(figure)
    for axes in shown:
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(height / width, rel=0.02)
    rows = [axes.get_window_extent() for axes in shown[::3]]
    gaps = [above.y0 - below.y1 for above, below in pairwise(rows)]
    assert max(gaps) < 0.4 * figure.dpi  # inches: for a line of small print


def test_mistakes_are_shown_with_their_maps_on_one_scale(pixels):
    images, maps = np.stack([pixels, 255 - pixels]), np.random.default_rng(0).random((2, 2, 3)) * 2
    figure = mistakes_figure(images, ["a → b", "<b> → $x"], maps)
    pictures = [axes for axes in figure.axes if len(axes.images) == 1]
    for axes, image, title in zip(pictures, images, ["a → b", "<b> → $x"]):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.get_title() == title
    for axes, values in zip(panels(figure), maps, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert len({id(axes.images[0].norm) for axes in panels(figure)}) == 1


def test_mistakes_without_maps_are_shown_alone(pixels):
    figure = mistakes_figure(pixels[None], ["a → b"], None)
    assert not panels(figure)
    assert png(figure, dpi=40)
