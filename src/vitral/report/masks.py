"""Masks over images: the right one, the predicted one, and where they differ; and figures per class.

Axes:  n images   y x pixels   k classes
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vitral.base.mask_values import IGNORED, background_of
from vitral.report.colours import LUMINANCE
from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, show_image, styled

OPACITY = 0.7
# Seven of Okabe & Ito 2008, "Color Universal Design", which differ without red or green cones too. Their black is left
# out, since the image below is grey; wine is Tol's (2021, "Colour Schemes").
DISTINCT = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#882255")
MAX_NAMED = 24  # classes with a colour in the legend


def class_colours(names: Sequence[str], background: int | None) -> Float[np.ndarray, "k 3"]:
    """One colour per class, in 0..1; the background's is not used."""
    more = [colormaps["tab20b"](step)[:3] for step in range(20)] + [colormaps["tab20c"](step)[:3] for step in range(20)]
    every = [to_rgb(colour) for colour in DISTINCT] + more
    others = [index for index in range(len(names)) if index != background]
    found = np.ones((len(names), 3))
    for place, index in enumerate(others):
        found[index] = every[place % len(every)]
    return found


def overlaid(
    pixels: UInt8[np.ndarray, "y x 3"],
    mask: UInt8[np.ndarray, "y x"],
    colours: Float[np.ndarray, "k 3"],
    background: int | None,
) -> UInt8[np.ndarray, "y x 3"]:
    """The mask's colours over the image in grey; the background stays grey, ignored pixels are white."""
    grey = flat_grey(pixels)
    found = grey.copy()
    known = mask < len(colours)
    painted = known & (mask != background) if background is not None else known
    found[painted] = OPACITY * colours[mask[painted]] + (1 - OPACITY) * grey[painted]
    found[mask == IGNORED] = 1.0
    return (found * 255 + 0.5).astype(np.uint8)


def flat_grey(pixels: UInt8[np.ndarray, "y x 3"]) -> Float[np.ndarray, "y x 3"]:
    """The image in grey, lighter and flatter, so that colours over it look the same everywhere; in 0..1."""
    return 0.35 + 0.55 * np.repeat((pixels @ LUMINANCE)[..., None] / 255, 3, axis=2)


def wrong_pixels(pixels: UInt8[np.ndarray, "y x 3"], wrong: Bool[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x 3"]:
    """The image in grey with its wrong pixels in one colour."""
    grey = flat_grey(pixels)
    grey[wrong] = to_rgb(SECOND)
    return (grey * 255 + 0.5).astype(np.uint8)


@styled()
def masks_figure(
    pixels: UInt8[np.ndarray, "n y x 3"],
    right: UInt8[np.ndarray, "n y x"],
    predicted: UInt8[np.ndarray, "n y x"],
    names: Sequence[str],
    background: int | None,
    titles: Sequence[str],
) -> Figure:
    """One row per image: the image, its right mask, the predicted one, and the wrong pixels. One legend for all."""
    count = len(pixels)
    colours = class_colours(names, background)
    present = [
        index for index in range(len(names)) if index != background and ((right == index) | (predicted == index)).any()
    ]
    lines = -(-min(len(present), MAX_NAMED) // 6)
    figure = sheet(7.6, 1.95 * count + 0.25 * lines + 0.3)
    panels = figure.subplots(count, 4, squeeze=False)
    heads = ("image", "right mask", "predicted mask", "wrong pixels")
    for row, (axes, image, truth, answer, title) in enumerate(zip(panels, pixels, right, predicted, titles)):
        judged = truth != IGNORED
        wrong = judged & (truth != answer)
        pictures = (
            image,
            overlaid(image, truth, colours, background),
            overlaid(image, answer, colours, background),
            wrong_pixels(image, wrong),
        )
        for place, (own, picture, head) in enumerate(zip(axes, pictures, heads)):
            show_image(own, picture, head if row == 0 else "")
            below = {0: title, 3: f"{wrong.sum() / max(1, judged.sum()):.1%} of pixels"}
            own.set_xlabel(below.get(place, ""), fontsize=8)
    handles = legend_handles(present, colours, names)
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)), fontsize=8)
    return figure


def legend_handles(present: Sequence[int], colours: Float[np.ndarray, "k 3"], names: Sequence[str]) -> list[Patch]:
    """A patch of each class's colour, at most `MAX_NAMED` of them, and how many more there are."""
    handles = [Patch(color=colours[index], label=names[index]) for index in present[:MAX_NAMED]]
    more = len(present) - len(handles)
    return [*handles, Patch(color="white", label=f"and {more} more")] if more > 0 else handles


@styled()
def region_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    predicted: UInt8[np.ndarray, "y x"],
    region: Bool[np.ndarray, "y x"],
    names: Sequence[str],
) -> Figure:
    """The image with the outline of a region, and the predicted mask with the same outline."""
    background = background_of(names)
    colours = class_colours(names, background)
    figure = sheet(6.0, 3.3)
    panels = figure.subplots(1, 2)
    pictures = pixels, overlaid(pixels, predicted, colours, background)
    padded = np.pad(region, 1)  # so that an outline at the border is closed
    for axes, picture, title in zip(panels, pictures, ("the region", "the predicted mask")):
        show_image(axes, picture, title)
        for colour, width in (("white", 3.0), (INK, 1.4)):
            places = [np.arange(side) - 1 for side in padded.shape]
            axes.contour(places[1], places[0], padded, levels=[0.5], colors=[colour], linewidths=width)
    present = [index for index in range(len(names)) if index != background and (predicted == index).any()]
    handles = legend_handles(present, colours, names)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8)
    return figure


@styled()
def per_class_figure(
    iou: Float[np.ndarray, " k"],
    intervals: Sequence[tuple[float, float]],
    boundary_f: Float[np.ndarray, " k"],
    names: Sequence[str],
) -> Figure:
    """One line per class: IoU with its interval, and the boundary F-score."""
    order = [index for index in np.argsort(np.where(np.isnan(iou), -1, iou), kind="stable") if not np.isnan(iou[index])]
    figure = sheet(6.4, 0.3 * len(order) + 1.0)
    axes = figure.subplots()
    for place, index in enumerate(order):
        low, high = intervals[index]
        axes.plot([low, high], [place, place], color=ACCENT, lw=2, solid_capstyle="round")
        axes.plot(iou[index], place, "o", color=ACCENT, ms=5, label="IoU, 95% interval" if place == 0 else None)
        axes.plot(
            boundary_f[index], place, "D", mfc="none", color=SECOND, ms=5, label="boundary F" if place == 0 else None
        )
    axes.set(xlim=(0, 1), ylim=(-0.6, len(order) - 0.4), yticks=range(len(order)))
    axes.set_yticklabels([names[index] for index in order])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="x", color=FAINT, alpha=0.3)
    axes.tick_params(length=0, colors=INK)
    axes.legend(loc="lower right", fontsize=8)
    return figure
