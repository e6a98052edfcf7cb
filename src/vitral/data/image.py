"""The one image loader: whatever the file holds, what comes out is upright 8-bit RGB."""

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vitral.base.errors import ImageError

# Pillow opens some forty formats by default, and its past vulnerabilities lay in the rare ones.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000  # the largest phone sensors; as RGB this is 600 MB
PAPER = (255, 255, 255)  # what shows through where an image is transparent


def load_image(source: str | Path | bytes) -> UInt8[np.ndarray, "y x 3"]:
    """Read an image file, or its bytes, as RGB (height, width, 3), values 0 to 255.

    Turned upright by its EXIF tag; transparent pixels are laid on white; 16-bit, floating-point and 1-bit values keep
    their meaning; CMYK, LAB and palettes become RGB; of an animation the first frame is taken.

    Raises `ImageError` naming the file if it is missing, not an image, only the beginning of one, or too large.
    """
    name, stream = (
        ("the image given as bytes", io.BytesIO(source)) if isinstance(source, bytes) else (str(source), source)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(
                        f"{name} has {image.width} x {image.height} pixels; the most that is read is "
                        f"{MAX_PIXELS:,}. Scale it down first."
                    )
                image.load()  # `verify` would let a truncated JPEG pass
                return np.ascontiguousarray(to_rgb(ImageOps.exif_transpose(image), name))
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {name}. Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder, not an image. Name the images in it.") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read: permission denied.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read. Formats: {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} claims more pixels than are read ({MAX_PIXELS:,}). Scale it down first.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(
            f"{name} is damaged or incomplete ({str(error).rstrip('.')}). Replace or remove it."
        ) from error


def to_rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "y x 3"]:
    """Convert any Pillow mode without losing what it means."""
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        grey = eight_bits(np.asarray(image), name)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        image = Image.alpha_composite(paper, image)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)
    return np.asarray(image.convert("RGB"))


def eight_bits(values: np.ndarray, name: str) -> UInt8[np.ndarray, "y x"]:
    """Bring deep grey values to 0..255: floats from 0..1 (or 0..255 as they are), integers from 0..65535."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise ImageError(
            f"{name} holds values from {low:g} to {high:g}, which have no brightness. Convert it to 8 or 16 bits."
        )
    top = (1.0 if high <= 1 else 255.0) if values.dtype.kind == "f" else 65_535.0
    if high > top:
        raise ImageError(
            f"{name} holds values up to {high:g}, and nothing says which is white. Convert it to 8 or 16 bits."
        )
    return np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8)
