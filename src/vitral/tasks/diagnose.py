"""Diagnose a model on some images: what its layers do in general, rather than why it answered one image as it did.

Axes:  b images   l layers or places   h heads   gy gx rows, columns of patches
"""

import io
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitral.base.errors import ModelError, ShapeError, UsageError, WatchError
from vitral.base.files import unused_path, write_file
from vitral.base.provenance import provenance
from vitral.data.preprocess import normalise
from vitral.explain.diagnostics.attention_mass import attention_mass
from vitral.explain.diagnostics.cka import cka
from vitral.explain.diagnostics.distance import distance
from vitral.explain.diagnostics.entropy import entropy
from vitral.explain.diagnostics.logit_lens import logit_lens
from vitral.explain.diagnostics.outliers import outliers
from vitral.explain.diagnostics.pca import pca
from vitral.explain.diagnostics.positions import positions
from vitral.explain.diagnostics.receptive_field import receptive_field
from vitral.explain.diagnostics.similarity import similarity
from vitral.explain.maps import class_name, pixels_of
from vitral.explain.observation import observe
from vitral.report.diagnosis import layers_figure, matrix_figure, patches_figure
from vitral.report.page import Page, Picture, Section
from vitral.report.similarity import similarity_figure
from vitral.report.style import png
from vitral.store.classifier import Classifier
from vitral.tasks.images import Image, read_images
from vitral.tasks.opening import open_model
from vitral.tasks.progress import Progress, progress_for

CANNOT = (WatchError, UsageError, ShapeError, ModelError)  # what a diagnostic raises for a model it does not fit


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
    on_bad_image: Literal["fail", "skip"] = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> Diagnosis:
    """Run every diagnostic that needs no labels on some images: `diagnose("runs/shapes-1", "photos").page`.

    Writes a page and an .npz with the numbers into the folder `out`. Raises `UsageError` if there are no images, or if
    no diagnostic fits the model.
    """
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    read = read_images(images, opened.preprocessing, on_bad_image, progress)
    batch = normalise(torch.from_numpy(np.stack([pixels for _, pixels in read])), opened.preprocessing)
    steps = diagnostics(opened, batch)
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for number, (name, run) in enumerate(steps.items()):
        progress.count(f"diagnosing: {name}", number, len(steps))
        try:
            found[name] = run()
        except CANNOT as error:
            refused[name] = str(error)
    progress.close()
    if not found:
        raise UsageError("No diagnostic fits the model. " + " ".join(refused.values()))
    name = type(model).__name__ if isinstance(model, nn.Module) else str(model)
    page = unused_path(Path(out) / f"{read[0][0].stem}.diagnosis.html")
    write_file(page, diagnosis_page(name, opened, batch, found, refused, repeat).html())
    numbers, content = unused_path(page.with_suffix(".npz")), io.BytesIO()
    arrays: dict[str, Any] = flatten(found)
    np.savez_compressed(content, **arrays)
    write_file(numbers, content.getvalue())
    return Diagnosis(found, refused, page, numbers, tuple(progress.notes))


def diagnostics(model: nn.Module, images: Tensor) -> dict[str, Callable[[], Any]]:
    """Each diagnostic of the images, ready to run; those of one patch take the middle one."""

    def middle() -> tuple[int, int]:
        rows, columns = observe(model, images[:1], ["feature maps"], check="rows").feature_maps[-1].grid
        return rows // 2, columns // 2

    return {
        "attention_mass": lambda: attention_mass(model, images),
        "distance": lambda: distance(model, images),
        "entropy": lambda: entropy(model, images),
        "outliers": lambda: outliers(model, images),
        "similarity": lambda: similarity(model, images, middle()),
        "pca": lambda: pca(model, images),
        "receptive_field": lambda: receptive_field(model, images),
        "positions": lambda: positions(model, images),
        "logit_lens": lambda: logit_lens(model, images).cpu().numpy(),
        "cka": lambda: cka(model, images),
    }


