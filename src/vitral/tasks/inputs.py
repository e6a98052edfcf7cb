"""What a task is given: a model, images and data, each by path or name, or loaded already."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import ImageError, UsageError
from vitral.base.feature_statistics import UNKNOWN
from vitral.base.modes import evaluating
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task, record_of
from vitral.data import OnBadImage
from vitral.data.dataset import Dataset
from vitral.data.division import DEFAULT, Division
from vitral.data.folder import ImageFolder, folder
from vitral.data.image import first_page_only, load_image
from vitral.data.mask_folder import photographs_in
from vitral.data.pixel_cache import PixelCache, find_cache
from vitral.data.preprocess import crop_and_resize
from vitral.data.reading import check_on_bad_image
from vitral.recording.forward import forward
from vitral.store.classifier import Classifier
from vitral.tasks.progress import Progress
from vitral.weights.load import load

Image = str | Path | UInt8[np.ndarray, "_ _ 3"]


def open_model(
    model: str | Path | nn.Module, progress: Progress, code: str | None = None, **options: Any
) -> Classifier:
    """The model, loaded by `vitral.load`, whose notes on how a file was read go to `progress`.

    Raises what `vitral.load` raises, and `UsageError` for a module without the record that says how it takes images.
    """
    if isinstance(model, nn.Module):
        if record_of(model) is None:
            raise UsageError(
                f"{type(model).__name__} has no record of its classes and preprocessing. Load it with vitral.load, or "
                "attach one: vitral.base.record.attach_record(model, ModelRecord(...))."
            )
        return cast(Classifier, model)
    loaded = load(model, code, **options)
    for note in loaded.record.notes:
        progress.note(note)
    return loaded


def note_unknown(record: ModelRecord, progress: Progress) -> None:
    """Report that a model's training images are unknown, so that nobody takes silence for "like them"."""
    if record.feature_statistics is None:
        progress.note(f"{UNKNOWN}: {record.why_unknown}")


def training_images_json(record: ModelRecord) -> dict[str, Any]:
    """What is known of a model's training images, for `--json`; null with the reason where they are unknown."""
    if record.feature_statistics is None:
        return {"training_images": None, "why_unknown": record.why_unknown}
    return {"training_images": record.feature_statistics.to_json()}


def note_output(model: nn.Module, images: Float[Tensor, "b c y x"], progress: Progress) -> None:
    """Report which part of the model's output is taken as its answer, where there is a choice."""
    with evaluating(model), torch.no_grad(), suppress(UsageError):  # whoever needs the answer raises it
        if note := forward(model, images).note:
            progress.note(note)


def model_name(model: str | Path | nn.Module) -> str:
    """How messages and pages call a task's model: the path or name that was given, or the class of a module."""
    return type(model).__name__ if isinstance(model, nn.Module) else str(model)


def read_images(
    images: Image | Iterable[Image], preprocessing: Preprocessing, on_bad_image: str, progress: Progress
) -> list[tuple[Path, UInt8[np.ndarray, "y x 3"]]]:
    """Each image with its path, cropped and resized to the model's size, as `read_sized` has it."""
    return [(path, pixels) for path, pixels, _ in read_sized(images, preprocessing, on_bad_image, progress)]


def read_sized(
    images: Image | Iterable[Image], preprocessing: Preprocessing, on_bad_image: str, progress: Progress
) -> list[tuple[Path, UInt8[np.ndarray, "y x 3"], tuple[int, int]]]:
    """Each image with its path, its pixels in the model's size, and its own (height, width).

    A folder stands for the images in it. An array is named after its place: `image-0`. Raises
    `UsageError` if there are none or for what is neither, `ImageError` for one that cannot be read unless
    `on_bad_image` is "skip".
    """
    check_on_bad_image(on_bad_image)
    one = isinstance(images, str | bytes | Path | np.ndarray | Tensor) or not isinstance(images, Iterable)
    several: list[Any] = [images] if one else list(cast(Iterable[Any], images))
    if not several:
        raise UsageError("No images were specified.")
    files: list[tuple[Path, np.ndarray | None]] = []
    empty = []
    for number, image in enumerate(several):
        check_image(image)
        if isinstance(image, np.ndarray):
            files.append((Path(f"image-{number}"), image))
            continue
        path = Path(image)
        inside = photographs_in(path, progress.note) if path.is_dir() else [path]
        files += [(file, None) for file in inside]
        empty += [] if inside else [str(path)]
    if empty:
        raise UsageError(f"There are no images in {', '.join(empty)}.")
    read, bad = [], []
    for file, pixels in files:
        try:
            whole = load_image(file) if pixels is None else pixels
            read.append((file, crop_and_resize(whole, preprocessing), (whole.shape[0], whole.shape[1])))
        except ImageError as error:
            if on_bad_image == "fail":
                raise
            bad.append(str(error))
    if note := first_page_only(file for file, pixels in files if pixels is None):
        progress.note(note)
    if bad:
        progress.note(f"{len(bad)} of {len(files)} images could not be read and were left out:\n  " + "\n  ".join(bad))
    if not read:
        raise ImageError("None of the images could be read.")
    return read


def check_image(image: object) -> None:
    """Raise `UsageError` for what is neither a path nor an array as `load_image` gives it."""
    if isinstance(image, str | Path):
        return
    found = f"an object of type {type(image).__name__}"
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
            return
        found = f"{image.shape} of {image.dtype}"
    raise UsageError(
        f"An image is a path or an array (height, width, 3) of uint8, as vitral.load_image gives it; found {found}."
    )


def read_data(
    found: Dataset | ImageFolder,
    preprocessing: Preprocessing,
    progress: Progress,
    division: Division = DEFAULT,
    on_bad_image: OnBadImage = "fail",
    task: Task | None = None,
    whole: bool = False,
    cache: str | PixelCache = "auto",
) -> Dataset:
    """What `find_data` has found: a built-in data set as it is, or a folder's images, prepared by `preprocessing`.

    `division`, `task` and `whole`: see `folder`; `cache`: see `find_cache`.
    """
    if isinstance(found, Dataset):
        return found
    kept = find_cache(cache, progress.note)
    return folder(found, preprocessing, division, on_bad_image, progress.note, task, whole, kept, progress.count)
