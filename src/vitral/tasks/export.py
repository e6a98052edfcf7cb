"""Write a model with its preprocessing as files for other runtimes, if they give what the model gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

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
from vitral.exporting.drift import Drift, check_drift, measure_drift
from vitral.exporting.graphs import output_name
from vitral.exporting.maps import plan_maps
from vitral.exporting.odd_images import odd_images
from vitral.exporting.verify import Agreement, verify
from vitral.exporting.verify_maps import MapAgreement, verify_maps
from vitral.exporting.write import FloatLayers, check_exact, check_precision, needs, write_precision
from vitral.store import ARTIFACT
from vitral.store.artifact import Artifact
from vitral.store.artifact_maps import ArtifactMaps
from vitral.store.classifier import Classifier
from vitral.store.runtimes.graphs import GRAPHS, MODEL, graph_files, open_graph, settings
from vitral.store.runtimes.openvino import import_quietly
from vitral.store.runtimes.session import Precision, Runtime
from vitral.tasks.calibration_images import CalibrationImages, calibration_images
from vitral.tasks.inputs import open_model
from vitral.tasks.output_warning import output_warning
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.artifact import ArtifactModel

MOST = 200  # images of a folder that are compared
LIBRARIES = ("vitral", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
OF_OPENVINO = ("openvino", "nncf")


@dataclass(frozen=True)
class Quantised:
    """Of int8: the images, the layers that stay in float, and what it changes on images that did not calibrate it."""

    images: CalibrationImages
    float: FloatLayers
    drift: Drift
    task: str
    least: float

    @property
    def text(self) -> str:
        kept = ", ".join(self.float.kept)
        return (
            f"int8: {self.drift.text(self.task)}; {len(self.images.calibrating):,} images of {self.images.source} "
            f"calibrated it; {len(self.float.kept)} of {self.float.layers} layers with weights stayed in float: {kept}"
        )

    def to_json(self) -> dict[str, Any]:
        own: dict[str, Any] = {"calibration": self.images.to_json()}
        own |= {"float_layers": list(self.float.kept), "layers": self.float.layers}
        return own | {"min_agreement": self.least} | self.drift.to_json()


@dataclass(frozen=True)
class ExportResult:
    """The folder with the files, how far they and their rows agree with the model, and what whoever runs them needs."""

    folder: Path
    files: tuple[Path, ...]
    agreement: Agreement
    needs: str = ""
    maps: MapAgreement | None = None
    quantised: Quantised | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        own: dict[str, Any] = {"folder": str(self.folder), "files": [str(file) for file in self.files]}
        own |= {"needs": self.needs}
        own |= {"maps": self.maps.to_json()} if self.maps else {}
        own |= {"quantisation": self.quantised.to_json()} if self.quantised else {}
        return own | {"agreement": self.agreement.to_json(), "notes": list(self.notes)}


def export(
    model: str | Path | nn.Module,
    out: str | Path,
    *,
    to: Runtime = "onnx",
    precision: Precision = "fp32",
    calibrate: str | Path | None = None,
    min_agreement: float = 0.99,
    images: str | Path | None = None,
    maps: bool = False,
    code: str | None = None,
    progress: bool | Progress = False,
) -> ExportResult:
    """Write the model as files of ONNX Runtime or OpenVINO into the folder `out`, which must be new or empty.

    The graph `preprocess` takes a decoded image of any size, (1, y, x, 3) bytes, `model` prepared images in batches of
    any size, and `whole` a decoded image; `artifact.json` says what they are. Before anything is kept, they are run
    beside the model on generated image files of all kinds, and on up to 200 images of the folder `images`, drawn at
    random. `vitral.load(out)` runs them. With `maps` the last two also give rows of attention and how far these are
    off (`vitral.exporting.maps`), compared with those that `vitral.watch` shows.

    "int8" is calibrated on images of the folder `calibrate`, by default on the run's training images, and judged on
    others of that folder, or on the run's validation images: at least `min_agreement` of the answers must be the same.

    Raises `ConfigError` if a library is missing, the exporter does not take the model, or it has no rows to give,
    `StoreError` if the files do not give what the model gives, or if `out` is not empty, and `DataError` for images
    that cannot calibrate the model.
    """
    shown, folder = progress_for(progress), Path(out)
    check_choices(to, precision, calibrate, min_agreement)
    opened = open_model(model, shown, code)
    check_libraries(to, precision)
    if isinstance(opened, ArtifactModel):
        raise UsageError(f"{model} is an exported model already. Export the model that it was exported from.")
    if not opened.record.classes:
        raise UsageError("The model has no classes: it returns features. Give it a head: vitral train --init.")
    check_exact(opened.record.preprocessing, to)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} exists and is not empty. Choose another folder.")
    if warning := output_warning(opened, opened.preprocessing.size):
        shown.note(warning)
    output = output_name(opened.record)
    map_agreement: MapAgreement | None = None
    described: ArtifactMaps | None = None
    chosen = list(comparisons(images))
    found = calibration_images(opened, model, calibrate, shown.note) if precision == "int8" else None
    plan = plan_maps(opened.eval(), window_in_words(opened.preprocessing)) if maps else None
    quantised = None
    with write_folder(folder) as trial:
        shown.note(f"exporting, which takes {'some minutes' if found else 'up to a minute'} ...")
        calibrating = None if found is None else found.calibrating
        kept = write_precision(
            opened.eval(), trial, output, pillow_version(), to, precision, calibrating, min_agreement, plan
        )
        if found is not None and kept is not None:
            drift = measure_drift(opened, open_graph(trial, MODEL, to, precision), found.judging, found.labels)
            check_drift(drift, opened.record.task, min_agreement, len(kept.kept), kept.layers)
            quantised = Quantised(found, kept, drift, opened.record.task, min_agreement)
        shown.note(f"comparing with the model on {len(chosen):,} images ...")
        agreement = verify(opened, trial, chosen, to, precision, lambda done: shown.count("images", done, len(chosen)))
        if plan is not None:
            shown.note(f"comparing the rows of attention with those of vitral.watch on {len(chosen):,} images ...")
            map_agreement = verify_maps(
                opened,
                trial,
                plan.maps,
                chosen,
                to,
                precision,
                lambda done: shown.count("maps", done, len(chosen)),
            )
            described = plan.maps.model_copy(update={"agreement": map_agreement.to_json()})
        shown.close()
        card = describe(opened, trial, output, agreement, to, precision, quantised, described)
        write_file(trial / ARTIFACT, card.model_dump_json(indent=1) + "\n")
    files = tuple(folder / name for name in (*files_of(to), ARTIFACT))
    return ExportResult(folder, files, agreement, card.needs, map_agreement, quantised, tuple(shown.notes))


def pillow_version() -> int:
    """The major version of the Pillow whose resizing the graph repeats."""
    return int(PIL.__version__.split(".")[0])


def check_choices(to: Runtime, precision: Precision, calibrate: str | Path | None, least: float) -> None:
    """Raise `UsageError` for options that do not fit each other."""
    for value, known, option in ((to, get_args(Runtime), "--to"), (precision, get_args(Precision), "--precision")):
        if value not in known:
            raise UsageError(f"{option} takes {', '.join(known)}; found {value!r}.")
    if not 0 < least <= 1:
        raise UsageError(f"--min-agreement is a share above 0, up to 1; found {least}.")
    if calibrate is not None and precision != "int8":
        raise UsageError(f"--calibrate is for --precision int8; {precision} is not calibrated. Leave it out.")


def files_of(runtime: Runtime) -> tuple[str, ...]:
    return tuple(name for graph in GRAPHS for name in graph_files(graph, runtime))


def check_libraries(to: Runtime, precision: Precision) -> None:
    """Raise `ConfigError` unless everything that exporting needs can be imported, and computes in this precision."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"Exporting needs {error.name}: pip install 'vitral[export]'.") from error
        except ImportError as error:
            raise ConfigError(f"{name} is installed, but cannot be imported: {error}") from error
    if to == "openvino":
        import_quietly("openvino", "--to openvino")
        if precision == "int8":
            import_quietly("nncf", "--to openvino --precision int8")
    check_precision(to, precision)


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


