"""The one colour scale of all maps: a neutral grey in the middle, blue below it, orange above.

    share of uniform    1/8×  1/4×  1/2×   1×   2×   4×   8×      equal ratios are equal distances in colour
    signed relevance    −4 logits          0          +4 logits   orange is evidence for the class, blue against it

The scale is two straight lines in OKLab (Ottosson 2020, "A perceptual color space for image processing"), from the
neutral grey to a blue and an orange of the same lightness and chroma, so equal steps look equally large, and the two
sides equally strong (Moreland 2009, "Diverging Color Maps for Scientific Visualization", §3). Blue and orange differ
without red and green cones too.

Over a photograph the colour is darkened by the photograph, never mixed with it, so the hue is the value alone.

Axes:  n colours   y x pixels
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import ListedColormap, LogNorm, Normalize

UNIFORM = "times uniform"  # the unit of shares: 1 where a patch gets as much as it would if all patches were alike

NEUTRAL_LIGHTNESS, END_LIGHTNESS, END_CHROMA = 0.96, 0.55, 0.17  # in OKLab; more chroma would leave sRGB
BLUE_HUE, ORANGE_HUE = 255.0, 40.0  # degrees
NUM_COLOURS = 257  # odd: the neutral colour is the middle one

LEAST_RATIO = 4.0  # smallest limit of a scale of shares: a nearly flat map looks flat
LARGEST_RATIO = 16.0  # largest limit: one peak leaves colours for the other patches
LEAST_SIGNED = 0.1  # limit of a signed scale, in logits: a map with smaller values stays pale
SHADE = 0.5  # how much the darkest pixel of a photograph darkens the colour above it
LUMINANCE = np.array([0.299, 0.587, 0.114])

# Ottosson 2020: linear sRGB -> cone responses, and their cube roots -> OKLab.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def srgb_from_oklab(colours: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Lightness, a and b in OKLab -> red, green and blue in 0..1, as a screen takes them."""
    linear = (colours @ np.linalg.inv(TO_OKLAB).T) ** 3 @ np.linalg.inv(TO_CONES).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def diverging_colours() -> Float[np.ndarray, "n 3"]:
    """The colours of the scale, from blue over the neutral grey to orange."""
    place = np.linspace(-1, 1, NUM_COLOURS)
    hue = np.radians(np.where(place < 0, BLUE_HUE, ORANGE_HUE))
    far = np.abs(place)
    lightness = NEUTRAL_LIGHTNESS + far * (END_LIGHTNESS - NEUTRAL_LIGHTNESS)
    chroma = far * END_CHROMA
    colours = srgb_from_oklab(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1))
    return np.round(colours * 255) / 255  # Matplotlib truncates where Pillow rounds: both give these 8 bits


DIVERGING = ListedColormap(diverging_colours(), name="vitral diverging")


def colour_scale(unit: str, maps: Iterable[Float[np.ndarray, "..."]]) -> Normalize:
    """One scale for all maps of a unit on a page: shares around 1×, anything else around 0.

    Shares have a logarithmic scale from 1/limit to the limit, which is the power of two that holds the largest value,
    from `LEAST_RATIO` to `LARGEST_RATIO`; what lies beyond has the colour of the end.
    """
    largest = max((float(np.abs(values).max()) for values in maps), default=0.0)
    if unit == UNIFORM:
        limit = 2.0 ** math.ceil(math.log2(min(max(largest, LEAST_RATIO), LARGEST_RATIO)))
        return LogNorm(1 / limit, limit, clip=True)
    limit = max(largest, LEAST_SIGNED if unit == "logits" else 1e-12)  # numbers have a unit of their own
    return Normalize(-limit, limit, clip=True)


def colour_scales(maps: Iterable[tuple[str, Float[np.ndarray, "..."]]]) -> dict[str, Normalize]:
    """The scale of each unit, for all maps of a page, given as (unit, values)."""
    found: dict[str, list[np.ndarray]] = {}
    for unit, values in maps:
        found.setdefault(unit, []).append(values)
    return {unit: colour_scale(unit, values) for unit, values in found.items()}


def ticks(norm: Normalize, unit: str = UNIFORM) -> tuple[list[float], list[str]]:
    """Round values of a scale and their labels; the ends of a scale of shares stand for all that lies beyond.

    >>> ticks(colour_scale("logits", [np.array([-2.0, 1.0])]), "logits")
    ([-2.0, -1.0, 0.0, 1.0, 2.0], ['−2 against', '−1', '0', '+1', '+2 for'])
    """
    end = float(norm.vmax or 1.0)
    if unit != UNIFORM:
        return [-end, -end / 2, 0.0, end / 2, end], [
            f"−{end:.2g} against",
            f"−{end / 2:.2g}",
            "0",
            f"+{end / 2:.2g}",
            f"+{end:.2g} for",
        ]
    top = round(math.log2(end))
    powers = [*range(-top, top + 1)] if top <= 3 else [-top, -2, 0, 2, top]  # more would not fit a small figure
    labels = [f"{2**power:g}×" if power >= 0 else f"1/{2**-power:g}×" for power in powers]
    labels[powers.index(0)] = "1× uniform"
    labels[0], labels[-1] = f"{labels[0]} or less", f"{labels[-1]} or more"
    return [2.0**power for power in powers], labels


def describe_scales(scales: Mapping[str, Normalize]) -> str:
    """The colours and limits of the scales of a page, in words."""
    sentences = []
    for unit, norm in scales.items():
        end = float(norm.vmax or 1.0)
        if unit == UNIFORM:
            sentences.append(
                f"Grey is 1× uniform, as much as every patch would get if all got the same; blue is less, down to "
                f"1/{end:g}× and below; orange is more, up to {end:g}× and above."
            )
        else:
            sentences.append(
                f"In maps in {unit}, grey is 0; orange is evidence for the class, up to +{end:.2g} {unit}; blue is "
                f"evidence against it, down to −{end:.2g} {unit}."
            )
    return " ".join(sentences)


def shade_of(pixels: UInt8[np.ndarray, "y x 3"]) -> Float[np.ndarray, "y x"]:
    """How much a photograph darkens the colours above it: from 0 at its brightest pixel to `SHADE` where it is black.

    The square root lifts its dark parts, so a dark photograph leaves the colours bright too.
    """
    light = pixels @ LUMINANCE
    return SHADE * (1 - np.sqrt(light / max(float(light.max()), 1.0)))
