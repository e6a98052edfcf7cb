"""The training film: the same images, frame by frame, lit where CLS looks.

Each patch is a pane: its brightness is the share of attention it gets, on one scale for all frames, layers and images.

Axes:  f frames   b images   l layers   gy gx rows, columns of patches   y x pixels
"""

import io
from collections.abc import Sequence
from importlib import resources

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.colors import Normalize
from PIL import Image, ImageDraw, ImageFont

from vitral.report.attention import scale, times
from vitral.report.style import MAGNITUDE

PANE = 78  # pixels a side
QUALITY = 82  # of WebP
GAP = 6
INK, FAINT, PAPER = (34, 48, 60), (138, 151, 163), (255, 255, 255)
MARGIN, HEAD, FOOT = 74, 30, 44


def film_frames(
    pixels: UInt8[np.ndarray, "b y x 3"],
    frames: Float[np.ndarray, "f b l gy gx"],
    steps: Sequence[int],
    accuracies: Sequence[float | None],
) -> list[Image.Image]:
    """A picture a frame: the images on top, below them a row a layer.

    The colour bar is in units of uniform attention.
    """
    norm = scale(frames)
    count, depth = frames.shape[1:3]
    width = MARGIN + count * (PANE + GAP) + GAP
    height = HEAD + (depth + 1) * (PANE + GAP) + FOOT
    font, small = lettering(13), lettering(11)
    pictures = []
    for frame, step, accuracy in zip(frames, steps, accuracies):
        picture = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(picture)
        draw.text((GAP, 8), f"step {step:,}", INK, font)
        if accuracy is not None:
            draw.text((MARGIN + 30, 8), f"validation accuracy {accuracy:.0%}", INK, font)
        done = step / max(*steps, 1)
        right = width - GAP
        draw.rectangle((right - 150, 14, right, 17), fill=(225, 230, 235))
        draw.rectangle((right - 150, 14, right - 150 + 150 * done, 17), fill=INK)
        for index in range(count):
            left = MARGIN + index * (PANE + GAP)
            picture.paste(Image.fromarray(pixels[index]).resize((PANE, PANE), Image.Resampling.NEAREST), (left, HEAD))
            for layer in range(depth):
                place = (left, HEAD + (layer + 1) * (PANE + GAP))
                picture.paste(lit(pixels[index], frame[index, layer], norm), place)
        draw.text((GAP, HEAD + PANE // 2 - 8), "image", INK, small)
        for layer in range(depth):
            draw.text((GAP, HEAD + (layer + 1) * (PANE + GAP) + PANE // 2 - 8), f"block {layer}", INK, small)
        scale_bar(picture, draw, norm, small, (MARGIN, height - FOOT + 10), right - MARGIN)
        pictures.append(picture)
    return pictures


def lit(pixels: UInt8[np.ndarray, "y x 3"], values: Float[np.ndarray, "gy gx"], norm: Normalize) -> Image.Image:
    """An image under its map: the hue is the attention, the lightness inside a patch the image's own."""
    colours = (colormaps[MAGNITUDE](norm(values))[..., :3] * 255).astype(np.uint8)
    panes = np.asarray(Image.fromarray(colours).resize((PANE, PANE), Image.Resampling.NEAREST), dtype=np.float32)
    grey = np.asarray(
        Image.fromarray(pixels).convert("L").resize((PANE, PANE), Image.Resampling.NEAREST), dtype=np.float32
    )
    mixed = 0.72 * panes + 0.28 * grey[..., None]
    return Image.fromarray(mixed.astype(np.uint8))


def scale_bar(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    norm: Normalize,
    font: ImageFont.FreeTypeFont,
    place: tuple[int, int],
    width: int,
) -> None:
    ramp = (colormaps[MAGNITUDE](np.linspace(0, 1, width))[:, :3] * 255).astype(np.uint8)
    picture.paste(Image.fromarray(np.repeat(ramp[None], 8, axis=0)), place)
    for tick, name in zip(*times(norm)):
        at = place[0] + round(float(norm(tick)) * width)
        draw.line((at, place[1] + 8, at, place[1] + 11), fill=INK)
        text = "1× = uniform" if tick == 1 else name
        draw.text((min(at, place[0] + width - 12), place[1] + 12), text, INK, font, anchor="ma")
    draw.text((GAP, place[1] - 2), "CLS looks", FAINT, font)


def lettering(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that Matplotlib ships."""
    path = resources.files("matplotlib") / "mpl-data/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def animation(pictures: Sequence[Image.Image], seconds: float = 0.35) -> bytes:
    """The frames as one animated WebP, the last held for longer."""
    durations = [round(seconds * 1000)] * (len(pictures) - 1) + [2500]
    content = io.BytesIO()
    pictures[0].save(
        content,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=0,
        quality=QUALITY,
        method=4,
    )
    return content.getvalue()


def still(picture: Image.Image) -> bytes:
    """One frame as a WebP."""
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=QUALITY, method=4)
    return content.getvalue()
