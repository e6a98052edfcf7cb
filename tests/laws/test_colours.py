"""One colour language: 1x uniform is one neutral colour on every picture, and equal values have equal colours.

Axes:  n colours   y x pixels
"""

import io

import numpy as np
import pytest
from PIL import Image

from vitral import Maps
from vitral.explain.maps import side_by_side
from vitral.report.colours import (
    DIVERGING,
    NUM_COLOURS,
    SHADE,
    TO_CONES,
    TO_OKLAB,
    UNIFORM,
    colour_scale,
    colour_scales,
    describe_scales,
    shade_of,
)
from vitral.report.film import CELL, blend
from vitral.report.maps import MapPanel, attention_figure, maps_figure, mistakes_figure, queries_figure
from vitral.report.similarity import similarity_figure
from vitral.report.style import png

MIDDLE = NUM_COLOURS // 2
WHITE = np.full((60, 60, 3), 255, np.uint8)  # shows the colours of the scale as they are
# Machado, Oliveira, Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", severity
# 1, on linear RGB; and no deficiency.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# CIE 1976: linear sRGB -> XYZ over the white of D65.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
D65 = np.array([0.95047, 1.0, 1.08883])


def linear(vision):
    """The scale in linear RGB, in the 8 bits of a picture, as somebody sees it."""
    colours = np.round(np.array(DIVERGING.colors) * 255) / 255
    light = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return (light @ VISION[vision].T).clip(0, 1)


def oklab(vision):
    return np.cbrt(linear(vision) @ TO_CONES.T) @ TO_OKLAB.T


def cielab(vision):
    xyz = linear(vision) @ TO_XYZ.T / D65
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], 1)


def steps(colours):
    """How different neighbours are, 16 steps along the scale."""
    return np.linalg.norm(np.diff(colours[::16], axis=0), axis=1)


# Measured: 1.06, 1.32, 1.21, 1.46 in OKLab, and 1.72, 1.61, 1.42, 2.22 in CIELAB, which overstates saturated orange.
@pytest.mark.parametrize(
    ("vision", "most", "most_in_cielab"),
    [("normal", 1.1, 1.75), ("protanopia", 1.4, 1.65), ("deuteranopia", 1.3, 1.45), ("tritanopia", 1.55, 2.35)],
)
def test_equal_steps_look_equally_large(vision, most, most_in_cielab):
    for found, bound in ((steps(oklab(vision)), most), (steps(cielab(vision)), most_in_cielab)):
        assert found.max() / found.min() < bound


@pytest.mark.parametrize("vision", VISION)
def test_the_two_sides_are_told_apart_and_the_middle_is_the_lightest(vision):
    found, lab = cielab(vision), oklab(vision)
    lightness = found[:, 0]
    assert (np.diff(lightness[: MIDDLE + 1 : 4]) > 0).all() and (np.diff(lightness[MIDDLE::4]) < 0).all()
    # At an eighth of the scale the sides differ by 11 and more; 2.3 is just noticeable (Mahy et al. 1994).
    for far, least in ((16, 10), (32, 20), (64, 40), (128, 90)):
        assert np.linalg.norm(found[MIDDLE - far] - found[MIDDLE + far]) > least
    # The two sides are equally strong: what is as far from neutral differs from it by as much.
    below, above = (np.linalg.norm(lab[end] - lab[MIDDLE]) for end in (0, -1))
    assert max(below, above) / min(below, above) < 1.3


def test_the_middle_is_a_neutral_grey():
    red, green, blue = np.round(np.array(DIVERGING.colors[MIDDLE]) * 255)
    assert red == green == blue == 242


def drawn(figure):
    """The pixels of a figure's maps: for each panel, the colour in the middle of each of 2 x 2 patches."""
    picture = np.asarray(Image.open(io.BytesIO(png(figure, 100))).convert("RGB"))
    found = []
    for axes in figure.axes:
        if len(axes.images) == 2:  # a map and its image
            box = axes.get_window_extent()
            rows = [round(picture.shape[0] - box.y1 + share * box.height) for share in (0.25, 0.75)]
            columns = [round(box.x0 + share * box.width) for share in (0.25, 0.75)]
            found.append(picture[np.ix_(rows, columns)])
    return np.array(found)


def figures(values, scales):
    """The same map in every kind of figure."""
    maps, norm = values[None, None], scales[UNIFORM]
    yield attention_figure(WHITE, maps, np.zeros((1, 1)), ["block"], [0], "", norm=norm)
    yield maps_figure(WHITE, [panel("shares", values)], "", scales=scales)
    yield queries_figure(WHITE, values[None], [(0, 1)], "", norm)
    yield mistakes_figure(WHITE[None], ["a → b"], values[None], norm)


def panel(title, values, unit=UNIFORM):
    return MapPanel(title, values, unit)


