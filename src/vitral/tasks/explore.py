"""Explore a model: one page in which a person points at any patch and sees what it attends to, everywhere in the model.

Axes:  y x pixels   gy gx rows, columns of patches
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from vitral.base.errors import ConfigError, UsageError, WatchError
from vitral.base.files import unused_path, write_file
from vitral.base.provenance import installed_version
from vitral.data import OnBadImage
from vitral.data.image import load_image
from vitral.explorer.additions import Additions
from vitral.explorer.document import document
from vitral.explorer.payload import Encoder, ExploredImage
from vitral.explorer.sizes import MB, measure_sizes
from vitral.explorer.still import still_map
from vitral.tasks.explored_image import explore_image
from vitral.tasks.explored_methods import chosen_methods
from vitral.tasks.explored_models import Shown, describe_shown, layers_sentence, named_error, open_models
from vitral.tasks.inputs import Image, read_sized
from vitral.tasks.progress import Progress, progress_for

LIMIT = 15.0  # megabytes of a page
REASONS = 4_000  # bytes of a page for why it has no more than rows of attention


@dataclass(frozen=True)
class ExploreResult:
    """The page, and what it holds.

    page      its file, of `size` bytes
    layers    the attention layers that it shows, by name
    error     the largest error of a stored weight, as a share of its row's largest
    residual  the largest difference of rows · v from the model's own output
    left_out  what the page has no rows of, in words; empty if it has all
    refused   the layers that cannot be shown, each with the reason
    beside    the same for the second model, with its name; None if there is none
    weights   the number of weights that are in the page, which runs small models itself; 0 if it has none
    """

    page: Path
    size: int
    layers: tuple[str, ...]
    error: float
    residual: float
    left_out: str
    refused: dict[str, str]
    notes: tuple[str, ...] = ()
    beside: Shown | None = None
    weights: int = 0

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"page": str(self.page), "beside": vars(self.beside) if self.beside else None}


def explore(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    beside: str | Path | nn.Module | None = None,
    method: Sequence[str] = (),
    orders: int | None = None,
    out: str | Path | None = None,
    limit_mb: int | float = LIMIT,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> ExploreResult:
    """Write one page with the attention of every layer and head: `explore("runs/shapes-1", "photo.jpg").page`.

    `beside` is a second model, which the page shows beside the first for the same images; "untrained" is the first with
    new weights (seed 0). `method` names relevance methods, by default those that take a pass or two; ("none",) leaves
    them out. `orders` is the number of random orders that their maps are tested with, by default 0 on more than 64
    patches. The page is one file that needs no network. `out` is that file, or a folder for it; by default it is
    `explored/IMAGE.html`. A file that exists is not written over: the page is then called `IMAGE-2.html`. A page of
    more than `limit_mb` megabytes (of 1,000,000 bytes) has fewer queries or heads, and says which. The page shows
    `repeat` as the command that makes it.

    Raises `WatchError` if the model has no attention, or if it cannot be verified; `UsageError` for an exported model
    or a file that is no page, `ConfigError` if not even the smallest choice of rows fits the limit.
    """
    shown = progress_for(progress)
    folder = Path("explored") if out is None else Path(out)
    if out is not None and not folder.is_dir() and folder.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out} is not a page: its name must end in .html, or be a folder that exists.")
    several = as_list(images)
    methods = chosen_methods(method)
    models = open_models(model, beside, code, shown)
    is_pair = len(models) > 1
    title = f"vitral explore {' beside '.join(one.name for one in models)}"
    # What is said of the images is said once, though each model has its own size of them.
    reports = (shown, *[Progress()] * (len(models) - 1))
    read = [read_sized(several, one.model.preprocessing, on_bad_image, to) for one, to in zip(models, reports)]
    photos = {str(path): pixels for path, pixels in arrays(several)}
    num_images = len(read[0])

    def watched(which: int, number: int) -> ExploredImage:
        path, pixels, _ = read[which][number]
        photo = photos[str(path)] if str(path) in photos else load_image(path)
        shown.count("images", which * num_images + number, len(models) * num_images)
        try:
            image = explore_image(models[which].model, path.name, pixels, photo, methods, orders)
        except (WatchError, UsageError) as error:
            raise (named_error(error, models[which].name) if is_pair else error) from error
        return replace(image, photo=number, model=models[which].name if is_pair else "")

    firsts, limit = [watched(which, 0) for which in range(len(models))], limit_mb * MB
    told = tuple(describe_shown(one.name, first) for one, first in zip(models, firsts))
    additions = Additions({one.name if is_pair else "": one.model for one in models})
    for one, own in zip(models, read):
        for _, pixels, _ in own:
            additions.add(one.name if is_pair else "", pixels)
    sizes = measure_sizes(firsts, num_images)
    for choice in sizes.fitting(limit):
        encoder, maps, left_out = Encoder(choice), [], sizes.sentence(choice, limit)
        for which in range(len(models)):
            for number in range(num_images):
                image = watched(which, number) if number else firsts[which]
                encoder.add(image)
                maps.append(still_map(image))
        payload = encoder.payload(models[0].name, left_out)
        stills = [one.drawn(encoder.norm) for one in maps]
        facts = [*facts_of(told, encoder, stored_error(encoder, left_out)), *filter(None, (one.note for one in models))]
        size = len(document(payload, title, stills, facts, repeat).encode()) + REASONS
        if size <= limit:  # else the estimate was too low
            payload = additions.into(payload, limit - size)
            content = document(payload, title, stills, [*additions.facts, *facts], repeat).encode()
            break
    else:
        raise ConfigError(sizes.refusal(limit))
    shown.close()
    stem = read[0][0][0].stem if num_images == 1 else f"{num_images}-images"
    page = unused_path(folder / f"{stem}.html" if out is None or folder.is_dir() else folder)
    write_file(page, content)
    return ExploreResult(
        page,
        len(content),
        told[0].layers,
        encoder.error,
        encoder.residual,
        left_out,
        told[0].refused,
        tuple(shown.notes),
        told[1] if is_pair else None,
        additions.num_weights,
    )


def as_list(images: Image | Iterable[Image]) -> list[Any]:
    """The images, of which some may be arrays; what is neither is left to `read_sized` to refuse."""
    one = isinstance(images, str | bytes | Path | np.ndarray) or not isinstance(images, Iterable)
    return [images] if one else list(cast(Iterable[Any], images))


def arrays(images: list[Any]) -> list[tuple[Path, np.ndarray]]:
    """Those given as arrays, under the names that `read_sized` gives them."""
    return [(Path(f"image-{number}"), image) for number, image in enumerate(images) if isinstance(image, np.ndarray)]


def facts_of(shown: tuple[Shown, ...], encoder: Encoder, error: list[str]) -> list[str]:
    """Sentences about the page, for its last section; those in `error` say how its weights differ from the model's."""
    facts = [
        "Checked in every layer: rows · v reproduces the output of the model's own attention to "
        f"{encoder.residual:.0e} of its largest value.",
        *error,
    ]
    facts += layers_sentence(shown)
    for one in shown:
        facts += one.facts(len(shown) > 1)
    return [*facts, f"Made by Vitral {installed_version('vitral')}."]


def stored_error(encoder: Encoder, left_out: str) -> list[str]:
    """How stored weights differ from the model's, and which are left out."""
    error = f"Stored weights differ from the model's by at most {encoder.error:.2%} of the largest weight of their row."
    return [error, left_out] if left_out else [error]
