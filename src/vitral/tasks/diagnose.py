"""Diagnose a model on some images: what its layers do in general, rather than why it answered one image as it did.

Axes:  b images   l layers or places   h heads   gy gx rows, columns of patches
"""

import io
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import ModelError, ShapeError, UsageError, WatchError
from vitral.base.files import unused_path, write_file
from vitral.base.lookup import find, names
from vitral.base.prediction import predictions
from vitral.base.provenance import provenance
from vitral.data import OnBadImage
from vitral.data.preprocess import normalise
from vitral.explain.maps import class_name, pixels_of
from vitral.explain.observation import observe
from vitral.report.diagnosis import layers_figure, matrix_figure, patches_figure
from vitral.report.page import Page, Picture, Section
from vitral.report.similarity import similarity_figure
from vitral.report.style import png
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import Image, model_name, note_output, open_model, read_images
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.artifact import ArtifactModel

CANNOT = (WatchError, UsageError, ShapeError, ModelError)  # what a diagnostic raises for a model it does not fit


SIMILARITY = "similarity to the middle patch"
PATCH_PANELS: dict[str, tuple[str, Callable[[Any], np.ndarray]]] = {  # title -> diagnostic, and what of it to show
    "main directions (PCA)": ("pca", lambda found: found[0][0]),
    SIMILARITY: ("similarity", lambda found: found[0]),
    "norm of the last features": ("outliers", lambda found: found[0][-1][0]),
    "pixels that the middle patch uses": ("receptive_field", lambda found: np.sqrt(found[-1])),
}


@dataclass(frozen=True)
class Diagnosis:
    """What was found, by the diagnostic's name: arrays as it returns them. `refused` are those that do not fit the
    model, each with its reason; `page` and `numbers` are the files that show and hold them."""

    found: dict[str, Any]
    refused: dict[str, str]
    page: Path
    numbers: Path
    notes: tuple[str, ...] = ()