@pytest.mark.parametrize("top", [1.0, 3.0, 7.0, 100.0])
def test_uniform_is_one_colour_in_every_figure_whatever_else_is_on_the_page(top):
    values = np.array([[1.0, 1.0], [top, 1.0]])
    neutral = (242, 242, 242)
    for figure in figures(values, colour_scales([(UNIFORM, values)])):
        (colours,) = drawn(figure)
        for row, column in ((0, 0), (1, 1)):
            assert tuple(colours[row, column]) == neutral
    pane = np.asarray(blend(WHITE, values, colour_scale(UNIFORM, [values])))
    assert tuple(pane[CELL // 4, CELL // 4]) == neutral
    signed = np.array([[0.0, 0.0], [top, 0.0]])
    (colours,) = drawn(maps_figure(WHITE, [panel("relevance", signed, "logits")], ""))
    assert tuple(colours[0, 0]) == neutral
    alike = np.zeros((1, 2, 1, 2))  # cosine similarities
    image = similarity_figure({"positions": alike}).axes[0].images[0]
    assert tuple(np.round(255 * np.array(image.cmap(float(image.norm(0.0)))[:3]))) == neutral


def maps_of(method, values, pixels, **changes):
    plain = dict(prefix_mass=np.zeros((len(values), 1, 1)), layers=("all",), heads=(0,), residual=None)
    return Maps(method=method, explained="", values=values, pixels=pixels, **plain | changes)


def test_equal_values_have_equal_colours_over_all_maps_of_a_page():
    pixels = np.stack([WHITE] * 2)
    mild = np.array([[[[[2.0, 0.5], [1.0, 0.5]]]], [[[[1.0, 1.0], [0.5, 2.0]]]]])
    sharp = np.array([[[[[12.0, 0.5], [2.0, 0.0]]]], [[[[2.0, 0.0], [0.5, 12.0]]]]])
    signed = np.array([[[[[2.0, -1.0], [0.0, 0.1]]]], [[[[5.0, 2.0], [-1.0, 0.1]]]]])
    found = [maps_of("mild", mild, pixels), maps_of("sharp", sharp, pixels)]
    found.append(maps_of("signed", signed, pixels, unit="logits", sign="signed"))
    scales = colour_scales((maps.unit, maps.values) for maps in found)
    colours = {}
    for image in range(2):
        pictures = [(maps, drawn(maps.figure(image, scales))[0]) for maps in found]
        pictures += zip(found, drawn(side_by_side(found, image, scales)))
        for maps, picture in pictures:
            for place in np.ndindex(2, 2):
                value = (maps.unit, float(maps.values[image, 0, 0][place]))
                colours.setdefault(value, set()).add(tuple(picture[place]))
    assert len(colours) == 10 and all(len(same) == 1 for same in colours.values())
    assert len(set.union(*colours.values())) == 9  # 1x uniform and 0 logits are the same neutral colour


def test_the_limits_are_in_words_once_for_the_page():
    scales = colour_scales([(UNIFORM, np.array([5.0])), ("logits", np.array([-2.5])), (UNIFORM, np.array([1.0]))])
    said = describe_scales(scales)
    assert "down to 1/8× and below" in said and "up to 8× and above" in said
    assert "up to +2.5 logits" in said and "down to −2.5 logits" in said


@pytest.mark.parametrize(
    ("unit", "middle", "spread"), [(UNIFORM, 1.0, 0.05), ("logits", 0.0, 0.004)], ids=["shares", "logits"]
)
def test_a_nearly_flat_map_looks_flat(unit, middle, spread):
    noise = np.random.default_rng(0).uniform(-spread, spread, (14, 14))
    figure = maps_figure(WHITE, [panel("noise", middle + noise, unit)], "")
    image = figure.axes[1].images[0]
    colours = np.round(255 * image.cmap(image.norm(image.get_array()))[..., :3])
    assert np.abs(colours - 242).max() <= 10  # of 255; without a lower limit of the scale it would be 220
    assert np.ptp(colours, axis=(0, 1)).max() <= 14


def test_a_photograph_changes_the_brightness_of_a_colour_and_never_its_hue():
    photo = np.random.default_rng(0).integers(0, 256, (CELL, CELL, 3), dtype=np.uint8)
    photo[0, 0], photo[-1, -1] = 255, 0
    light = 1 - shade_of(photo)
    assert (light.max(), light.min()) == (1, 1 - SHADE)
    for value in (0.25, 1.0, 4.0):
        norm, values = colour_scale(UNIFORM, [np.ones(1)]), np.full((1, 1), value)
        pane, plain = (
            np.asarray(blend(image, values, norm), dtype=float) for image in (photo, np.full_like(photo, 255))
        )
        assert np.abs(pane - plain * light[..., None]).max() <= 0.5  # rounding


@pytest.mark.parametrize("exposure", [20, 255])
def test_a_dark_photograph_is_as_bright_underneath_as_a_bright_one(exposure):
    ramp = np.linspace(0, exposure, 60 * 60).reshape(60, 60, 1).repeat(3, 2)
    shade = shade_of(ramp.astype(np.uint8))
    assert shade.min() == 0 and shade.mean() < 0.2
