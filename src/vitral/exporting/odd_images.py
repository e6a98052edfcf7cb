"""Image files of all kinds, made here, on which an exported model is compared with the model.

Modes, depths, formats and shapes that image files really have, decoded by Vitral's loader.
"""

import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.data.image import load_image

SIZES = (
    (37, 53),
    (64, 64),
    (120, 31),
    (1, 1),
    (1, 90),
    (90, 1),
    (3, 700),
    (700, 3),
    (256, 144),
    (480, 640),
    (301, 299),
)
ROTATED = 6  # EXIF: to be turned by 90 degrees


def odd_images() -> Iterator[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]:
    """A name and the pixels of each image."""
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield f"noise of {height} x {width}", load_image(encoded(Image.fromarray(noise), "PNG"))
        yield f"waves of {height} x {width}", load_image(encoded(waves(height, width), "PNG"))
    picture = waves(90, 130)
    alpha = Image.linear_gradient("L").resize(picture.size)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        converted = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
        if mode in ("LA", "RGBA"):
            converted.putalpha(alpha)
        yield f"PNG in mode {mode}", load_image(encoded(converted, "PNG"))
    yield "palette with a transparent colour", load_image(encoded(picture.convert("P"), "PNG", transparency=3))
    yield "JPEG", load_image(encoded(picture, "JPEG", quality=60))
    yield "progressive JPEG", load_image(encoded(picture, "JPEG", progressive=True))
    yield "grey JPEG", load_image(encoded(picture.convert("L"), "JPEG"))
    yield "CMYK JPEG", load_image(encoded(picture.convert("CMYK"), "JPEG"))
    turned = Image.Exif()
    turned[0x0112] = ROTATED
    yield "JPEG that is turned by its EXIF", load_image(encoded(picture, "JPEG", exif=turned))
    yield "animated GIF", load_image(encoded(picture, "GIF", save_all=True, append_images=[waves(90, 130, 2)]))
    yield "WebP", load_image(encoded(picture, "WEBP"))
    yield "BMP", load_image(encoded(picture, "BMP"))
    yield (
        "TIFF of floats",
        load_image(encoded(Image.fromarray(np.linspace(0, 1, 6000).reshape(60, 100).astype("f4")), "TIFF")),
    )


def waves(height: int, width: int, phase: float = 0.0) -> Image.Image:
    """Smooth colours, of which resizing leaves something, unlike of noise."""
    y, x = np.mgrid[:height, :width] / 20 + phase
    pixels = np.stack([np.sin(y), np.cos(x + y), np.sin(2 * x)], axis=-1) * 127 + 128
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
