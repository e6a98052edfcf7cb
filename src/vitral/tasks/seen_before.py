"""Which images of a split a model has seen in its training, by the table of its run."""

import os
from collections import Counter

import numpy as np

from vitral.base.errors import DataError
from vitral.data.dataset import Dataset, Split
from vitral.data.division import Division
from vitral.data.split_table import EARLIER, SplitName
from vitral.data.table_file import Report

DID: dict[SplitName, str] = {"train": "to train", "val": "to validate", "test": "as test images"}


def not_seen(data: Dataset, images: Split, split: SplitName, division: Division, name: str, report: Report) -> Split:
    """The images that were in the same split of the model's training, or in none.

    `division` is that of the training, `name` the model's. Raises `DataError` if none is left.
    """
    known = {row.group: row.split for row in division.known if row.group}
    known |= {row.content: row.split for row in division.known}
    row_of = {row.path: row for row in data.rows}
    rows = [row_of[os.path.relpath(file, data.name).replace(os.sep, "/")] for file in images.files]
    contents = [row.content for row in rows]
    had = [known.get(row.content) or (known.get(row.group) if row.group else None) for row in rows]
    left = np.array([index for index, one in enumerate(had) if one in (None, split)], dtype=int)
    own = {row.content for row in division.known if row.split == split and not row.path.startswith(EARLIER)}
    if division.only_known and (gone := own - set(contents)):
        report(f"{len(gone):,} {split} images of {name} are gone or have changed, and are not judged.")
    if len(left) == len(images):
        return images
    counts = Counter(one for one in had if one is not None and one != split)
    seen = " and ".join(f"{counts[one]:,} {did}" for one, did in DID.items() if counts[one])
    if not len(left):
        raise DataError(
            f"{name} has seen all {len(images):,} {split} images of {data.name}: {seen}. Specify images that it has "
            "not seen."
        )
    report(f"{name} has seen {sum(counts.values()):,} of {len(images):,} images: {seen}. The others are judged.")
    return images.only(left)