def diagnose(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    out: str | Path = "explained",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> Diagnosis:
    """Run every diagnostic that needs no labels on some images: `diagnose("runs/shapes-1", "photos").page`.

    Writes a page and an .npz with the numbers into the folder `out`. Raises `UsageError` if there are no images, for an
    exported model, or if no diagnostic fits the model.
    """
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    if isinstance(opened, ArtifactModel):
        raise UsageError(
            f"{model_name(model)} is an exported model, and diagnostics look at layers that its files do not give. "
            "Diagnose the model that it was exported from."
        )
    read = read_images(images, opened.preprocessing, on_bad_image, progress)
    batch = normalise(torch.from_numpy(np.stack([pixels for _, pixels in read])), opened.preprocessing)
    note_output(opened, batch[:1], progress)
    diagnostics = [name for name in names("explain.diagnostics") if name != "probe"]  # which needs labels
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for number, name in enumerate(diagnostics):
        progress.count(f"diagnosing: {name}", number, len(diagnostics))
        try:
            found[name] = run_diagnostic(name, opened, batch)
        except CANNOT as error:
            refused[name] = str(error)
    progress.close()
    if not found:
        raise UsageError("No diagnostic fits the model. " + " ".join(refused.values()))
    page = unused_path(Path(out) / f"{read[0][0].stem}.diagnosis.html")
    write_file(page, diagnosis_page(model_name(model), opened, batch, found, refused, repeat).html())
    numbers, content = unused_path(page.with_suffix(".npz")), io.BytesIO()
    arrays: dict[str, Any] = flatten(found)  # of any type, or mypy reads one as another argument of savez
    np.savez_compressed(content, **arrays)
    write_file(numbers, content.getvalue())
    return Diagnosis(found, refused, page, numbers, tuple(progress.notes))


def run_diagnostic(name: str, model: nn.Module, images: Tensor) -> Any:
    """What a diagnostic finds in the images; the one that compares all patches with one takes the middle one."""
    diagnostic = find("explain.diagnostics", name, "diagnostic")
    if name == "similarity":
        rows, columns = observe(model, images[:1], ["feature maps"], check="rows").feature_maps[-1].grid
        return diagnostic(model, images, (rows // 2, columns // 2))
    found = diagnostic(model, images)
    return found.cpu().numpy() if isinstance(found, Tensor) else found


def flatten(found: Any, name: str = "") -> dict[str, np.ndarray]:
    """All arrays under one level of names, as an .npz holds them."""
    if isinstance(found, tuple | list):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return {name: np.asarray(found)}
    parts = [flatten(value, f"{name} {key}".strip()) for key, value in found.items()]
    return {key: array for part in parts for key, array in part.items()}


def diagnosis_page(
    name: str, model: Classifier, images: Tensor, found: dict[str, Any], refused: dict[str, str], repeat: str
) -> Page:
    """The page: quantities by layer, the first image's patches, the prediction block by block, similarities."""
    return Page(
        title=f"vitral explain {name} --diagnose",
        headline="How it works inside",
        detail=f"Measured on {len(images)} image{'s' * (len(images) > 1)}; what holds for other images may differ.",
        facts={"images": str(len(images)), "diagnostics": str(len(found))},
        sections=[
            *layer_section(found),
            *patch_section(model, images, found),
            *lens_section(model, found),
            *similarity_section(found),
            *[Section("Left out", " ".join(f"{which}: {reason}" for which, reason in refused.items()))] * bool(refused),
        ],
        settings={"model": name} | provenance()["versions"],
        commands=[(f"vitral explain {shlex.quote(name)} IMAGE", "which patches it relies on in one image")],
        repeat=repeat,
    )


def mass_title(name: str) -> str:
    """A panel's title for one of the shares that `attention_mass` returns."""
    what = {"cls": "CLS", "prefix": "other prefix tokens", "itself": "the token itself", "outliers": "outlier tokens"}
    reader, _, read = name.rpartition(" reads ")
    return f"attention: {'CLS' if reader else 'all tokens'} to {what.get(read, read)}"


def layer_section(found: dict[str, Any]) -> list[Section]:
    quantities = {
        f"{name} / that of uniform attention": found[name].mean(axis=0)
        for name in ("distance", "entropy")
        if name in found
    }
    mass = found.get("attention_mass", {})
    quantities |= {mass_title(name): values.mean(axis=0) for name, values in mass.items() if values.any()}
    if not quantities:
        return []
    text = (
        "Each dot is a head, the line their mean, over all images. A distance of 1 means that patches attend as far as "
        "uniform attention would; an entropy of 1, that all tokens get the same share; near 0, that one gets all. "
        "The other panels are shares of attention; those that are zero everywhere are left out."
    )
    picture = Picture(png(layers_figure(quantities)), "distance, entropy and shares of attention by layer and head")
    return [Section("Attention, layer by layer", text, [picture])]


def patch_section(model: Classifier, images: Tensor, found: dict[str, Any]) -> list[Section]:
    panels = {title: panel(found[name]) for title, (name, panel) in PATCH_PANELS.items() if name in found}
    if not panels:
        return []
    text = (
        "The features of the last block in the first image. Colours of the first panel are the three directions in "
        "which patches differ most; the last panel is the square root of the gradient's share, over all images."
    )
    figure = patches_figure(pixels_of(model, images[:1])[0], panels, signed=(SIMILARITY,))
    picture = Picture(png(figure), "The first image and its maps. " + " ".join(map(describe_panel, panels.items())))
    return [Section("What the patches hold", text, [picture])]


def describe_panel(panel: tuple[str, np.ndarray]) -> str:
    """A panel's range and where it is highest, in words and numbers."""
    title, values = panel
    if values.ndim != 2:
        return f"{title}: three numbers per patch, as colours."
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return f"{title}: {values.min():.2g} to {values.max():.2g}, highest at row {row}, column {column}."


def lens_section(model: Classifier, found: dict[str, Any]) -> list[Section]:
    if "logit_lens" not in found:
        return []
    first = answer_of(model).values(torch.from_numpy(found["logit_lens"][0, :, 0]))  # token 0 of the first image
    outputs = [class_name(model, index) for index in range(first.shape[1])]
    places = [f"entering block {place}" for place in range(len(first) - 1)] + ["leaving the last block"]
    record = model.record
    each = predictions(places, outputs, first.tolist(), record.task, record.thresholds)
    answers = [f"{one.image}: {answer_of(model).short(one)}" for one in each]
    text = (
        "What the head predicts from token 0 of the first image at each place in the residual stream. The head was "
        "trained for the last place only, so earlier predictions are a projection. Predictions: "
        + "; ".join(answers)
        + "."
    )
    return [Section("The prediction, block by block", text)]


def similarity_section(found: dict[str, Any]) -> list[Section]:
    pictures = []
    if "cka" in found:
        places = [*map(str, range(len(found["cka"]) - 1)), "end"]
        pictures.append(
            Picture(png(matrix_figure(found["cka"], places)), "CKA between all places in the residual stream")
        )
    if "positions" in found:
        figure = similarity_figure({"position embeddings": found["positions"]})
        pictures.append(Picture(png(figure), "cosine similarity of position embeddings"))
    if not pictures:
        return []
    text = (
        "CKA compares how two places in the model represent the images: 1 if they are equal up to rotation and scale, "
        "about 0 if they are unrelated; it needs at least four images. Position embeddings are compared by cosine."
    )
    return [Section("What is similar to what", text, pictures)]
