"""Explore a model: one page in which a person points at any patch and sees what it attends to, everywhere in the model.

Axes:  y x pixels   gy gx rows, columns of patches
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from vitral.base.errors import ConfigError, UsageError
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
from vitral.tasks.inputs import Image, model_name, open_model, read_sized
from vitral.tasks.progress import Progress, progress_for
from vitral.weights.artifact import ArtifactModel

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
    weights   the number of the model's weights that are in the page, which runs small models itself; 0 if it has none
    """

    page: Path
    size: int
    layers: tuple[str, ...]
    error: float
    residual: float
    left_out: str
    refused: dict[str, str]
    weights: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"page": str(self.page)}


def explore(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    out: str | Path | None = None,
    limit_mb: int | float = LIMIT,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    repeat: str = "",
    progress: bool | Progress = False,
) -> ExploreResult:
    """Write one page with the attention of every layer and head: `explore("runs/shapes-1", "photo.jpg").page`.

    The page is one file that needs no network. `out` is that file, or a folder for it; by default it is
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
    opened = open_model(model, shown, code)
    name = model_name(model)
    if isinstance(opened, ArtifactModel):
        raise UsageError(
            f"{name} is an exported model. It runs outside of PyTorch, where its attention cannot be seen. Explore the "
            "model that it was exported from."
        )
    read = read_sized(several, opened.preprocessing, on_bad_image, shown)
    photos = {str(path): pixels for path, pixels in arrays(several)}

    def watched(number: int) -> ExploredImage:
        path, pixels, _ = read[number]
        photo = photos[str(path)] if str(path) in photos else load_image(path)
        shown.count("images", number, len(read))
        return explore_image(opened, path.name, pixels, photo)

    first, limit = watched(0), limit_mb * MB
    additions = Additions(opened)
    for _, pixels, _ in read:
        additions.add(pixels)
    sizes = measure_sizes(first, len(read))
    for choice in sizes.fitting(limit):
        encoder, maps, left_out = Encoder(choice), [], sizes.sentence(choice, limit)
        for number in range(len(read)):
            image = watched(number) if number else first
            encoder.add(image)
            maps.append(still_map(image))
        payload = encoder.payload(name, left_out)
        stills = [one.drawn(encoder.norm) for one in maps]
        facts = facts_of(first, encoder, left_out)
        title = f"vitral explore {name}"
        size = len(document(payload, title, stills, facts, repeat).encode()) + REASONS
        if size <= limit:  # else the estimate was too low
            payload = additions.into(payload, limit - size)
            content = document(payload, title, stills, [*additions.facts, *facts], repeat).encode()
            break
    else:
        raise ConfigError(sizes.refusal(limit))
    shown.close()
    stem = read[0][0].stem if len(read) == 1 else f"{len(read)}-images"
    page = unused_path(folder / f"{stem}.html" if out is None or folder.is_dir() else folder)
    write_file(page, content)
    return ExploreResult(
        page,
        len(content),
        tuple(layer.name for layer in first.layers),
        encoder.error,
        encoder.residual,
        left_out,
        first.left_out,
        additions.num_weights,
        tuple(shown.notes),
    )


def as_list(images: Image | Iterable[Image]) -> list[Any]:
    """The images, of which some may be arrays; what is neither is left to `read_sized` to refuse."""
    one = isinstance(images, str | bytes | Path | np.ndarray) or not isinstance(images, Iterable)
    return [images] if one else list(cast(Iterable[Any], images))


def arrays(images: list[Any]) -> list[tuple[Path, np.ndarray]]:
    """Those given as arrays, under the names that `read_sized` gives them."""
    return [(Path(f"image-{number}"), image) for number, image in enumerate(images) if isinstance(image, np.ndarray)]


def facts_of(first: ExploredImage, encoder: Encoder, left_out: str) -> list[str]:
    """Sentences about the page, for its last section."""
    facts = [
        "Checked in every layer: rows · v reproduces the output of the model's own attention to "
        f"{encoder.residual:.0e} of its largest value.",
        f"Stored weights differ from the model's by at most {encoder.error:.2%} of the largest weight of their row.",
    ]
    facts += [left_out] if left_out else []
    facts += [f"{name} is not shown: {why}" for name, why in first.left_out.items()]
    facts += [f"{layer.name}: {layer.note}" for layer in first.layers if layer.note]
    return [*facts, f"Made by Vitral {installed_version('vitral')}."]