def describe(
    model: Classifier,
    folder: Path,
    output: Any,
    agreement: Agreement,
    to: Runtime,
    precision: Precision,
    quantised: Quantised | None,
    maps: ArtifactMaps | None,
) -> Artifact:
    record = model.record
    return Artifact(
        runtime=to,
        precision=precision,
        settings={graph: settings(graph, to, precision) for graph in GRAPHS},
        needs=needs(to, precision),
        quantisation=None if quantised is None else quantised.to_json(),
        output=output,
        classes=list(record.classes),
        task=record.task,
        thresholds=record.thresholds,
        calibration=record.calibration,
        preprocessing=record.preprocessing,
        preprocessing_in_words=in_words(record.preprocessing),
        grid=record.grid,
        num_prefix_tokens=record.num_prefix_tokens,
        maps=maps,
        files={name: sha256(folder / name) for name in files_of(to)},
        agreement=agreement.to_json(),
        provenance={"exported": provenance(), "model": dict(record.provenance)},
        versions={name: installed_version(name) for name in (*LIBRARIES, *(OF_OPENVINO if to == "openvino" else ()))},
    )


def in_words(preprocessing: Preprocessing) -> str:
    """How images are prepared, for whoever has to do it without `preprocess.onnx`.

    >>> in_words(Preprocessing(size=(224, 224), crop=0.9))
    'upright RGB; the centred window with the aspect ratio of 224 x 224, 0.9 of the largest; resized by Pillow, \
bicubic, to 224 x 224 (height x width); (pixel / 255 - mean) / std with mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5'
    """
    height, width = preprocessing.size
    window = window_in_words(preprocessing)
    colours = "upright RGB" if len(preprocessing.mean) == 3 else "upright, the luminance of RGB after resizing"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return (
        f"{colours}; {window}; resized by Pillow, {preprocessing.interpolation}, to {height} x {width} (height x "
        f"width); (pixel / 255 - mean) / std with mean {mean} and std {std}"
    )


def window_in_words(preprocessing: Preprocessing) -> str:
    """Which part of an image the model sees.

    >>> window_in_words(Preprocessing(crop=0.5, crop_mode="squash"))
    'the centre, 0.5 of each side'
    """
    if preprocessing.crop_mode == "squash":
        return f"the centre, {preprocessing.crop:g} of each side"
    height, width = preprocessing.size
    return f"the centred window with the aspect ratio of {height} x {width}, {preprocessing.crop:g} of the largest"
