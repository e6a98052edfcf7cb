"""The training film: for a few images, what CLS attends to from the untrained model to the last step.

The colour of each patch is the share of attention it receives, on one scale for all frames, layers and images.

Axes:  f frames   b images   l layers   gy gx rows, columns of patches   y x pixels
"""

import io
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import Normalize
from PIL import Image, ImageDraw, ImageFont

from vitral.report.colours import DIVERGING, UNIFORM, colour_scale, shade_of, ticks
from vitral.report.style import FAINT, INK

CELL = 78  # pixels per side of an image
QUALITY = 82  # of WebP, 0 to 100
LAST_FRAME_SECONDS = 2.5
GAP = 6
MARGIN, HEAD, FOOT = 74, 30, 44


def film_frames(
    pixels: UInt8[np.ndarray, "b y x 3"],
    frames: Float[np.ndarray, "f b l gy gx"],
    steps: Sequence[int],
    accuracies: Sequence[float | None],
    norm: Normalize | None = None,
) -> list[Image.Image]:
    """One picture per frame: the images in the first row, and one row per layer below, in units of uniform attention.

    Drawn with Pillow: a frame takes milliseconds, where Matplotlib takes a second.
    """
    norm = norm or colour_scale(UNIFORM, [frames])
    count, depth = frames.shape[1:3]
    width = MARGIN + count * (CELL + GAP) + GAP
    height = HEAD + (depth + 1) * (CELL + GAP) + FOOT
    font, small = load_font(13), load_font(11)
    pictures = []
    for frame, step, accuracy in zip(frames, steps, accuracies):
        picture = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(picture)
        draw.text((GAP, 8), f"step {step:,}", INK, font)
        if accuracy is not None:
            draw.text((MARGIN + 30, 8), f"validation accuracy {accuracy:.0%}", INK, font)
        progress, right = step / max(*steps, 1), width - GAP
        bar = max(0, min(150, right - MARGIN - 220))  # beside the text
        draw.rectangle((right - bar, 14, right, 17), fill="#e1e6eb")
        draw.rectangle((right - bar, 14, right - bar + bar * progress, 17), fill=INK)
        for index in range(count):
            left = MARGIN + index * (CELL + GAP)
            picture.paste(Image.fromarray(pixels[index]).resize((CELL, CELL), Image.Resampling.NEAREST), (left, HEAD))
            for layer in range(depth):
                corner = (left, HEAD + (layer + 1) * (CELL + GAP))
                picture.paste(blend(pixels[index], frame[index, layer], norm), corner)
        for row in range(depth + 1):
            name = "image" if row == 0 else f"block {row - 1}"
            draw.text((GAP, HEAD + row * (CELL + GAP) + CELL // 2 - 8), name, INK, small)
        add_scale_bar(picture, draw, norm, small, (MARGIN, height - FOOT + 10), right - MARGIN)
        pictures.append(picture)
    return pictures


def blend(pixels: UInt8[np.ndarray, "y x 3"], values: Float[np.ndarray, "gy gx"], norm: Normalize) -> Image.Image:
    """A map darkened by its image: the hue is the attention, and the brightness within a patch is the image's own."""
    size, nearest = (CELL, CELL), Image.Resampling.NEAREST
    colours = (DIVERGING(norm(values))[..., :3] * 255).round().astype(np.uint8)
    coloured = np.asarray(Image.fromarray(colours).resize(size, nearest), dtype=np.float32)
    light = 1 - shade_of(np.asarray(Image.fromarray(pixels).resize(size, nearest)))
    return Image.fromarray((coloured * light[..., None]).round().astype(np.uint8))


def add_scale_bar(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    norm: Normalize,
    font: ImageFont.FreeTypeFont,
    corner: tuple[int, int],
    width: int,
) -> None:
    """Draw the colour scale with its labels, in place."""
    left, top = corner
    ramp = (DIVERGING(np.linspace(0, 1, width))[:, :3] * 255).round().astype(np.uint8)
    picture.paste(Image.fromarray(np.repeat(ramp[None], 8, axis=0)), corner)
    for value, label in zip(*ticks(norm)):
        x = left + round(float(norm(value)) * width)
        draw.line((x, top + 8, x, top + 11), fill=INK)
        anchor = {0: "la", width: "ra"}.get(x - left, "ma")  # the labels of the ends stay within the scale
        draw.text((x, top + 12), label, INK, font, anchor=anchor)
    draw.text((GAP, top - 2), "attention", FAINT, font)


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that ships with Matplotlib."""
    path = resources.files("matplotlib") / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def animation(pictures: Sequence[Image.Image], seconds: float = 0.35) -> bytes:
    """The frames as one animated WebP file that repeats; the last frame stays for `LAST_FRAME_SECONDS`."""
    durations = [round(1000 * each) for each in [seconds] * (len(pictures) - 1) + [LAST_FRAME_SECONDS]]
    return webp(pictures[0], save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def still(picture: Image.Image) -> bytes:
    """One frame as a WebP file."""
    return webp(picture)


def webp(picture: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=QUALITY, method=4, **options)
    return content.getvalue()