def flatten(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """All arrays under one level of names, as an .npz holds them."""
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                add(f"{name} {key}", part)
        elif isinstance(value, tuple | list):
            for number, part in enumerate(value):
                add(f"{name} {number}", part)
        else:
            arrays[name] = np.asarray(value)

    for name, value in found.items():
        add(name, value)
    return arrays


def diagnosis_page(
    name: str, model: Classifier, images: Tensor, found: dict[str, Any], refused: dict[str, str], repeat: str
) -> Page:
    """The page: quantities by layer, the first image's patches, the answer block by block, similarities."""
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
            *(
                [Section("Left out", " ".join(f"{which}: {reason}" for which, reason in refused.items()))]
                if refused
                else []
            ),
        ],
        settings={"model": name} | provenance()["versions"],
        commands=[(f"vitral explain {shlex.quote(name)} IMAGE", "which patches it relies on in one image")],
        repeat=repeat,
    )


def mass_title(name: str) -> str:
    """A panel's title for one of the shares that `attention_mass` returns."""
    what = {"cls": "CLS", "prefix": "other prefix tokens", "itself": "the token itself", "outliers": "outlier tokens"}
    reader, _, read = name.rpartition(" reads ")
    return f"share of {'CLS' if reader else 'all tokens'} to {what.get(read, read)}"


def layer_section(found: dict[str, Any]) -> list[Section]:
    mass = {mass_title(name): values for name, values in found.get("attention_mass", {}).items() if values.any()}
    others = {
        "distance / that of uniform attention": found.get("distance"),
        "entropy / that of uniform attention": found.get("entropy"),
    }
    quantities = {title: values.mean(axis=0) for title, values in (others | mass).items() if values is not None}
    if not quantities:
        return []
    text = (
        "Each dot is a head, the line their mean, over all images. A distance of 1 means that patches attend as far as "
        "uniform attention would; an entropy of 1 that all tokens get the same, near 0 that one token gets all. "
        "The other panels are shares of attention; those that are zero everywhere are left out."
    )
    picture = Picture(png(layers_figure(quantities)), "distance, entropy and shares of attention by layer and head")
    return [Section("Attention, layer by layer", text, [picture])]


def patch_section(model: Classifier, images: Tensor, found: dict[str, Any]) -> list[Section]:
    panels: dict[str, np.ndarray] = {}
    if "pca" in found:
        panels["main directions (PCA)"] = found["pca"][0][0]
    if "similarity" in found:
        panels["similarity to the middle patch"] = found["similarity"][0]
    if "outliers" in found:
        panels["norm of the last features"] = found["outliers"][0][-1][0]
    if "receptive_field" in found:
        panels["pixels that the middle patch uses"] = np.sqrt(found["receptive_field"][-1])
    if not panels:
        return []
    text = (
        "The features of the last block in the first image. Colours of the first panel are the three directions in "
        "which patches differ most; the last panel is the square root of the gradient's share, over all images."
    )
    picture = Picture(png(patches_figure(pixels_of(model, images[:1])[0], panels)), "maps of the last features")
    return [Section("What the patches hold", text, [picture])]


def lens_section(model: Classifier, found: dict[str, Any]) -> list[Section]:
    if "logit_lens" not in found:
        return []
    first = torch.from_numpy(found["logit_lens"][0, :, 0]).softmax(dim=-1)  # token 0 of the first image
    best = first.max(dim=-1)
    answers = [
        f"{'entering block ' + str(place) if place < len(first) - 1 else 'leaving the last block'}: "
        f"{class_name(model, int(index))} ({probability:.0%})"
        for place, (probability, index) in enumerate(zip(best.values.tolist(), best.indices.tolist()))
    ]
    text = (
        "The classes that the head gives for token 0 of the first image at each place. It was trained for the last "
        "place only, so earlier answers are a projection. Answers: " + "; ".join(answers) + "."
    )
    return [Section("The answer, block by block", text)]


def similarity_section(found: dict[str, Any]) -> list[Section]:
    pictures = []
    if "cka" in found:
        places = [*map(str, range(len(found["cka"]) - 1)), "end"]
        pictures.append(Picture(png(matrix_figure(found["cka"], places)), "CKA between all places in the stream"))
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
