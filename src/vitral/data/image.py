"""The one image loader: whatever the file holds, the result is upright 8-bit RGB."""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vitral.base.errors import ImageError

# Pillow opens some forty formats by default, and its past vulnerabilities were in the rare ones.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
SUFFIXES: tuple[str, ...] = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
HEIF = find_spec("pillow_heif") is not None  # a plug-in of its own, whose decoder has another licence
if HEIF:
    FORMATS, SUFFIXES = (*FORMATS, "HEIF"), (*SUFFIXES, ".heic", ".heif")
# Images by their names, which are not read: a folder that has them is not one without images.
OTHER_SUFFIXES = tuple(
    suffix
    for suffix in (
        *(".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".tga", ".exr", ".hdr", ".dcm"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"),
    )
    if suffix not in SUFFIXES
)
MAX_PIXELS = 178_000_000  # about Pillow's own limit; as RGB this is 534 MB
LARGE_BLOCK = 64 * 2**20  # bytes
BACKGROUND = (255, 255, 255)  # behind transparent pixels


class PillowWarningsOff:
    """Suppresses Pillow's warnings: odd metadata does not affect the pixels, and missing pixels raise an error anyway.

    `warnings.catch_warnings` changes the whole process and must not overlap between threads, but images are read in
    threads. So the first thread to enter installs the filter and the last one to leave removes it.
    """

    lock, inside = Lock(), 0
    caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with PillowWarningsOff.lock:
            if PillowWarningsOff.inside == 0:
                PillowWarningsOff.caught = warnings.catch_warnings()
                PillowWarningsOff.caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            PillowWarningsOff.inside += 1

    def __exit__(self, *error: object) -> None:
        with PillowWarningsOff.lock:
            PillowWarningsOff.inside -= 1
            if PillowWarningsOff.inside == 0:
                PillowWarningsOff.caught.__exit__(None, None, None)


def load_image(source: str | Path | bytes) -> UInt8[np.ndarray, "y x 3"]:
    """Read an image file, or its bytes, as RGB (height, width, 3) with values from 0 to 255.

    The image is turned upright by its EXIF tag. Transparent pixels become white. 16-bit, floating-point and 1-bit
    values are scaled by their own range; CMYK, LAB and palettes are converted. An animation gives its first frame.

    Raises `ImageError` naming the file if it is missing, not an image, truncated, or too large.

    >>> content = io.BytesIO()
    >>> Image.new("RGB", (40, 30), "red").save(content, "PNG")
    >>> image = load_image(content.getvalue())
    >>> image.shape, image[0, 0].tolist()
    ((30, 40, 3), [255, 0, 0])
    """
    with opened(source) as image:
        image.load()  # decodes every row; `verify` would accept a truncated JPEG
        return np.array(upright_rgb(image, name_of(source)))


def name_of(source: str | Path | bytes) -> str:
    """What messages call it."""
    return "the image given as bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def opened(source: str | Path | bytes) -> Iterator[Image.Image]:
    """The image, of which only the header was read; whatever is wrong with it inside the block is an `ImageError`."""
    name = name_of(source)
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    prepare_pillow()
    try:
        with PillowWarningsOff(), Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # the header is enough: nothing has been decoded yet
                raise Image.DecompressionBombError
            yield image
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"There is no image {name}. Check the path.") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder, not an image. Specify the images in it.") from error
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: permission denied. Make it readable for your user.") from error
    except UnidentifiedImageError as error:
        more = "" if HEIF or not name.lower().endswith((".heic", ".heif")) else " For HEIC: pip install 'vitral[heic]'."
        raise ImageError(
            f"{name} is not an image in a supported format. Supported: {', '.join(FORMATS)}.{more}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has, or claims to have, more than {MAX_PIXELS:,} pixels, the limit for an image that is decoded "
            "whole. Scale it down first, or segment it in parts as a tiled TIFF: vitral predict MODEL scan.tif --tile."
        ) from error
    except Exception as error:  # decoders raise errors of many types for damaged files
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(f"{name} is damaged or incomplete ({reason}). Replace or remove it.") from error


def pages_in(path: Path) -> int:
    """How many pages a TIFF file has; 1 for other files and for what cannot be read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with PillowWarningsOff(), Image.open(path, formats=("TIFF",)) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # whoever reads the image says what is wrong with it
        return 1


def first_page_only(paths: Iterable[Path]) -> str:
    """A sentence on TIFF files of several pages, of which the first is read; empty if there are none."""
    several = [(path, pages) for path in paths if (pages := pages_in(path)) > 1]
    if not several:
        return ""
    path, pages = several[0]
    return f"{len(several)} TIFF files have several pages, such as {path} ({pages}): the first page of each is used."


@cache
def prepare_pillow() -> None:
    """Let Pillow read HEIC photographs, where their plug-in is installed, and give the memory of large images back."""
    # The C library maps blocks of more than 32 MB, and returns them at once; blocks of Pillow's 16 MB stay with the
    # thread that freed them (8 JPEGs of 64 megapixels: 1,226 MB at most, and 256 MB in larger blocks).
    Image.core.set_block_size(LARGE_BLOCK)
    if HEIF:
        from pillow_heif import register_heif_opener

        register_heif_opener()


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Turn an image upright by its EXIF tag, in place, and convert any mode so that each value keeps its meaning."""
    ImageOps.exif_transpose(image, in_place=True)
    # Pillow's own conversion would clip these modes at 255: a 16-bit image would become nearly white.
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = to_eight_bits(values, name)
        # Pillow gives a grey PNG's transparent value, but does not apply it at this depth.
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = BACKGROUND[0]
        return Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    if image.has_transparency_data:  # without this, the hidden colour of transparent pixels would show
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_eight_bits(values: np.ndarray, name: str) -> UInt8[np.ndarray, "y x"]:
    """Scale grey values to 0..255: floats from 0..1 (or 0..255 unchanged), integers from 0..65535.

    The range is that of the type, not of the values: scaling each image by its own brightest pixel would change what
    brightness means from one image to the next. Raises `ImageError` where the values fit no such range.
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise ImageError(
            f"{name} holds values from {low:g} to {high:g}, but they must be finite and at least 0. Convert it to 8 or "
            "16 bits."
        )
    white = (1.0 if high <= 1 else 255.0) if values.dtype.kind == "f" else 65_535.0
    if high > white:
        raise ImageError(
            f"{name} holds values up to {high:g}, so it is unclear which value is white. Convert it to 8 or 16 bits."
        )
    return np.round(values.astype(np.float64) * (255 / white)).astype(np.uint8)
