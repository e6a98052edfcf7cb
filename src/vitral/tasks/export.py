"""Write a model with its preprocessing as files for other runtimes, if they give what the model gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from jaxtyping import UInt8
from torch import nn

from vitral.base.errors import ConfigError, StoreError, UsageError
from vitral.base.files import sha256, write_file, write_folder
from vitral.base.preprocessing import Preprocessing
from vitral.base.provenance import installed_version, provenance
from vitral.data.examples import images_in
from vitral.data.image import load_image
from vitral.exporting.graphs import output_name
from vitral.exporting.odd_images import odd_images
from vitral.exporting.to_onnx import write_graphs
from vitral.exporting.verify import Agreement, verify
from vitral.store import ARTIFACT
from vitral.store.artifact import MODEL, PREPROCESS, WHOLE, Artifact
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import open_model
from vitral.tasks.output_warning import output_warning
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.artifact import ArtifactModel

MOST = 200  # images of a folder that are compared
LIBRARIES = ("vitral", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class ExportResult:
    """The folder with the files, and how far they agree with the model."""

    folder: Path
    files: tuple[Path, ...]
    agreement: Agreement
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        own = {"folder": str(self.folder), "files": [str(file) for file in self.files]}
        return own | {"agreement": self.agreement.to_json(), "notes": list(self.notes)}


def export(
    model: str | Path | nn.Module,
    out: str | Path,
    *,
    images: str | Path | None = None,
    code: str | None = None,
    progress: bool | Progress = False,
) -> ExportResult:
    """Write the model as ONNX files into the folder `out`, which must be new or empty.

    `preprocess.onnx` takes a decoded image of any size, (1, y, x, 3) bytes, `model.onnx` prepared images in batches of
    any size, and `whole.onnx` a decoded image; `artifact.json` says what they are. Before anything is kept, they are
    run beside the model on generated image files of all kinds, and on up to 200 images of the folder `images`, drawn at
    random. `vitral.load(out)` runs them.

    Raises `ConfigError` if a library is missing or the exporter does not take the model, `StoreError` if the files do
    not give what the model gives, or if `out` is not empty.
    """
    shown, folder = progress_for(progress), Path(out)
    opened = open_model(model, shown, code)
    check_libraries()
    if isinstance(opened, ArtifactModel):
        raise UsageError(f"{model} is an exported model already. Export the model that it was made of.")
    if not opened.record.classes:
        raise UsageError("The model has no classes: it returns features. Give it a head: vitral train --init.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} exists and is not empty. Choose another folder.")
    if warning := output_warning(opened, opened.preprocessing.size):
        shown.note(warning)
    pillow = int(PIL.__version__.split(".")[0])
    output = output_name(opened.record)
    chosen = list(comparisons(images))
    with write_folder(folder) as trial:
        shown.note("exporting, which takes up to a minute ...")
        write_graphs(opened.eval(), trial, output, pillow)
        shown.note(f"comparing with the model on {len(chosen):,} images ...")
        agreement = verify(opened, trial, chosen, lambda done: shown.count("images", done, len(chosen)))
        shown.close()
        card = describe(opened, trial, output, agreement)
        write_file(trial / ARTIFACT, card.model_dump_json(indent=1) + "\n")
    files = tuple(folder / name for name in (PREPROCESS, MODEL, WHOLE, ARTIFACT))
    return ExportResult(folder, files, agreement, tuple(shown.notes))


def check_libraries() -> None:
    """Raise `ConfigError` unless everything that exporting needs can be imported."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"Exporting needs {error.name}: pip install 'vitral[export]'.") from error
        except ImportError as error:
            raise ConfigError(f"{name} is installed, but cannot be imported: {error}") from error


def comparisons(images: str | Path | None) -> Iterator[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]:
    """Names and pixels of the images on which files and model are compared."""
    yield from odd_images()
    if images is None:
        return
    files = images_in(Path(images)) if Path(images).is_dir() else [Path(images)]
    if not files:
        raise UsageError(f"There are no images in {images}.")
    for index in np.random.default_rng(0).permutation(len(files))[:MOST]:
        yield str(files[index]), load_image(files[index])


def describe(model: Classifier, folder: Path, output: Any, agreement: Agreement) -> Artifact:
    record = model.record
    return Artifact(
        output=output,
        classes=list(record.classes),
        task=record.task,
        thresholds=record.thresholds,
        calibration=record.calibration,
        preprocessing=record.preprocessing,
        preprocessing_in_words=in_words(record.preprocessing),
        grid=record.grid,
        num_prefix_tokens=record.num_prefix_tokens,
        files={name: sha256(folder / name) for name in (PREPROCESS, MODEL, WHOLE)},
        agreement=agreement.to_json(),
        provenance={"exported": provenance(), "model": dict(record.provenance)},
        versions={name: installed_version(name) for name in LIBRARIES},
    )


def in_words(preprocessing: Preprocessing) -> str:
    """How images are prepared, for whoever has to do it without `preprocess.onnx`.

    >>> in_words(Preprocessing(size=(224, 224), crop=0.9))
    'upright RGB; the centred window with the aspect ratio of 224 x 224, 0.9 of the largest; resized by Pillow, \
bicubic, to 224 x 224 (height x width); (pixel / 255 - mean) / std with mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5'
    """
    height, width = preprocessing.size
    whole = preprocessing.crop_mode == "squash"
    window = (
        f"{preprocessing.crop:g} of each side"
        if whole
        else (f"the centred window with the aspect ratio of {height} x {width}, {preprocessing.crop:g} of the largest")
    )
    colours = "upright RGB" if len(preprocessing.mean) == 3 else "upright, the luminance of RGB after resizing"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return (
        f"{colours}; {window}; resized by Pillow, {preprocessing.interpolation}, to {height} x {width} (height x "
        f"width); (pixel / 255 - mean) / std with mean {mean} and std {std}"
    )
