"""Attention figures: the values as they are, every panel on one scale."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import LogNorm, Normalize

from vitral.report.maps import FLOOR, LOGARITHMIC_FROM, attention_figure, colour_scale, mistakes_figure, ticks
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
        grey, coloured = axes.images
        np.testing.assert_array_equal(coloured.get_array(), values[divmod(place, 4)])
        np.testing.assert_allclose(grey.get_array(), pixels @ [0.299, 0.587, 0.114])
        assert coloured.get_extent() == grey.get_extent() == [0, 18, 8, 0]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), pixels)


def test_all_panels_share_one_scale_and_the_colour_bar_is_of_it(pixels, values):
    figure = draw(pixels, values)
    norms = {id(axes.images[1].norm) for axes in panels(figure)}
    assert len(norms) == 1
    norm = panels(figure)[0].images[1].norm
    assert (norm.vmin, norm.vmax) == (0, values.max())
    bar = figure.axes[-1]
    assert bar.get_ylim() == (0, values.max())
    assert "1×" in [label.get_text() for label in bar.get_yticklabels()]


def test_each_panel_says_its_layer_its_head_and_what_stays_on_cls(pixels, values):
    shown = panels(draw(pixels, values))
    assert [axes.get_title() for axes in shown[:4]] == ["head 0", "head 1", "head 2", "head 3"]
    assert [axes.get_ylabel() for axes in shown[::4]] == ["blocks.0", "blocks.1", "blocks.2"]
    assert [axes.get_xlabel() for axes in (shown[0], shown[-1])] == ["CLS 0%", "CLS 100%"]


def test_a_scale_is_linear_from_zero_to_the_largest_value_and_never_ends_below_uniform():
    norm = colour_scale(np.array([[[0.2, 1.0]], [[0.0, 2.5]]]))
    assert type(norm) is Normalize
    assert (norm.vmin, norm.vmax) == (0, 2.5)
    assert colour_scale(np.full((2, 1, 2), 0.1)).vmax == 1


def test_a_scale_is_logarithmic_where_one_panel_would_blank_the_others():
    values = np.ones((5, 2, 2))
    values[0, 0, 0] = LOGARITHMIC_FROM * 0.99
    assert type(colour_scale(values)) is Normalize
    values[0, 0, 0] = LOGARITHMIC_FROM
    norm = colour_scale(values)
    assert isinstance(norm, LogNorm)
    assert (norm.vmin, norm.vmax) == (FLOOR, LOGARITHMIC_FROM)
    assert float(norm(0.0)) == 0  # below the floor is shown as the floor


def test_the_ticks_are_values_in_times_uniform():
    assert ticks(Normalize(0, 3.7)) == ([0, 1, 2, 3, 3.7], ["0×", "1×", "2×", "3×", "3.7×"])
    values, words = ticks(LogNorm(FLOOR, 13.0, clip=True))
    assert values == [0.125, 0.25, 0.5, 1, 2, 4, 8, 13]
    assert words == ["1/8×", "1/4×", "1/2×", "1×", "2×", "4×", "8×", "13×"]


@pytest.mark.parametrize(("end", "word"), [(1.0, "1×"), (1.6, "1.6×"), (3.05, "3.05×"), (200.0, "200×")])
def test_the_end_of_a_scale_is_labelled_and_has_its_place_to_itself(end, word):
    values, words = ticks(colour_scale(np.array([0.0, end])))
    assert (values[-1], words[-1]) == (end, word)
    assert all(float(colour_scale(np.array([0.0, end]))(tick)) < 0.91 for tick in values[:-1])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_the_largest_value_is_the_end_of_the_scale(tops):
    values = np.array(tops)[:, None, None] * np.ones((2, 3))
    norm = colour_scale(values)
    assert norm.vmax == max(1.0, *tops)
    assert isinstance(norm, LogNorm) == (max(tops) >= LOGARITHMIC_FROM)
    assert 0 <= float(norm(values.max())) <= 1


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
        np.testing.assert_array_equal(axes.images[1].get_array(), values)
    assert len({id(axes.images[1].norm) for axes in panels(figure)}) == 1


def test_mistakes_without_maps_are_shown_alone(pixels):
    figure = mistakes_figure(pixels[None], ["a → b"], None)
    assert not panels(figure)
    assert png(figure, dpi=40)
