"""Images by path or as arrays, prepared for a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitral.base.errors import ImageError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.folder import images_in
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize
from vitral.tasks.progress import Progress

Image = str | Path | UInt8[np.ndarray, "_ _ 3"]


def read_images(
    images: Image | Sequence[Image], preprocessing: Preprocessing, on_bad_image: str, progress: Progress
) -> list[tuple[Path, UInt8[np.ndarray, "y x 3"]]]:
    """Each image with its path, cropped and resized to the model's size; a folder stands for the images in it.

    An array is named after its place: `image-0`. Raises `UsageError` if there are none, `ImageError` for one that
    cannot be read unless `on_bad_image` is "skip".
    """
    several = [images] if isinstance(images, str | Path | np.ndarray) else images
    if not len(several):
        raise UsageError("No images were specified.")
    files: list[tuple[Path, np.ndarray | None]] = []
    empty = []
    for number, image in enumerate(several):
        if isinstance(image, np.ndarray):
            files.append((Path(f"image-{number}"), image))
            continue
        path = Path(image)
        inside = images_in(path) if path.is_dir() else [path]
        files += [(file, None) for file in inside]
        empty += [] if inside else [str(path)]
    if empty:
        raise UsageError(f"There are no images in {', '.join(empty)}.")
    read, bad = [], []
    for file, pixels in files:
        try:
            read.append((file, crop_and_resize(load_image(file) if pixels is None else pixels, preprocessing)))
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            bad.append(str(error))
    if bad:
        progress.note(f"{len(bad)} of {len(files)} images could not be read and were left out:\n  " + "\n  ".join(bad))
    if not read:
        raise ImageError("None of the images could be read.")
    return read
