"""The images that are named on a command line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitral.base.errors import ImageError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.cli import say
from vitral.data.folder import images_in
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize


def read_images(
    paths: Sequence[Path], preprocessing: Preprocessing, on_bad_image: str
) -> list[tuple[Path, UInt8[np.ndarray, "y x 3"]]]:
    """Each image, cut to the model's size, with its path; a folder stands for the images in it.

    Raises `UsageError` if there are none.
    """
    found = {path: images_in(path) if path.is_dir() else [path] for path in paths}
    files = [file for each in found.values() for file in each]
    if not paths:
        raise UsageError("No images were named.")
    if empty := [str(path) for path, each in found.items() if not each]:
        raise UsageError(f"There are no images in {', '.join(empty)}.")
    read, bad = [], []
    for file in files:
        try:
            read.append((file, crop_and_resize(load_image(file), preprocessing)))
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            bad.append(str(error))
    if bad:
        say(f"{len(bad)} of {len(files)} images could not be read and were left out:\n  " + "\n  ".join(bad))
    if not read:
        raise ImageError("None of the images could be read.")
    return read
