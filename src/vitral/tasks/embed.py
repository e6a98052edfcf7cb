"""The features of every image of a folder, into one file; a run that was interrupted is continued.

    photos.npy                        (n, d) float32; row i belongs to the image with `row` i in the list
    photos.npy.files.csv              a row per image, in the order of their names: its row, or why it cannot be read
    photos.npy.files.csv.unfinished   beside an unfinished list
    photos.npy.unfinished             the rows so far

Or photos.parquet, with the columns `image` and `features`, in the same order.

Axes:  n images   d features
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from vitral.base.errors import StoreError, UsageError
from vitral.base.files import writing_to
from vitral.base.plural import one_or_many
from vitral.data import OnBadImage
from vitral.data.reading import check_on_bad_image
from vitral.store.classifier import Classifier
from vitral.store.embedding import embed_pixels
from vitral.tasks.embedding_file import check_suffix, write_embeddings
from vitral.tasks.inputs import Image, open_model, read_images
from vitral.tasks.predict import note_instability
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.unfinished_table import (
    BATCH,
    ERROR,
    IMAGE,
    UnfinishedTable,
    files_of,
    journal_of,
    load_batch,
    settings_of,
)

ROW = "row"


@dataclass(frozen=True)
class EmbeddingResult:
    """The features of images: `features` has one row per name in `images`; `numpy.asarray(result)` gives it as well.

    `what` says which of the model's values they are. `bad` has each image that cannot be read, with the reason. `out`
    and `listed` are the files, if any were written, and `new` is how many of the images were read now.
    """

    features: Float[np.ndarray, "n d"]
    images: tuple[str, ...]
    what: str
    bad: dict[str, str] = field(default_factory=dict)
    out: Path | None = None
    listed: Path | None = None
    new: int = 0
    notes: tuple[str, ...] = ()

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.features, dtype, copy=True if copy is None else copy)

    def text(self) -> str:
        known = len(self.images) + len(self.bad) - self.new
        before = f", {known:,} of them before" if known else ""
        bad = f"\n  {one_or_many(len(self.bad), 'image')} could not be read: see the column {ERROR}" if self.bad else ""
        return (
            f"{self.out}: {one_or_many(len(self.images), 'image')}{before}, {self.features.shape[1]} features each: "
            f"{self.what}\n  {self.listed}: which row belongs to which image, in the order of their names{bad}"
        )

    def to_json(self) -> dict[str, Any]:
        """What was written; the features themselves are in the file."""
        return {
            "out": str(self.out),
            "files": str(self.listed),
            "n": len(self.images),
            "features": self.features.shape[1],
            "what": self.what,
            "new": self.new,
            "bad": self.bad,
        }


def embed(
    model: str | Path | nn.Module,
    images: Image | Sequence[Image],
    *,
    out: str | Path | None = None,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> EmbeddingResult:
    """The features before the head of each image: `embed(model, "photos").features`.

    An image is a path, a folder of images, or an array as `load_image` gives it. With `out` ("NAME.npy" or
    "NAME.parquet") images are files and folders, which are read a batch at a time; the same call continues an
    interrupted one. `model` is loaded, or a path or name as `vitral.load` takes it; one without a head gives what it
    returns.

    Raises `UsageError` for no images, a finished `out`, or a model without one vector per image; `ConfigError` if
    pyarrow is missing for Parquet; `ImageError` for a file that cannot be read unless `on_bad_image` is "skip".
    """
    progress = progress_for(progress)
    check_on_bad_image(on_bad_image)
    if out is not None:
        check_suffix(Path(out))
        return embed_to_file(open_model(model, progress, code), images, Path(out), on_bad_image, progress)
    opened = open_model(model, progress, code)
    read = read_images(images, opened.preprocessing, on_bad_image, progress)
    pixels, parts = np.stack([one for _, one in read]), list[np.ndarray]()
    for start in range(0, len(pixels), BATCH):
        found = embed_pixels(opened, pixels[start : start + BATCH])
        parts.append(found.features)
    names = tuple(str(path) for path, _ in read)
    return EmbeddingResult(np.concatenate(parts), names, found.what, new=len(read), notes=tuple(progress.notes))


def embed_to_file(
    model: Classifier, images: Any, out: Path, on_bad_image: OnBadImage, progress: Progress
) -> EmbeddingResult:
    """Write the rows that are missing, then the file."""
    listed, rows_file = out.with_name(f"{out.name}.files.csv"), out.with_name(f"{out.name}.unfinished")
    files = files_of(images, progress.note)
    if out.exists() and not journal_of(listed).is_file():  # else it is ours, of a run that was killed at its very end
        raise UsageError(f"{out} exists and is not overwritten. Choose another name, or remove it.")
    probe = embed_pixels(model, np.zeros((1, *model.preprocessing.size, 3), np.uint8))
    count = probe.features.shape[1]
    settings = settings_of(model, images) | {"features": str(count), "file": out.suffix}
    with closing(UnfinishedTable(listed, settings, [ROW, IMAGE, ERROR])) as table:
        before = table.rows()
        done, places = {row[IMAGE] for row in before}, sum(not row[ERROR] for row in before)
        cut_rows(rows_file, places * count * np.dtype(np.float32).itemsize)
        left, infinite = [file for file in files if str(file) not in done], 0
        for start in range(0, len(left), BATCH):
            progress.count("images", len(done) + start, len(done) + len(left))
            batch = left[start : start + BATCH]
            loaded = load_batch(batch, model.preprocessing, on_bad_image)
            read = {file: one for file, one in loaded.items() if isinstance(one, np.ndarray)}
            if read:
                # The features are on the disk before the list says so: what it does not list is cut off.
                pixels = np.stack(list(read.values()))
                if not start:
                    note_instability(model, pixels[:2], progress)
                features = embed_pixels(model, pixels).features
                infinite += int((~np.isfinite(features).all(axis=1)).sum())
                append(rows_file, features)
            rows = []
            for file in batch:
                is_read = file in read
                rows.append({ROW: str(places) if is_read else "", IMAGE: str(file)})
                rows[-1][ERROR] = "" if is_read else str(loaded[file])
                places += is_read
            table.add(rows)
        progress.close()
        if infinite:
            progress.note(f"warning: the features of {one_or_many(infinite, 'image')} are not all finite numbers.")
        every = table.rows()
        names = tuple(row[IMAGE] for row in every if not row[ERROR])
        stored = np.memmap(rows_file, np.float32, "r", shape=(len(names), count)) if names else np.empty((0, count))
        write_embeddings(out, stored, names)
        whole = np.load(out, mmap_mode="r") if out.suffix == ".npy" else np.array(stored, np.float32)
        del stored  # a file that is mapped into memory cannot be removed everywhere
        table.finish()
    with writing_to(rows_file):
        rows_file.unlink(missing_ok=True)
    bad = {row[IMAGE]: row[ERROR] for row in every if row[ERROR]}
    notes = tuple(progress.notes)
    return EmbeddingResult(whole, names, probe.what, bad, out, listed, len(left), notes)


def cut_rows(path: Path, size: int) -> None:
    """Shorten the rows to those that are listed. Raises `StoreError` if some of these are missing."""
    found = path.stat().st_size if path.is_file() else 0
    if found < size:
        raise StoreError(f"{path} is shorter than its list says. Delete it and the list beside it to start over.")
    if found > size:
        with writing_to(path):
            os.truncate(path, size)


def append(path: Path, features: Float[np.ndarray, "n d"]) -> None:
    with writing_to(path), path.open("ab") as file:
        file.write(np.ascontiguousarray(features, np.float32).tobytes())
        file.flush()
        os.fsync(file.fileno())
