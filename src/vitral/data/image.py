"""The one image loader: whatever the file holds, what comes out is upright 8-bit RGB."""

import io
import warnings
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vitral.base.errors import ImageError

# Pillow opens some forty formats by default, and its past vulnerabilities lay in the rare ones.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 178_000_000  # about as many as Pillow itself agrees to open; as RGB this is 534 MB
PAPER = (255, 255, 255)  # what shows through where an image is transparent


class Quiet:
    """Pillow's warnings off: odd metadata is no matter of the pixels, and what is missing of those is an error.

    `warnings.catch_warnings` changes the whole process and must not overlap in threads, which images are read in; so
    the first thread in changes it and the last one out puts it back.
    """

    lock, inside = Lock(), 0
    caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with Quiet.lock:
            if Quiet.inside == 0:
                Quiet.caught = warnings.catch_warnings()
                Quiet.caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            Quiet.inside += 1

    def __exit__(self, *error: object) -> None:
        with Quiet.lock:
            Quiet.inside -= 1
            if Quiet.inside == 0:
                Quiet.caught.__exit__(None, None, None)


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
        with Quiet(), Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()  # `verify` would let a truncated JPEG pass
            return to_rgb(ImageOps.exif_transpose(image), name)
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"There is no image {name}. Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder, not an image. Name the images in it.") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read: permission denied.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that can be read. Formats: {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has, or claims to have, more pixels than are read ({MAX_PIXELS:,}). Scale it down first."
        ) from error
    except Exception as error:  # a decoder may trip over a damaged file in any way
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is damaged or incomplete ({reason}). Replace or remove it.") from error


def to_rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "y x 3"]:
    """Convert any Pillow mode without losing what it means."""
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = eight_bits(values, name)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = PAPER[0]
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (*PAPER, 255))
        image = Image.alpha_composite(paper, image)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)
    return np.array(image.convert("RGB"))


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
